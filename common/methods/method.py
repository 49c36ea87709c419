"""What a method says."""

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from common.config import MethodConfig

Direction = Literal["forward", "reverse"]


class Method:
    """The base: learning policies among themselves, nothing distilled.

    Attributes:
      directions: the directions that distillation events take in turn; empty if the method distils nothing, and then
        there is no phi either.
    """

    directions: tuple[Direction, ...] = ()

    def __init__(self, config: MethodConfig) -> None:
        self.config = config

    def learning(self, rng: np.random.Generator, players: int) -> NDArray[np.bool_]:
        """Draws v [N] at an episode's start: True for a player that a learning policy drives, False for phi."""
        del rng
        return np.ones(players, bool)
