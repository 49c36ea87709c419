"""MAPPO: learning policies play among themselves, with a centralised critic (Yu et al. 2022)."""

from methods.base import Method


class MAPPO(Method):
    """The base method unchanged: v_i = 1 for every player of every episode."""
