"""What produces the figures under `results/`: `sweeps`, `speed`, `stress` and `conventions`, a folder each.

A module belongs here if it starts runs or compares parts of the system. What a single run needs belongs to `deploy`;
what only reads existing results, without plans or trials, belongs to `reports`.
"""
