"""The ablations of the paper's Figure 1: BiDist less one of its parts.

The paper's text has two readings of its ablation v = 0: `NoFictitious` follows its conclusion, `AllFictitious` its
formula.
"""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from common.weights import PHI
from methods.base import Method
from methods.bidist import BiDist


class ForwardOnly(BiDist):
    """Forward distillation alone: phi follows theta and never leaves it."""

    directions = ("forward",)


class NoDistillation(BiDist):
    """No distillation: phi stays as it was drawn, independently of theta, and is played beside it all the same."""

    phi = "random"
    directions = ()


class NoFictitious(Method):
    """BiDist's distillation, but nobody plays phi: v_i = 1 for every player."""

    phi = "copy"
    directions = ("forward", "reverse")


class AllFictitious(NoFictitious):
    """Everybody plays phi: v_i = 0 for every player, and theta learns from what they did.

    The learner weighs each step by min(1, pi_theta / pi_phi), as it does with steps of an older theta.
    """

    def drivers(self, rng: np.random.Generator, players: int, pool: Mapping[str, float]) -> list[str]:
        """Everybody plays phi."""
        return [PHI] * players

    def training_mask(self, learning: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """The steps of phi."""
        return ~learning
