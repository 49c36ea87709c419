"""The measurements of `bidist bench`: rates of the system and its parts, costs of methods, peers side by side.

Ratios come from rounds in which both sides take turns on one machine.
"""
