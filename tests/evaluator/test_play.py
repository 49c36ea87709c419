"""The play loop: what drivers and observers are told, and when."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest

from common.spec import EnvironmentSpec
from environments import Observation
from environments.interface import Step
from evaluator.drivers import Random, by_race, uniform
from evaluator.play import Observer, OnStep, Seating, Table, play


@dataclass
class Countdown:
    """A game of two players that lasts as many steps as its seed says; its observations count them."""

    spec: EnvironmentSpec = field(default_factory=lambda: EnvironmentSpec("countdown", 2, 5, (0, 0, 3), 1))
    closed: bool = False

    def reset(self, seed: int | None = None) -> Observation:
        assert not self.closed
        self.length, self.t = seed or 1, 0
        return self._see()

    def step(self, action: Any) -> Step:
        self.t += 1
        assert self.t <= self.length
        return Step(
            self._see(), np.array(action, np.float32), self.t == self.length, statistics={"length": self.length}
        )

    def close(self) -> None:
        self.closed = True

    def _see(self) -> Observation:
        return Observation(np.zeros((2, 0, 0, 3), np.uint8), np.full((2, 1), self.t, np.float32), np.ones(2, bool))


class CountdownTable(Table[int, tuple[int, int, list[float], dict[str, float]]]):
    """Plays episodes of the lengths in its jobs."""

    game: Countdown

    def open(self, job: int) -> Observation:
        if not self.built:
            self.use(Countdown())
        self.seating = {"all": Seating(np.arange(2), np.random.default_rng(job))}
        return self.game.reset(job)

    def result(self) -> tuple[int, int, list[float], dict[str, float]]:
        return self.job, self.env_steps, self.returns.tolist(), self.statistics


@dataclass
class Always:
    """Takes one action in some seats."""

    seats: list[int]
    action: int
    began: list[tuple[int, int]] = field(default_factory=list)

    def begin(self, i: int, table: Table[Any, Any]) -> None:
        self.began.append((i, table.job))

    def act(self, tables: Mapping[int, Table[Any, Any]]) -> None:
        for table in tables.values():
            assert table.playing
            table.action[self.seats] = self.action


class Log(Observer):
    """Records what an observer sees."""

    def __init__(self) -> None:
        self.events: list[tuple[Any, ...]] = []

    def begin(self, table: Table[Any, Any]) -> None:
        self.events.append(("begin", table.job, float(table.observation.features[0, 0])))

    def step(self, table: Table[Any, Any], step: Step) -> None:
        seen, after = (float(o.features[0, 0]) for o in (table.observation, step.observation))
        self.events.append(("step", table.job, seen, table.action.tolist(), after))

    def end(self, table: Table[Any, Any]) -> None:
        self.events.append(("end", table.job, table.env_steps, table.returns.tolist()))


def test_observers_see_an_episode_from_its_first_observation_to_its_return() -> None:
    log = Log()
    list(play([CountdownTable(iter([2]))], [Always([0, 1], 4)], [log]))
    assert log.events == [
        ("begin", 2, 0.0),
        ("step", 2, 0.0, [4, 4], 1.0),
        ("step", 2, 1.0, [4, 4], 2.0),
        ("end", 2, 2, [8.0, 8.0]),
    ]


def test_tables_that_share_jobs_take_the_next_one_when_they_become_free() -> None:
    jobs, driver = iter([3, 1, 1, 2]), Always([0, 1], 0)
    tables = [CountdownTable(jobs), CountdownTable(jobs)]
    results = list(play(tables, [driver]))
    assert driver.began == [(0, 3), (1, 1), (1, 1), (1, 2)]
    assert [job for job, *_ in results] == [1, 1, 3, 2], "in the order in which they end"
    assert all(job == steps == statistics["length"] for job, steps, _, statistics in results)


def test_a_later_driver_overrides_an_earlier_one_and_seats_without_a_driver_do_nothing() -> None:
    first, second = Always([0], 3), Always([0], 1)
    assert [returns for _, _, returns, _ in play([CountdownTable(iter([2]))], [first, second])] == [[2.0, 0.0]]


def test_games_are_closed_when_play_ends_or_fails() -> None:
    def endless() -> Iterator[int]:
        while True:
            yield 2

    class Failure(Exception):
        pass

    def fail() -> None:
        raise Failure

    abandoned, failed, finished = (CountdownTable(jobs) for jobs in (endless(), iter([2]), iter([2])))
    episodes = play([abandoned], [])
    next(episodes)
    assert not abandoned.game.closed
    episodes.close()  # type: ignore[attr-defined]
    with pytest.raises(Failure):
        list(play([failed], [], [OnStep(fail)]))
    list(play([finished], []))
    assert all(table.game.closed and not table.built for table in (abandoned, failed, finished))


@pytest.mark.parametrize("draw", [uniform, by_race])
def test_random_players_take_all_actions_equally_often(draw: Any) -> None:
    log = Log()
    list(play([CountdownTable(iter([2000]))], [Random("all", draw)], [log]))
    actions = np.array([event[3] for event in log.events if event[0] == "step"])
    counts = np.array([np.bincount(seat, minlength=5) for seat in actions.T])
    assert (np.abs(counts - 400) < 4 * np.sqrt(400)).all()
    assert not np.array_equal(*actions.T)
