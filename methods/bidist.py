"""BiDist: learning policies beside distilled ones, distilled forward and in reverse in turn (arXiv 2505.11100)."""

from collections.abc import Mapping

import numpy as np
from pydantic import Field

from common.config import Section
from common.weights import PHI, THETA
from methods.base import Direction, Method, Start


class BiDist(Method):
    """Mixed play (eq. 1) over bidirectional distillation (eq. 2)."""

    class Settings(Section):
        """BiDist's own."""

        learning_probability: float = Field(0.5, ge=0.01, le=1)
        """p of v_i ~ Bernoulli(p), drawn for each player of each episode; redrawn when all are 0."""

    settings: Settings
    phi: Start | None = "copy"
    directions: tuple[Direction, ...] = ("forward", "reverse")

    def drivers(self, rng: np.random.Generator, players: int, pool: Mapping[str, float]) -> list[str]:
        """v_i ~ Bernoulli(p), drawn again when all are 0, for such an episode would teach nobody anything."""
        while True:
            learning = rng.random(players) < self.settings.learning_probability
            if learning.any():
                return [THETA if v else PHI for v in learning]
