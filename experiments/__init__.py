"""What produces the figures under `results/`: sweeps and searches over many runs, benchmarks, experiments.

A module belongs here if it starts runs, or measures parts of the system against one another. What a single run needs
belongs to `deploy`; what only reads what is there, without plans or trials, to `reports`.
"""
