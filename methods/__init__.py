"""The methods: one small file each, with what is specific to it, and their names.

A method decides who plays beside the learning policies, which network they have and what is minimised besides PPO's
loss. Whatever two methods share belongs to the actor, the learner or the distiller instead. To add one, write a
subclass of `Method` in its own file and add a line to `METHODS`; `docs/methods.md` walks through it.
"""

from methods.base import Method
from methods.registry import METHODS, make_method, resolve

__all__ = ["METHODS", "Method", "make_method", "resolve"]
