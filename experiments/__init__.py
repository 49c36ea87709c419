"""Many runs: sweeps over methods, games, seeds and settings, and searches for settings.

A file belongs here if it starts runs through the command line, or reads what many of them left behind. What a single
run needs belongs in `deploy`.
"""
