"""What a run survives: `bidist chaos` and `bidist bench flood` kill, stop, load and flood real processes.

Afterwards the ledger of the run must add up.
"""
