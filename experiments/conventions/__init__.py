"""A small game with five conventions, in which it can be counted whether strangers met in training help.

A module belongs here if it is part of `bidist conventions`.
"""
