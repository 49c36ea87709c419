"""Many runs, each trained and evaluated: sweeps over seeds and methods, hyperparameter searches, the paper's tables.

A module belongs here if it knows about plans or trials. The paper's plans are in `experiments/paper/`.
"""
