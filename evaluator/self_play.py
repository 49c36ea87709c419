"""Plays a population against itself, or random players, in the game it was trained in, without background players."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from torch import Tensor

import environments
from common import checkpoint
from common.checkpoint import Checkpoint
from common.config import Config, EnvironmentConfig
from common.errors import CheckpointError
from common.run_folder import RunFolder
from environments import Environment, Observation
from evaluator import play as loop
from evaluator.drivers import PopulationDriver, Random, policy_count
from evaluator.play import Driver, Seating, Table

ENVIRONMENTS = 4
ALL = "all"


@dataclass(frozen=True)
class Episode:
    """One episode.

    Attributes:
      episode: its number, from 0.
      env_steps: its length.
      returns: each player's undiscounted return, [N].
      statistics: what else the game counted, each the mean over players.
    """

    episode: int
    env_steps: int
    returns: list[float]
    statistics: dict[str, float]

    @property
    def mean_return(self) -> float:
        """The return per player."""
        return float(np.mean(self.returns))


def read_checkpoint(folder: RunFolder, name: str | None = None) -> Checkpoint:
    """Reads one of a run's checkpoints.

    Args:
      folder: the run's.
      name: the name of its folder in `checkpoints/`; None takes the newest complete one.

    Raises:
      CheckpointError: if there is no such checkpoint, or it is damaged.
    """
    if name is not None:
        return checkpoint.load(folder.checkpoints / name)
    found = checkpoint.newest(folder.checkpoints)
    if found is None:
        raise CheckpointError(f"{folder.checkpoints}: no complete checkpoint; a run writes its first after a minute")
    return found


def play(
    config: Config,
    theta: Mapping[str, Tensor] | None,
    episodes: int,
    seed: int,
    copies: int = ENVIRONMENTS,
) -> Iterator[Episode]:
    """Plays whole episodes and yields each as it ends; the same seed gives the same episodes, if the game allows it.

    Which copy of the game plays which episodes is decided in advance: handing them out as copies become free would
    favour short episodes.

    Args:
      config: the run's.
      theta: the learning policies, each of which plays its own players; None makes all players act uniformly at random.
      episodes: how many.
      seed: seeds the games and the draws of actions.
      copies: how many games are played at once, their players in one forward pass.

    Raises: what building the game raises.
    """
    rng = np.random.default_rng(seed)
    copies = min(copies, episodes)
    policies = 0 if theta is None else policy_count(theta)
    tables = [
        SelfPlayTable(range(i, episodes, copies), config.environment, int(game_seed), in_turn(i, policies, rng))
        for i, game_seed in enumerate(rng.integers(1, 2**32 - 1, copies))
    ]
    driver: Driver = Random(ALL) if theta is None else PopulationDriver(ALL, config, theta, copies, seed)
    return loop.play(tables, [driver])


Seat = Callable[[int], Seating]
"""Seats a population at all N seats of a table."""


def in_turn(table: int, policies: int, rng: np.random.Generator) -> Seat:
    """Lets P policies play the seats of all tables in turn, counted from table 0; P = 0 gives the seats none."""

    def seat(players: int) -> Seating:
        seats = np.arange(players)
        return Seating(seats, rng, (table * players + seats) % policies if policies else seats[:0])

    return seat


class SelfPlayTable(Table[int, Episode]):
    """A table at which one population plays all seats.

    Args:
      numbers: of the episodes to play.
      config: the game's section of the configuration.
      seed: the game's.
      seat: seats the population when an episode opens.
    """

    def __init__(self, numbers: Iterable[int], config: EnvironmentConfig, seed: int, seat: Seat) -> None:
        super().__init__(iter(numbers))
        self._config, self._seed, self._seat = config, seed, seat

    def open(self, job: int) -> Observation:
        """See `Table`."""
        if not self.built:
            self.use(self.build())
        self.seating = {ALL: self._seat(self.game.spec.players)}
        return self.game.reset()

    def result(self) -> Episode:
        """See `Table`."""
        return Episode(self.job, self.env_steps, self.returns.tolist(), self.statistics)

    def build(self) -> Environment:
        """Returns the game to be played."""
        return environments.build(self._config, self._seed)
