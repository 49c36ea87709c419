"""The methods: one small file each, with what is its own, and their names.

A method says who plays beside the learning policies, which network acts and which direction distillation takes next.
Whatever two methods have in common belongs to the actor, the learner or the distiller, not here. Adding one means a
file with a subclass of `Method` and a line in `METHODS`.
"""

import difflib

from common.config import MethodConfig
from common.errors import ConfigError
from common.methods.bidist import BiDist
from common.methods.mappo import MAPPO
from common.methods.method import Method

METHODS: dict[str, type[Method]] = {"bidist": BiDist, "mappo": MAPPO}

__all__ = ["METHODS", "Method", "method"]


def method(config: MethodConfig) -> Method:
    """The method that a configuration names.

    Raises:
      ConfigError: if there is none of that name.
    """
    if config.name not in METHODS:
        near = difflib.get_close_matches(config.name, METHODS, n=1)
        hint = f"did you mean {near[0]}? " if near else ""
        raise ConfigError(f"method.name={config.name!r}: {hint}the methods are {', '.join(METHODS)}")
    return METHODS[config.name](config)
