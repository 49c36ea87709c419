"""BiDist: learning policies play with distilled ones, distilled forward and in reverse in turn (arXiv 2505.11100)."""

from collections.abc import Mapping

import numpy as np
from pydantic import Field

from common.config import Section
from common.weights import PHI, THETA
from methods.base import Direction, Method, Start


class BiDist(Method):
    """Mixed play (eq. 1) over bidirectional distillation (eq. 2)."""

    class Settings(Section):
        """BiDist's own settings."""

        learning_probability: float = Field(0.5, ge=0.01, le=1)
        """p of v_i ~ Bernoulli(p), drawn for every player of every episode; redrawn if all are 0."""

    settings: Settings
    phi: Start | None = "copy"
    directions: tuple[Direction, ...] = ("forward", "reverse")

    def drivers(self, rng: np.random.Generator, players: int, pool: Mapping[str, float]) -> list[str]:
        """v_i ~ Bernoulli(p), redrawn if all are 0: theta would learn nothing from such an episode."""
        while True:
            learning = rng.random(players) < self.settings.learning_probability
            if learning.any():
                return [THETA if v else PHI for v in learning]
