"""A game that two groups of players see through different symmetries, after other-play (Hu et al. 2020).

In each episode the players fall into two groups, and each group sees the game through its own symmetry. A convention
that rests on the name of a colour breaks down: a player has to watch what the others do, and follow. All of them learn.
"""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from environments.interface import Environment, Observation, Step
from environments.symmetries import Symmetry, turn_colours


class OtherPlay:
    """Lets two groups of players see a game through different symmetries, or by chance through the same.

    Args:
      game: the game.
      known: its symmetries; each group draws one for each episode.
      share: probability that a player belongs to the second group.
      seed: of the draws.
    """

    def __init__(self, game: Environment, known: list[Symmetry], share: float, seed: int) -> None:
        self._game, self._share, self._rng = game, share, np.random.default_rng(seed)
        self.spec = game.spec
        self._colours, self._features, self._actions = (
            np.stack([getattr(symmetry, axis) for symmetry in known]) for axis in ("colours", "features", "actions")
        )
        self._drawn = np.zeros(game.spec.players, np.int64)

    def reset(self, seed: int | None = None) -> Observation:
        """See `Environment`."""
        if seed is not None:
            self._rng = np.random.default_rng(seed)
        second = self._rng.random(self.spec.players) < self._share
        self._drawn = self._rng.integers(len(self._colours), size=2)[second.astype(np.int64)]
        return self._seen(self._game.reset(seed))

    def step(self, action: NDArray[np.int32]) -> Step:
        """See `Environment`."""
        step = self._game.step(self._actions[self._drawn, action].astype(np.int32))
        return replace(step, observation=self._seen(step.observation))

    def close(self) -> None:
        """See `Environment`."""
        self._game.close()

    def _seen(self, observation: Observation) -> Observation:
        return observation._replace(
            rgb=turn_colours(observation.rgb, self._colours[self._drawn]),
            features=np.take_along_axis(observation.features, self._features[self._drawn], -1),
        )
