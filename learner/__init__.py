"""The learner: receives unrolls, updates theta, publishes it, keeps checkpoints and the ledger.

What belongs here is what only the learner does: batches, estimators, losses, the update.
"""
