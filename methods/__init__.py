"""The methods: one small file each, with what is its own, and their names.

A method says who plays beside the learning policies, which network they have and what is minimised besides PPO's loss.
Whatever two methods have in common belongs to the actor, the learner or the distiller, not here. Adding one means a
file with a subclass of `Method` and a line in `METHODS`; `docs/methods.md` does it step by step.
"""

from methods.base import Method
from methods.registry import METHODS, make_method, resolve

__all__ = ["METHODS", "Method", "make_method", "resolve"]
