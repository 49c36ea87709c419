"""The gauges that the learner keeps in Redis: its queue, its starvation, its progress."""

import logging
import math
import time
from collections.abc import Callable

from common.store import Store
from learner.feed import Feed
from learner.learner import Learner
from learner.timers import Every

log = logging.getLogger(__name__)

LOG_EVERY_S = 60.0
SHORTEST_S = 0.5
"""A rate over a shorter time says little; the next report measures it over a longer one."""


class Gauges:
    """Measures the learner from one report to the next.

    Args:
      store: the run's keys.
      learner: what is counted.
      feed: what waits.
      capacity: how many unrolls may wait.
      budget: the run's length in player steps.
      clock: the time in seconds, which never goes back.
    """

    def __init__(
        self,
        store: Store,
        learner: Learner,
        feed: Feed,
        capacity: int,
        budget: int,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store, self._learner, self._feed = store, learner, feed
        self._capacity, self._budget = capacity, budget
        self._waited_s = self._updated_s = 0.0
        self._clock = clock
        # The rate is measured from an update to a later one: a report may come while an update is under way.
        self._rate_since = self._updated_at = clock()
        self._steps_then, self._steps_measured = learner.player_steps, 0
        self._log = Every(LOG_EVERY_S)
        self.player_steps_per_s = 0.0

    def waited(self, seconds: float) -> None:
        """Counts time spent waiting for unrolls."""
        self._waited_s += seconds

    def updated(self, seconds: float) -> None:
        """Counts time spent on an update that has just ended."""
        self._updated_s += seconds
        self._updated_at = self._clock()

    def report(self, actors: int) -> None:
        """Writes all gauges for the time since the last report.

        Args:
          actors: how many are alive.
        """
        self._measure_rate()
        starvation, malformed = self._starvation(), self._feed.inbox.malformed
        self._store.put_queue(
            {
                "unrolls": self._feed.waiting,
                "capacity_unrolls": self._capacity,
                "malformed_messages": sum(malformed.values()),
                "malformed_reasons": ", ".join(f"{reason} {count}" for reason, count in sorted(malformed.items())),
                "bottleneck": bottleneck(actors, starvation),
            }
        )
        self._store.put_starvation(100 * (1.0 if starvation is None else starvation))
        self._waited_s = self._updated_s = 0.0
        self.progress("finishing" if self._learner.finished else "running")
        if self._log.due:
            self._log.restart()
            log.info(
                "update %d, %d of %d player steps, %.0f per second, return %.2f, %d actors",
                self._learner.updates,
                self._learner.player_steps,
                self._budget,
                self.player_steps_per_s,
                self._learner.episodes.means().get("return_learning", math.nan),
                actors,
            )

    def progress(self, state: str) -> None:
        """Writes how far the run has come, and its state: running, finishing, finished or stopped."""
        self._store.put_progress(
            {
                "state": state,
                "updates": self._learner.updates,
                "version": self._learner.version,
                "player_steps": self._learner.player_steps,
                "budget_player_steps": self._budget,
                "player_steps_per_s": round(self.player_steps_per_s),
                "episodes": self._learner.episodes.count,
            }
        )

    def _measure_rate(self) -> None:
        """Measures the rate up to the last update; a learner that makes none slows down towards 0."""
        if (measured_s := self._updated_at - self._rate_since) > SHORTEST_S:
            self._steps_measured = self._learner.player_steps - self._steps_then
            self.player_steps_per_s = self._steps_measured / measured_s
            self._rate_since, self._steps_then = self._updated_at, self._learner.player_steps
        if (since_s := self._clock() - self._rate_since) > SHORTEST_S:
            self.player_steps_per_s = min(self.player_steps_per_s, self._steps_measured / since_s)

    def _starvation(self) -> float | None:
        """The share of its time that the learner waited for unrolls; None if it got none."""
        busy = self._waited_s + self._updated_s
        return self._waited_s / busy if busy else None


def bottleneck(actors: int, starvation: float | None) -> str:
    """Describes who waits for whom.

    Args:
      actors: how many are alive.
      starvation: the share of its time that the learner waited for unrolls; None if it got none.
    """
    if not actors:
        return "the learner waits: there are no actors"
    if starvation is None:
        return "the learner waits for a whole batch"
    if starvation > 0.5:
        return f"the learner waits for actors {starvation:.0%} of its time: add actors"
    if starvation > 0.2:
        return f"nobody waits long: the learner is busy {1 - starvation:.0%} of its time"
    return f"the actors wait for the learner, which is busy {1 - starvation:.0%} of its time"
