"""Cross-play: some seats of a game are played by one population, the others by another.

All randomness of an episode derives from its number, its split and the seed of the evaluation: which seats are focal,
the game, which policies play and how they draw actions. So it does not matter which worker plays it, nor what is played
beside it; and every pair of populations plays the same games in the same seats, which makes comparisons sharper. The
games themselves may still not repeat to the last step.
"""

import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

import environments
from common.config import Config
from common.spec import EnvironmentSpec
from common.weights import THETA, Weights
from environments import Environment, Observation
from evaluator.workers import Person
from methods import make_method
from networks.players import Players

TABLES = 16
ONE, HALF, ALL = "one", "half", "all"


@dataclass(frozen=True)
class Match:
    """One episode to play.

    Attributes:
      focal, background: numbers of the two populations.
      split: how many seats are focal: `one`, `half` of them, or `all`, where no other population is met.
      episode: its number, from 0.
    """

    focal: int
    background: int
    split: str
    episode: int


@dataclass(frozen=True)
class Played:
    """One episode that was played.

    Attributes:
      match: what was to be played.
      focal_return, background_return: mean undiscounted return over the seats of each; None where there is no seat.
      env_steps: its length.
      seats: the focal ones, from 0.
    """

    match: Match
    focal_return: float
    background_return: float | None
    env_steps: int
    seats: list[int]


def splits(players: int) -> list[str]:
    """The splits of a game's seats that differ: with two players, half of them is one."""
    return [ONE, HALF] if players > 3 else [ONE]


def play(
    people: Sequence[Person],
    jobs: Iterable[Match],
    watch: Callable[[Any], None] | None = None,
    *,
    seed: int,
    tables: int = TABLES,
) -> Iterator[Played]:
    """Plays whole episodes and yields each as it ends.

    Every episode that is begun is finished, also when no more are taken, so short ones are not favoured.

    Args:
      people: the populations; all observe the same game alike.
      jobs: what to play; taken one by one as tables become free.
      watch: called with the game before each step.
      seed: of the evaluation.
      tables: episodes at once.
    """
    jobs = iter(jobs)
    hall = [_Table(people[0][0], seed) for _ in range(tables)]
    casts: dict[int, _Cast] = {}
    try:
        while True:
            for i, table in enumerate(hall):
                if table.playing is None and (match := next(jobs, None)) is not None:
                    table.begin(match)
                    for who in {match.focal, match.background}:
                        if who not in casts:
                            casts[who] = _Cast(table.spec, tables, *people[who])
                    for who, cast in casts.items():
                        cast.welcome(i, table, who)
            playing = {i: table for i, table in enumerate(hall) if table.playing is not None}
            if not playing:
                return
            if watch is not None:
                for table in playing.values():
                    watch(table.game)
            for who, cast in casts.items():
                cast.act(playing, who)
            for table in playing.values():
                if (played := table.step()) is not None:
                    yield played
    finally:
        for table in hall:
            table.close()


class _Table:
    """One copy of the game, and the episode that is played in it."""

    game: Environment
    observation: Observation

    def __init__(self, config: Config, seed: int) -> None:
        self._config, self._seed = config.environment, seed
        self._built = False
        self.playing: Match | None = None

    @property
    def spec(self) -> EnvironmentSpec:
        """The game's; there is none before the first episode."""
        return self.game.spec

    def begin(self, match: Match) -> None:
        """Begins an episode: draws its seats and starts the game anew."""
        seeds = np.random.SeedSequence([self._seed, zlib.crc32(match.split.encode()), match.episode]).spawn(4)
        game_seed = int(seeds[0].generate_state(1)[0])
        draw, background, focal = (np.random.default_rng(s) for s in seeds[1:])
        self.rng = {match.background: background, match.focal: focal}
        if not self._built:
            self.game, self._built = environments.build(self._config, game_seed), True
        self.observation = self.game.reset(max(1, game_seed))
        players = self.spec.players
        count = {ONE: 1, HALF: players // 2, ALL: players}[match.split]
        self.focal = np.zeros(players, bool)
        self.focal[draw.permutation(players)[:count]] = True
        self.action = np.zeros(players, np.int32)
        self._returns, self._env_steps = np.zeros(players), 0
        self.playing = match

    def seats(self, who: int) -> NDArray[np.bool_]:
        """The seats that a population plays, [N]."""
        if self.playing is None:
            return np.zeros(len(self.action), bool)
        return (self.focal & (who == self.playing.focal)) | (~self.focal & (who == self.playing.background))

    def step(self) -> Played | None:
        """Plays one step; returns the episode if it ended with it."""
        step = self.game.step(self.action)
        self.observation = step.observation
        self._returns += step.reward
        self._env_steps += 1
        if self.playing is None or not (step.terminated or step.truncated):
            return None
        others = self._returns[~self.focal]
        played = Played(
            self.playing, float(self._returns[self.focal].mean()), float(others.mean()) if len(others) else None,
            self._env_steps, np.flatnonzero(self.focal).tolist(),
        )  # fmt: skip
        self.playing = None
        return played

    def close(self) -> None:
        """Frees the game."""
        if self._built:
            self.game.close()


class _Cast:
    """A population at all tables; each of its seats draws one of its policies for each episode."""

    def __init__(self, spec: EnvironmentSpec, tables: int, config: Config, theta: Mapping[str, Tensor] | None) -> None:
        self._shape = (tables, spec.players)
        self._actions = spec.actions
        self._policy = np.full(self._shape, -1)
        self._players: Players | None = None
        self._policies = 1
        if theta is not None:
            self._policies = len(next(iter(theta.values())))
            rows = tables * spec.players
            self._players = Players(make_method(config).evaluation_network(spec, self._policies), rows, seed=0)
            self._players.load(THETA, Weights(0, theta))
        self._rgb = np.zeros((*self._shape, *spec.rgb_shape), np.uint8)
        self._features = np.zeros((*self._shape, spec.features), np.float32)
        self._race = np.ones((*self._shape, spec.actions))

    def welcome(self, i: int, table: _Table, who: int) -> None:
        """Takes its seats at a table where an episode begins, with empty memories."""
        was_here, mine = (self._policy[i] >= 0).any(), table.seats(who)
        self._policy[i] = -1
        if mine.any():
            self._policy[i, mine] = table.rng[who].integers(0, self._policies, mine.sum())
        if self._players is not None and (mine.any() or was_here):
            self._players.state.view(*self._shape, -1)[i] = 0
            if (self._policy >= 0).any():
                self._players.assign(self._policy.ravel())

    def act(self, playing: Mapping[int, _Table], who: int) -> None:
        """Chooses the actions of its seats."""
        own = {i: seats for i in playing if (seats := self._policy[i] >= 0).any()}
        if not own:
            return
        for i, seats in own.items():
            table = playing[i]
            self._race[i, seats] = table.rng[who].standard_exponential((seats.sum(), self._actions))
            self._rgb[i], self._features[i] = table.observation.rgb, table.observation.features
        if self._players is None:
            action = self._race.argmin(-1)
        else:
            rows = self._policy.size
            action = self._players.act(
                self._rgb.reshape(rows, *self._rgb.shape[2:]), self._features.reshape(rows, -1),
                self._race.reshape(rows, -1),
            )[0].reshape(self._shape)  # fmt: skip
        for i, seats in own.items():
            playing[i].action[seats] = action[i, seats]
