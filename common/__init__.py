"""The contracts between processes: what one of them writes and another reads, and the settings that all obey.

A module belongs here if it is such a contract and two processes need it; it is no place for helpers. Nothing here knows
a game, a network or a method, and nothing here imports another package of this project.
"""
