"""Repeated matrix games of two or more players: deterministic, without images, and learned in seconds."""

import numpy as np
from numpy.typing import NDArray

from common.spec import EnvironmentSpec
from environments.interface import Observation, Step

# payoff[a, b] is what action a earns against action b.
PAYOFFS: dict[str, NDArray[np.float32]] = {
    "matrix_coordination": np.eye(3, dtype=np.float32),
    "matrix_conventions": np.eye(5, dtype=np.float32),
    "matrix_prisoners_dilemma": np.array([[3, 0], [5, 1]], np.float32),
    "matrix_chicken": np.array([[3, 2], [5, 0]], np.float32),
}


class MatrixGame:
    """Every player meets every other at each step; the reward is the mean over those meetings.

    A player observes its last action, the share of the others that took each action, and whether the episode just
    began.

    Args:
      name: one of `PAYOFFS`.
      players: N, at least two.
      episode_length: steps after which an episode terminates.
    """

    def __init__(self, name: str, players: int, episode_length: int) -> None:
        self._payoff = PAYOFFS[name]
        self._episode_length = episode_length
        self._left = 0
        actions = len(self._payoff)
        self.spec = EnvironmentSpec(name, players, actions, (0, 0, 3), 2 * actions + 1)

    def reset(self, seed: int | None = None) -> Observation:
        """See `Environment`; nothing is random, so the seed is ignored."""
        del seed
        self._left = self._episode_length
        features = np.zeros((self.spec.players, self.spec.features), np.float32)
        features[:, -1] = 1
        return self._observation(features)

    def step(self, action: NDArray[np.int32]) -> Step:
        """See `Environment`."""
        self._left -= 1
        own = np.eye(self.spec.actions, dtype=np.float32)[action]
        others = (own.sum(0) - own) / max(self.spec.players - 1, 1)
        reward = np.einsum("na,ab,nb->n", own, self._payoff, others).astype(np.float32)
        features = np.concatenate([own, others, np.zeros((self.spec.players, 1), np.float32)], axis=1)
        return Step(self._observation(features), reward, terminated=self._left <= 0)

    def close(self) -> None:
        """See `Environment`."""

    def _observation(self, features: NDArray[np.float32]) -> Observation:
        n = self.spec.players
        return Observation(np.zeros((n, *self.spec.rgb_shape), np.uint8), features, np.ones(n, bool))
