"""How players see the game: as it is, or through one of its symmetries."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from environments.symmetries import Symmetry, turn_colours
from networks.players import Players


class Perspectives:
    """Applies each of E * N players' symmetry to its observations and actions.

    Unrolls hold the game as it is, for theta to learn from and phi to be distilled on.

    Args:
      known: the symmetries to draw from, the identity first; none if all players see the game as it is.
      shape: (E, N).
      rng: draws the symmetries.
    """

    def __init__(self, known: Sequence[Symmetry], shape: tuple[int, int], rng: np.random.Generator) -> None:
        self._known, self._rng = known, rng
        self._drawn = np.zeros(shape, np.int64)
        if known:
            self._colours, self._features, self._actions = (
                np.stack([getattr(symmetry, axis) for symmetry in known]) for axis in ("colours", "features", "actions")
            )

    def begin(self, environment: int, through: NDArray[np.bool_]) -> None:
        """Draws an episode's symmetry; `through` [N] says which players see the game through it."""
        if self._known:
            self._drawn[environment] = np.where(through, self._rng.integers(len(self._known)), 0)

    def act(
        self, players: Players, rgb: NDArray[np.uint8], features: NDArray[np.float32]
    ) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
        """Lets all players act.

        Args:
          players: those who act.
          rgb: [R, H, W, 3], the game as it is; R = E * N.
          features: [R, F].

        Returns: their actions in the game [R], and their log-probabilities [R].
        """
        turned = np.flatnonzero(self._drawn)  # symmetry 0 is the identity
        if not turned.size:
            return players.act(rgb, features)
        drawn = self._drawn.ravel()[turned]
        rgb, features = rgb.copy(), features.copy()
        rgb[turned] = turn_colours(rgb[turned], self._colours[drawn])
        features[turned] = np.take_along_axis(features[turned], self._features[drawn], -1)
        action, log_prob = players.act(rgb, features)
        action[turned] = self._actions[drawn, action[turned]]
        return action, log_prob
