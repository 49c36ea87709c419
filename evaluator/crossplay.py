"""Cross-play: one population plays some seats of a game, another plays the rest.

All randomness of an episode derives from its number, its split and the seed of the evaluation: which seats are focal,
the game, which policies play and how they draw actions. So it does not matter which worker plays it or what else is
being played, and every pair of populations plays the same games in the same seats, which sharpens comparisons. Even so,
games may not repeat to the last step.
"""

import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

import environments
from common.config import EnvironmentConfig
from environments import Observation
from evaluator import play as loop
from evaluator.drivers import PopulationDriver, Random, by_race, policy_count
from evaluator.play import Driver, Observer, Seating, Table
from evaluator.workers import Policies

TABLES = 16
ONE, HALF, ALL = "one", "half", "all"


@dataclass(frozen=True)
class Match:
    """One episode to play.

    Attributes:
      focal, background: the numbers of the two populations.
      split: how many seats are focal: `one`, `half`, or `all`, where there is no other population.
      episode: its number, from 0.
    """

    focal: int
    background: int
    split: str
    episode: int


@dataclass(frozen=True)
class MatchResult:
    """What is kept of one episode.

    Attributes:
      match: the episode that was played.
      focal_return, background_return: mean undiscounted return over the seats of each; None if it had no seat.
      env_steps: its length.
      seats: the focal seats, from 0.
    """

    match: Match
    focal_return: float
    background_return: float | None
    env_steps: int
    seats: list[int]


def splits(players: int) -> list[str]:
    """Returns the distinct splits of a game's seats: with two or three players, half of them is one."""
    return [ONE, HALF] if players > 3 else [ONE]


def play(
    populations: Sequence[Policies],
    jobs: Iterable[Match],
    seed: int,
    tables: int = TABLES,
    observers: Sequence[Observer] = (),
) -> Iterator[MatchResult]:
    """Plays whole episodes and yields the result of each as it ends.

    Args:
      populations: the populations; all must observe the game in the same way.
      jobs: what to play; taken one by one as tables become free.
      seed: of the evaluation.
      tables: episodes at once.
      observers: see every episode, step by step.
    """
    jobs = iter(jobs)
    policies = [1 if theta is None else policy_count(theta) for _, theta in populations]
    hall = [MatchTable(jobs, populations[0][0].environment, seed, policies) for _ in range(tables)]
    drivers: list[Driver] = [
        Random(i, by_race) if theta is None else PopulationDriver(i, config, theta, tables)
        for i, (config, theta) in enumerate(populations)
    ]
    return loop.play(hall, drivers, observers)


class MatchTable(Table[Match, MatchResult]):
    """A table at which two populations meet.

    Args:
      jobs: the episodes to play.
      config: the game's section of the configuration.
      seed: of the evaluation.
      policies: the number of policies of each population, from which each of its seats draws one.

    Attributes:
      focal: [N], which seats the focal population plays.
    """

    focal: NDArray[np.bool_]

    def __init__(self, jobs: Iterator[Match], config: EnvironmentConfig, seed: int, policies: Sequence[int]) -> None:
        super().__init__(jobs)
        self._config, self._seed, self._policies = config, seed, policies

    def open(self, job: Match) -> Observation:
        """See `Table`."""
        seeds = np.random.SeedSequence([self._seed, zlib.crc32(job.split.encode()), job.episode]).spawn(4)
        game_seed = int(seeds[0].generate_state(1)[0])
        draw, background, focal = (np.random.default_rng(s) for s in seeds[1:])
        if not self.built:
            self.use(environments.build(self._config, game_seed))
        players = self.game.spec.players
        self.focal = np.zeros(players, bool)
        self.focal[draw.permutation(players)[: {ONE: 1, HALF: players // 2, ALL: players}[job.split]]] = True
        population = np.where(self.focal, job.focal, job.background)
        rngs = {job.background: background, job.focal: focal}
        self.seating = {p: self._seat(p, np.flatnonzero(population == p), rng) for p, rng in rngs.items()}
        return self.game.reset(max(1, game_seed))

    def result(self) -> MatchResult:
        """See `Table`."""
        others = self.returns[~self.focal]
        return MatchResult(
            match=self.job,
            focal_return=float(self.returns[self.focal].mean()),
            background_return=float(others.mean()) if len(others) else None,
            env_steps=self.env_steps,
            seats=np.flatnonzero(self.focal).tolist(),
        )

    def _seat(self, population: int, seats: NDArray[np.int64], rng: np.random.Generator) -> Seating:
        return Seating(seats, rng, rng.integers(0, self._policies[population], len(seats)))
