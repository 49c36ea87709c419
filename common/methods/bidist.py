"""BiDist: learning policies beside distilled ones, distilled forward and in reverse in turn (arXiv 2505.11100)."""

import numpy as np
from numpy.typing import NDArray

from common.methods.method import Method


class BiDist(Method):
    """Mixed play (eq. 1) over bidirectional distillation (eq. 2)."""

    directions = ("forward", "reverse")

    def learning(self, rng: np.random.Generator, players: int) -> NDArray[np.bool_]:
        """v_i ~ Bernoulli(p), drawn again when all are 0, for such an episode would teach nobody anything."""
        while True:
            learning = rng.random(players) < self.config.learning_probability
            if learning.any():
                return learning
