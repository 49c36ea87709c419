"""How well a population does with a stranger who keeps a convention; part of the experiment in `experiment.py`."""

from collections import defaultdict
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from common.config import Config
from environments.interface import Step
from evaluator.drivers import PopulationDriver, policy_count
from evaluator.play import Driver, Observer, Seating, Table, play
from evaluator.self_play import ALL, SelfPlayTable

EPISODES = 50


def meet(
    config: Config, theta: Mapping[str, Tensor], stranger: int | None, seed: int
) -> tuple[float, NDArray[np.int32]]:
    """Plays episodes of theta with a stranger in seat 1, or with itself.

    Args:
      config: of theta's run; all episodes of its game are equally long.
      theta: the learning policies.
      stranger: the action that the stranger always takes; None seats theta there.
      seed: of the games and of theta's actions.

    Returns: the mean reward per step of seat 0, and its actions, [EPISODES, T].
    """
    rng, policies = np.random.default_rng(seed), policy_count(theta)

    def seat(players: int) -> Seating:
        return Seating(np.arange(players), rng, rng.integers(0, policies, players))

    tables = [SelfPlayTable([i], config.environment, seed + i, seat) for i in range(EPISODES)]
    drivers: list[Driver] = [PopulationDriver(ALL, config, theta, EPISODES, seed)]
    if stranger is not None:
        drivers.append(_Stranger(stranger))
    acts = _Acts()
    rewards = [episode.returns[0] / episode.env_steps for episode in play(tables, drivers, [acts])]
    return float(np.mean(rewards)), np.array([acts.of[table] for table in tables], np.int32)


class _Stranger:
    """Plays seat 1 in place of the population and always takes one action."""

    def __init__(self, action: int) -> None:
        self._action = action

    def begin(self, i: int, table: Table[Any, Any]) -> None:
        """A stranger remembers nothing."""

    def act(self, tables: Mapping[int, Table[Any, Any]]) -> None:
        """See `Driver`."""
        for table in tables.values():
            table.action[1] = self._action


class _Acts(Observer):
    """Keeps what seat 0 does, by table."""

    def __init__(self) -> None:
        self.of: dict[Table[Any, Any], list[int]] = defaultdict(list)

    def step(self, table: Table[Any, Any], step: Step) -> None:
        """See `Observer`."""
        self.of[table].append(int(table.action[0]))
