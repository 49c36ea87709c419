"""The ablations of the paper's Figure 1: BiDist without one of its parts.

The paper's ablation v = 0 can be read in two ways: `NoFictitious` follows its conclusion, `AllFictitious` its formula.
"""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from common.weights import PHI
from methods.base import Method
from methods.bidist import BiDist


class ForwardOnly(BiDist):
    """Forward distillation only: phi follows theta and is never pushed away from it."""

    directions = ("forward",)


class NoDistillation(BiDist):
    """No distillation: phi is initialised independently of theta and never moves, but still plays."""

    phi = "random"
    directions = ()


class NoFictitious(Method):
    """BiDist's distillation, but phi never plays: v_i = 1 for every player."""

    phi = "copy"
    directions = ("forward", "reverse")


class AllFictitious(NoFictitious):
    """phi drives every player: v_i = 0, and theta learns from phi's steps.

    The learner weights each step by min(1, pi_theta / pi_phi), as it does for the steps of an older theta.
    """

    def drivers(self, rng: np.random.Generator, players: int, pool: Mapping[str, float]) -> list[str]:
        """phi drives every player."""
        return [PHI] * players

    def training_mask(self, learning: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Trains on phi's steps."""
        return ~learning
