"""Plays a population among itself, or players who act at random, in the game it was trained in."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from common import environments
from common.config import Config
from common.players import Players
from common.store import Weights


@dataclass(frozen=True)
class Episode:
    """One episode: its length in environment steps, each player's return [N], and what the game counted."""

    env_steps: int
    returns: list[float]
    statistics: dict[str, float]

    @property
    def mean_return(self) -> float:
        """Return per player."""
        return float(np.mean(self.returns))


Act = Callable[[environments.Observation], NDArray[np.int32]]


def play(config: Config, theta: Mapping[str, Tensor] | None, episodes: int, seed: int) -> Iterator[Episode]:
    """Plays whole episodes, one after the other.

    Args:
      config: the run's.
      theta: the learning policies, which then drive all players; None lets every player act uniformly at random.
      episodes: how many.
      seed: seeds the game and the draw of actions.

    Raises: what building the game raises.
    """
    environment = environments.build(config.environment, seed)
    spec = environment.spec
    rng = np.random.default_rng(seed)
    players = None
    if theta is not None:
        per_player = config.network.parameters == "per_player"
        policies = spec.players if per_player else 1
        players = Players(spec, config.network, policies, distilled=False, rows=spec.players, seed=seed)
        players.load_theta(Weights(0, theta))
        order = np.arange(spec.players) if per_player else np.zeros(spec.players, np.int64)
        players.assign(order, np.ones(spec.players, bool))

    def act(observation: environments.Observation) -> NDArray[np.int32]:
        if players is None:
            return rng.integers(0, spec.actions, spec.players).astype(np.int32)
        return players.act(observation.rgb, observation.features)[0]

    try:
        for _ in range(episodes):
            if players is not None:
                players.state = torch.zeros_like(players.state)
            yield _episode(environment, act)
    finally:
        environment.close()


def _episode(environment: environments.Environment, act: Act) -> Episode:
    observation = environment.reset()
    returns, env_steps = np.zeros(environment.spec.players), 0
    while True:
        step = environment.step(act(observation))
        returns += step.reward
        env_steps += 1
        if step.terminated or step.truncated:
            return Episode(env_steps, returns.tolist(), step.statistics)
        observation = step.observation
