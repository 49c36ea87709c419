"""The learner: receives unrolls, updates theta and publishes it, keeps checkpoints and the ledger.

`service.py` is the process and its loop, `learner.py` the update; `preparation.py`, `objective.py`, `ppo.py` and
`returns.py` are its mathematics. Only what the learner alone does belongs here.
"""
