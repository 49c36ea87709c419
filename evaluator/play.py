"""The evaluator's play loop: steps several games in lock-step, so that each driver acts in all of them at once.

A table is one copy of a game. Drivers choose the actions at its seats: a population, random players, Melting Pot's
bots. Observers see what happens: they count, film or collect. Scenarios, self-play and cross-play differ only in how
their tables open an episode and in what they report of it. The shape is that of Acme's `environment_loop.py`.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from environments import Environment, Observation
from environments.interface import Step

Job = TypeVar("Job")
Result = TypeVar("Result")


@dataclass(frozen=True)
class Seating:
    """What one driver plays in one episode.

    Attributes:
      seats: [S], the numbers of its seats, from 0.
      rng: draws its actions.
      policy_index: [S], which of the driver's policies plays each seat; empty if the driver has no policies.
    """

    seats: NDArray[np.int64]
    rng: np.random.Generator
    policy_index: NDArray[np.int64] = field(default_factory=lambda: np.empty(0, np.int64))


class Table(ABC, Generic[Job, Result]):
    """One copy of a game and the episode being played in it.

    Args:
      jobs: what to play, one episode each; tables that share an iterator take the next job as they become free.

    Attributes:
      game: the game; built when the first episode opens.
      built: whether `game` is there.
      job: the current one.
      playing: whether an episode is in progress.
      seating: the seats of each driver, by the driver's name.
      observed: the seats that `observation` has rows for.
      observation: what they see now.
      action: [N], filled in by the drivers; seats without a driver do nothing, which is action 0.
      reward: [N], of the last step; zeros when an episode begins.
      returns: [N], undiscounted, of the episode so far.
      env_steps: length of the episode so far.
      statistics: what else the game counted, from the last step of an episode on.
    """

    game: Environment
    job: Job
    seating: Mapping[Hashable, Seating]
    observation: Observation
    action: NDArray[np.int32]
    reward: NDArray[np.float32]
    returns: NDArray[np.float64]
    observed: Sequence[int] | slice = slice(None)

    def __init__(self, jobs: Iterator[Job]) -> None:
        self._jobs = jobs
        self.built = False
        self.playing = False
        self.env_steps = 0
        self.statistics: dict[str, float] = {}

    @abstractmethod
    def open(self, job: Job) -> Observation:
        """Starts the episode of a job: builds or resets the game, sets `seating`, and returns the first observation."""

    @abstractmethod
    def result(self) -> Result:
        """Returns what is reported of the episode that has just ended."""

    def use(self, game: Environment) -> None:
        """Replaces the game."""
        self.close()
        self.game, self.built = game, True

    def begin(self) -> bool:
        """Starts the next job if the table is free; returns whether an episode began."""
        if self.playing or (job := next(self._jobs, None)) is None:
            return False
        self.job = job
        self.observation = self.open(job)
        players = self.game.spec.players
        self.action, self.returns = np.zeros(players, np.int32), np.zeros(players)
        self.reward = np.zeros(players, np.float32)
        self.env_steps, self.statistics, self.playing = 0, {}, True
        return True

    def advance(self, step: Step) -> None:
        """Takes in the outcome of a step."""
        self.observation = step.observation
        self.reward = step.reward
        self.returns += step.reward
        self.env_steps += 1
        self.statistics = step.statistics
        self.playing = not (step.terminated or step.truncated)

    def close(self) -> None:
        """Frees the game, if there is one."""
        if self.built:
            self.game.close()
            self.built = False


class Driver(Protocol):
    """Chooses the actions of some seats at all tables."""

    def begin(self, i: int, table: Table[Any, Any]) -> None:
        """Prepares for an episode that begins at table number i."""

    def act(self, tables: Mapping[int, Table[Any, Any]]) -> None:
        """Writes the actions of its seats to `table.action`, for each table with an episode in progress."""


class Observer:
    """Watches episodes; the methods of this base class do nothing."""

    def begin(self, table: Table[Any, Any]) -> None:
        """Called when an episode has begun."""

    def step(self, table: Table[Any, Any], step: Step) -> None:
        """Called after each step; `table.observation` and `table.action` are still those that led to it."""

    def end(self, table: Table[Any, Any]) -> None:
        """Called when an episode has ended, with its final returns and length."""


class OnStep(Observer):
    """Calls a function after each step of each game."""

    def __init__(self, call: Callable[[], None]) -> None:
        self._call = call

    def step(self, table: Table[Any, Any], step: Step) -> None:
        """See `Observer`."""
        self._call()


def play(
    tables: Sequence[Table[Any, Result]], drivers: Sequence[Driver], observers: Sequence[Observer] = ()
) -> Iterator[Result]:
    """Plays until the jobs run out and yields the result of each episode as it ends.

    Every episode that has begun is finished, even when there are no more jobs, so short episodes are not favoured.

    Args:
      tables: the games; closed at the end.
      drivers: act in this order; a later one overrides an earlier one.
      observers: see every episode, step by step.

    Raises: what building a game raises.
    """
    try:
        while True:
            for i, table in enumerate(tables):
                if table.begin():
                    for driver in drivers:
                        driver.begin(i, table)
                    for observer in observers:
                        observer.begin(table)
            playing = {i: table for i, table in enumerate(tables) if table.playing}
            if not playing:
                return
            for driver in drivers:
                driver.act(playing)
            for table in playing.values():
                step = table.game.step(table.action)
                for observer in observers:
                    observer.step(table, step)
                table.advance(step)
                if not table.playing:
                    for observer in observers:
                        observer.end(table)
                    yield table.result()
    finally:
        for table in tables:
            table.close()
