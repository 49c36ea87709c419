"""A small game with five conventions, for measuring whether meeting strangers in training helps.

A module belongs here if it is part of `bidist conventions`.
"""
