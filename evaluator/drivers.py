"""Who chooses actions in the play loop: populations of policies, and players who act at random."""

from collections.abc import Callable, Hashable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from common.config import Config
from common.spec import EnvironmentSpec
from common.weights import THETA, Weights
from evaluator.play import Table
from methods import make_method
from networks.players import Players


def policy_count(theta: Mapping[str, Tensor]) -> int:
    """Returns P, the number of policies in a set of parameters."""
    return len(next(iter(theta.values())))


def make_players(
    config: Config, theta: Mapping[str, Tensor], spec: EnvironmentSpec, rows: int, seed: int = 0
) -> Players:
    """Makes R players for a run's learning policies; `assign` then says which policy drives which player."""
    players = Players(make_method(config).evaluation_network(spec, policy_count(theta)), rows, seed)
    players.load(THETA, Weights(0, theta))
    return players


class PopulationDriver:
    """Seats played by the policies of one population, at all tables in one forward pass.

    Memories are cleared at the start of each episode.

    Args:
      name: the key of its seats in `Table.seating`.
      config: of its run.
      theta: its learning policies.
      tables: how many tables there are.
      seed: seeds one generator that draws the actions at all tables. None draws each table's actions from its seating's
        own generator, so that an episode does not depend on what is played beside it.
    """

    def __init__(
        self, name: Hashable, config: Config, theta: Mapping[str, Tensor], tables: int, seed: int | None = None
    ) -> None:
        self._name, self._config, self._theta, self._tables, self._seed = name, config, theta, tables, seed
        self._players: Players | None = None

    def begin(self, i: int, table: Table[Any, Any]) -> None:
        """Takes its seats at a table."""
        own = table.seating.get(self._name)
        if self._players is None:
            if own is None or not len(own.seats):
                return
            self._prepare(table.game.spec)
        assert self._players is not None
        row = np.full(self._policy_index.shape[1], -1)
        if own is not None:
            row[own.seats] = own.policy_index
        self._players.state.view(*self._policy_index.shape, -1)[i] = 0
        if (row != self._policy_index[i]).any():
            self._policy_index[i] = row
            if (self._policy_index >= 0).any():
                self._players.assign(self._policy_index.ravel())

    def act(self, tables: Mapping[int, Table[Any, Any]]) -> None:
        """Chooses the actions of its seats."""
        own = {i: t.seating[self._name] for i, t in tables.items() if self._name in t.seating}
        own = {i: seating for i, seating in own.items() if len(seating.seats)}
        if self._players is None or not own:
            return
        for i, seating in own.items():
            table = tables[i]
            self._rgb[i, table.observed] = table.observation.rgb
            self._features[i, table.observed] = table.observation.features
            if self._seed is None:
                shape = len(seating.seats), self._race.shape[-1]
                self._race[i, seating.seats] = seating.rng.standard_exponential(shape)
        rows = self._policy_index.size
        action, _ = self._players.act(
            self._rgb.reshape(rows, *self._rgb.shape[2:]),
            self._features.reshape(rows, self._features.shape[-1]),
            self._race.reshape(rows, -1) if self._seed is None else None,
        )
        action = action.reshape(self._policy_index.shape)
        for i, seating in own.items():
            tables[i].action[seating.seats] = action[i, seating.seats]

    def _prepare(self, spec: EnvironmentSpec) -> None:
        shape = self._tables, spec.players
        rows = self._tables * spec.players
        self._players = make_players(self._config, self._theta, spec, rows, self._seed or 0)
        self._policy_index = np.full(shape, -1)
        self._rgb = np.zeros((*shape, *spec.rgb_shape), np.uint8)
        self._features = np.zeros((*shape, spec.features), np.float32)
        self._race = np.ones((*shape, spec.actions))


Draw = Callable[[np.random.Generator, int, int], NDArray[np.int32]]


def uniform(rng: np.random.Generator, seats: int, actions: int) -> NDArray[np.int32]:
    """Draws one of A actions for each of S seats, all equally likely: [S]."""
    return rng.integers(0, actions, seats, np.int32)


def by_race(rng: np.random.Generator, seats: int, actions: int) -> NDArray[np.int32]:
    """As `uniform`, by as many draws as a population makes: the argmin of A exponential variables."""
    action: NDArray[np.int32] = rng.standard_exponential((seats, actions)).argmin(-1).astype(np.int32)
    return action


class Random:
    """Seats that act uniformly at random.

    Args:
      name: the key of its seats in `Table.seating`.
      draw: draws the actions.
    """

    def __init__(self, name: Hashable, draw: Draw = uniform) -> None:
        self._name, self._draw = name, draw

    def begin(self, i: int, table: Table[Any, Any]) -> None:
        """Random players remember nothing."""

    def act(self, tables: Mapping[int, Table[Any, Any]]) -> None:
        """Draws the actions of its seats."""
        for table in tables.values():
            if (own := table.seating.get(self._name)) is not None:
                table.action[own.seats] = self._draw(own.rng, len(own.seats), table.game.spec.actions)
