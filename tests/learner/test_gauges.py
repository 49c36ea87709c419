"""How the learner describes what limits the run's speed, and how it measures that speed."""

from pathlib import Path

import pytest
from learner_runs import configuration, learning

from common.store import Store
from learner.gauges import Gauges, bottleneck


def test_the_bottleneck_is_described() -> None:
    assert bottleneck(0, None) == "the learner waits: there are no actors"
    assert bottleneck(2, None) == "the learner waits for a whole batch"
    assert bottleneck(2, 0.8) == "the learner waits for actors 80% of its time: add actors"
    assert bottleneck(2, 0.42) == "nobody waits long: the learner is busy 58% of its time"
    assert bottleneck(2, 0.15) == "the actors wait for the learner, which is busy 85% of its time"


class Clocked:
    """Gauges with a clock that only the test moves, of a learner whose steps only the test counts."""

    def __init__(self, store: Store, folder: Path) -> None:
        self._now = 1000.0
        with learning(store, configuration(store, folder)) as service:
            self._learner = service.learner
            self._gauges = Gauges(store, service.learner, service.feed, 8, 100_000, clock=lambda: self._now)

    def report_after(self, seconds: float) -> float:
        """The rate that a report gives when so much time has passed."""
        self._now += seconds
        self._gauges.report(actors=1)
        return self._gauges.player_steps_per_s

    def update_after(self, seconds: float, player_steps: int) -> None:
        self._now += seconds
        self._learner.player_steps += player_steps
        self._gauges.updated(seconds)


@pytest.fixture
def clocked(store: Store, tmp_path: Path) -> Clocked:
    return Clocked(store, tmp_path)


def test_the_rate_spans_updates_that_take_longer_than_the_time_between_reports(clocked: Clocked, store: Store) -> None:
    assert clocked.report_after(2) == 0, "no update yet"
    clocked.update_after(13, 3000)
    assert clocked.report_after(0) == 200
    for _ in range(3):
        assert [clocked.report_after(2) for _ in range(5)] == [200] * 5
        clocked.update_after(5, 3000)
        assert clocked.report_after(0.1) == 200
        clocked.update_after(14.9, 3000)
        assert clocked.report_after(0) == 200
    assert store.client.hget(store.key("progress"), "player_steps_per_s") == b"200"


def test_the_rate_is_of_all_updates_since_the_last_measurement(clocked: Clocked) -> None:
    for _ in range(4):
        clocked.update_after(0.5, 100)
    assert clocked.report_after(0) == 200
    clocked.update_after(0.4, 400)
    assert clocked.report_after(0) == 200, "too short to say anything"
    clocked.update_after(0.6, 100)
    assert clocked.report_after(0.3) == 500


def test_the_rate_of_a_learner_that_makes_no_update_falls(clocked: Clocked) -> None:
    clocked.update_after(10, 3000)
    assert clocked.report_after(0) == 300
    assert clocked.report_after(10) == 300, "the next update may still be as fast"
    assert clocked.report_after(10) == 150
    assert clocked.report_after(10) == 100
    clocked.update_after(10, 3000)
    assert clocked.report_after(0) == 75
