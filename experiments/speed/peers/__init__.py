"""Other training systems, measured beside this one: Sample Factory and RLlib.

`sample_factory.py` and `rllib.py` run in environments of their own, which `installation.py` makes; there they import
only `common`, `environments` and their neighbours here. A module belongs here if it runs or describes another system.
"""
