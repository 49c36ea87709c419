"""Plays a population among itself, or random players, in the game it was trained in, without background players."""

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

import environments
from common import checkpoint
from common.checkpoint import Checkpoint
from common.config import Config
from common.errors import CheckpointError
from common.run_folder import RunFolder
from common.spec import EnvironmentSpec
from common.weights import THETA, Weights
from environments import Environment, Observation
from methods import make_method
from networks.players import Players

ENVIRONMENTS = 4


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
        """Return per player."""
        return float(np.mean(self.returns))


def read_checkpoint(folder: RunFolder, name: str | None = None) -> Checkpoint:
    """Reads one of a run's checkpoints.

    Args:
      folder: the run's.
      name: the name of its folder in `checkpoints/`; None takes the newest whole one.

    Raises:
      CheckpointError: if there is no such checkpoint, or it is damaged.
    """
    if name is not None:
        return checkpoint.load(folder.checkpoints / name)
    found = checkpoint.newest(folder.checkpoints)
    if found is None:
        raise CheckpointError(f"{folder.checkpoints}: no whole checkpoint; a run writes its first after a minute")
    return found


def play(
    config: Config,
    theta: Mapping[str, Tensor] | None,
    episodes: int,
    seed: int,
    copies: int = ENVIRONMENTS,
) -> Iterator[Episode]:
    """Plays whole episodes and yields each as it ends; the same seed gives the same ones, where the game allows it.

    Which copy of the game plays which episodes is settled beforehand: taking those that end first would favour the
    short ones.

    Args:
      config: the run's.
      theta: the learning policies, which then drive all players, each its own; None lets every player act uniformly
        at random.
      episodes: how many.
      seed: seeds the games and the draw of actions.
      copies: how many games are played at once, their players in one forward pass.

    Raises: what building the game raises.
    """
    rng = np.random.default_rng(seed)
    copies = min(copies, episodes)
    with contextlib.ExitStack() as stack:
        tables = []
        for i, game_seed in enumerate(rng.integers(1, 2**32 - 1, copies)):
            game = environments.build(config.environment, int(game_seed))
            stack.callback(game.close)
            tables.append(_Table(game, range(i, episodes, copies)))
        if not tables:
            return
        spec = tables[0].spec
        acting = _Random(spec, copies, rng) if theta is None else _Population(spec, copies, config, theta, seed)
        while any(table.playing for table in tables):
            action = acting.act([table.observation for table in tables])
            for i, table in enumerate(tables):
                if table.playing and (episode := table.step(action[i])) is not None:
                    acting.forget(i)
                    yield episode


class _Table:
    """One copy of the game, and the numbers of the episodes that are played in it."""

    def __init__(self, game: Environment, numbers: range) -> None:
        self.spec = game.spec
        self._game, self._numbers = game, list(reversed(numbers))
        self._returns = np.zeros(game.spec.players)
        self._env_steps = 0
        self.observation: Observation = game.reset()

    @property
    def playing(self) -> bool:
        """Whether an episode is under way."""
        return bool(self._numbers)

    def step(self, action: NDArray[np.int32]) -> Episode | None:
        """Plays one step; returns the episode if it ended with it, and begins the next."""
        step = self._game.step(action)
        self._returns += step.reward
        self._env_steps += 1
        if not (step.terminated or step.truncated):
            self.observation = step.observation
            return None
        episode = Episode(self._numbers.pop(), self._env_steps, self._returns.tolist(), step.statistics)
        if self._numbers:
            self.observation = self._game.reset()
            self._returns[:] = 0
            self._env_steps = 0
        return episode


class _Random:
    """Everybody acts uniformly at random."""

    def __init__(self, spec: EnvironmentSpec, copies: int, rng: np.random.Generator) -> None:
        self._rng, self._actions, self._shape = rng, spec.actions, (copies, spec.players)

    def act(self, observations: list[Observation]) -> NDArray[np.int32]:
        """Actions [copies, N]."""
        del observations
        return self._rng.integers(0, self._actions, self._shape, dtype=np.int32)

    def forget(self, i: int) -> None:
        """Nothing was remembered."""


class _Population:
    """Every slot is played by its learning policy."""

    def __init__(
        self, spec: EnvironmentSpec, copies: int, config: Config, theta: Mapping[str, Tensor], seed: int
    ) -> None:
        self._shape = (copies, spec.players)
        rows, policies = copies * spec.players, len(next(iter(theta.values())))
        self._players = Players(make_method(config).evaluation_network(spec, policies), rows, seed)
        self._players.load(THETA, Weights(0, theta))
        self._players.assign(np.arange(rows) % policies)

    def act(self, observations: list[Observation]) -> NDArray[np.int32]:
        """Actions [copies, N]."""
        rgb = np.concatenate([observation.rgb for observation in observations])
        features = np.concatenate([observation.features for observation in observations])
        return self._players.act(rgb, features)[0].reshape(self._shape)

    def forget(self, i: int) -> None:
        """Empties the memory of everybody at a table."""
        self._players.state.view(*self._shape, -1)[i] = 0
