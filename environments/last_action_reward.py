"""Appends each player's last action and reward to its observation.

Without them a policy cannot tell what an interaction earned. In Melting Pot's scenarios a focal policy gets its reward
with every timestep, so the same inputs are available in training and in evaluation.
"""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from common.spec import EnvironmentSpec
from environments.interface import Environment, Observation, Step


def spec_with_last(spec: EnvironmentSpec) -> EnvironmentSpec:
    """Returns the spec of a game whose features end with the last action and reward."""
    return replace(spec, features=spec.features + spec.actions + 1)


def observe_last(
    observation: Observation,
    actions: int,
    action: NDArray[np.int32] | None = None,
    reward: NDArray[np.float32] | None = None,
) -> Observation:
    """Appends the last action, one-hot, and the last reward to the features: [N, F] -> [N, F + A + 1].

    Args:
      observation: of N players.
      actions: A.
      action: [N], their last actions; None at the start of an episode, which gives zeros.
      reward: [N], what they earned by them.
    """
    players = len(observation.features)
    last = np.zeros((players, actions + 1), np.float32)
    if action is not None:
        last[np.arange(players), action] = 1
        last[:, -1] = reward
    return observation._replace(features=np.concatenate([observation.features, last], axis=1))


class WithLast:
    """A game whose players also observe their last action and reward; see `observe_last`."""

    def __init__(self, game: Environment) -> None:
        self._game = game
        self.spec = spec_with_last(game.spec)

    def reset(self, seed: int | None = None) -> Observation:
        """See `Environment`."""
        return observe_last(self._game.reset(seed), self.spec.actions)

    def step(self, action: NDArray[np.int32]) -> Step:
        """See `Environment`."""
        step = self._game.step(action)
        return replace(step, observation=observe_last(step.observation, self.spec.actions, action, step.reward))

    def close(self) -> None:
        """See `Environment`."""
        self._game.close()
