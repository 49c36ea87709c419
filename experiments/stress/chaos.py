"""`bidist chaos`: kills and stops everything in a real run, in random order, and checks the ledger at the end.

A run of a small matrix game trains, under `bidist train` or in containers, while every few seconds an actor, the
learner, the distiller or Redis is killed or stopped for a while. What is hit and when derives from a seed.
"""

import contextlib
import math
import random
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import redis

from common.errors import BidistError
from common.ledger import Balance
from common.weights import PHI, THETA
from deploy.supervisor import FAST_DEATHS, FAST_DEATHS_S
from experiments.stress.containers import containers
from experiments.stress.targets import CHECKPOINT_S, START_S, VICTIMS, Target, ledger_problems, processes
from reports.provenance import write_json

PAUSE_S, STOP_S = (0.5, 3.0), (0.5, 6.0)
SETTLE_S, NEWEST = 120.0, 1000


@dataclass(frozen=True)
class Fault:
    """The next fault: its victim, and for how long that is stopped; None kills it."""

    victim: str
    stopped_s: float | None
    pause_s: float


def faults(seed: int) -> Iterator[Fault]:
    """Yields faults without end; the same seed yields the same ones."""
    rng = random.Random(seed)
    while True:
        stopped_s = rng.uniform(*STOP_S) if rng.random() < 0.3 else None
        yield Fault(rng.choice(VICTIMS), stopped_s, rng.uniform(*PAUSE_S))


@dataclass
class Report:
    """The faults injected into a run, and how it fared."""

    seed: int
    seconds: float
    kills: Counter[str] = field(default_factory=Counter)
    stops: Counter[str] = field(default_factory=Counter)
    spared: int = 0
    """Faults that were skipped: their victim was not up, or would have died too often for the supervisor."""
    learners: int = 0
    updates: int = 0
    theta_version: int = 0
    phi_version: int = 0
    versions_went_back: int = 0
    """Of theta or phi."""
    longest_rewind_s: float = 0.0
    """The most training time that a learner's death cost, excluding the last update."""
    longest_rewind: list[dict[str, float]] = field(default_factory=list)
    """The updates that it cost, the newest first, with their seconds."""
    unrolls_in_checkpoint: int = 0
    ledger: dict[str, Any] = field(default_factory=dict)
    exit_status: int | None = None

    @property
    def problems(self) -> list[str]:
        """Every promise that was broken, in words."""
        balance = Balance(**{"reasons": {}, **self.ledger})
        found = {
            f"{balance.produced - balance.accounted} unrolls are unaccounted for": not balance.holds,
            **ledger_problems(self.ledger, self.unrolls_in_checkpoint),
            f"a version went back {self.versions_went_back} times": self.versions_went_back > 0,
            f"the learner went back {self.longest_rewind_s:.1f} s, with a checkpoint every {CHECKPOINT_S} s": (
                self.longest_rewind_s > CHECKPOINT_S
            ),
            f"the run ended with status {self.exit_status}": self.exit_status != 0,
        }
        return [text for text, broken in found.items() if broken]

    def record(self) -> dict[str, Any]:
        """Returns the report as plain values."""
        counts = {"kills": dict(self.kills), "stops": dict(self.stops), "total": self.total}
        return {**vars(self), **counts, "problems": self.problems}

    @property
    def total(self) -> dict[str, int]:
        """All kills, and all stops."""
        return {"kills": sum(self.kills.values()), "stops": sum(self.stops.values())}


def run(seconds: float, seed: int, out: Path | None, say: Callable[[str], None], compose: Path | None = None) -> Report:
    """Runs the experiment.

    Args:
      seconds: for how long faults are injected.
      seed: of the faults.
      out: where the report is written, as JSON.
      say: called with a line of progress after every fault.
      compose: the compose file of a run in containers; None for a run under `bidist train`.
    """
    report = Report(seed, seconds)
    with processes() if compose is None else containers(compose) as target:
        chaos = Chaos(target, report, say)
        chaos.until(lambda: chaos.updates() > 3, START_S, "the run to train")
        chaos.inject_faults()
        chaos.settle()
        report.exit_status = target.end()
        balance, report.unrolls_in_checkpoint, report.updates = target.stock()
    report.ledger = {**asdict(balance), "reasons": dict(balance.reasons)}
    if out is not None:
        write_json(out, report.record())
    return report


class Chaos:
    """Injects faults into a run that trains.

    Args:
      target: the run.
      report: where everything is recorded.
      say: called with a line of progress after every fault.
    """

    def __init__(self, target: Target, report: Report, say: Callable[[str], None]) -> None:
        self._target, self._store, self._report, self._say = target, target.store, report, say
        self._recent: dict[str, deque[float]] = {victim: deque(maxlen=FAST_DEATHS - 2) for victim in VICTIMS}
        self._learner, self._rewound_at = "", 0.0

    def inject_faults(self) -> None:
        """Injects faults until the time is over."""
        started = time.monotonic()
        for fault in faults(self._report.seed):
            elapsed = time.monotonic() - started
            if elapsed > self._report.seconds:
                return
            if (status := self._target.ended()) is not None:
                raise BidistError(f"the run ended with status {status} after {elapsed:.0f} s")
            self._inject(fault)
            self._look()
            total = self._report.total
            how = f"{'stop' if fault.stopped_s else 'kill'} {fault.victim:<9}"
            self._say(
                f"{elapsed:4.0f} s of {self._report.seconds:.0f} s  {how}  {total['kills']} kills, {total['stops']} "
                f"stops, {self._report.updates} updates, version {self._report.theta_version}"
            )
            time.sleep(fault.pause_s)

    def settle(self) -> None:
        """Waits until every role is back, the run trains again and the accounts of dead actors are closed."""
        before = self.updates()
        self.until(lambda: self.updates() > before + 3, SETTLE_S, "the run to continue")
        self.until(self._whole, SETTLE_S, "every role to be back and dead actors' accounts to be closed")
        self._look()

    def until(self, condition: Callable[[], bool], timeout_s: float, what: str) -> None:
        """Waits for a condition, which may ask Redis."""
        deadline = time.monotonic() + timeout_s
        while True:
            with contextlib.suppress(BidistError, redis.RedisError):
                if condition():
                    return
            if self._target.ended() is not None or time.monotonic() > deadline:
                raise BidistError(f"gave up waiting (limit {timeout_s:.0f} s) for: {what}")
            time.sleep(0.2)

    def updates(self) -> int:
        """Returns how many updates the learner has made."""
        return int(self._store.hash("progress").get("updates", 0))

    def _inject(self, fault: Fault) -> None:
        """Kills or stops a victim, unless it is down or a supervisor would give up."""
        recent, now = self._recent[fault.victim], time.monotonic()
        worn = len(recent) == recent.maxlen and now - recent[0] < FAST_DEATHS_S
        if worn or not self._hit(fault):
            self._report.spared += 1
            return
        (self._report.kills if fault.stopped_s is None else self._report.stops)[fault.victim] += 1
        recent.append(now)  # a role that was stopped may have to exit, too

    def _hit(self, fault: Fault) -> bool:
        if fault.stopped_s is None:
            return self._target.kill(fault.victim)
        return self._target.stop(fault.victim, fault.stopped_s)

    def _look(self) -> None:
        """Records how far the run has come."""
        with contextlib.suppress(BidistError, redis.RedisError):
            theta, phi = (self._store.version(name) or 0 for name in (THETA, PHI))
            self._report.versions_went_back += theta < self._report.theta_version
            self._report.versions_went_back += phi < self._report.phi_version
            self._report.theta_version, self._report.phi_version = theta, phi
            self._report.updates = self.updates()
            owner = self._store.client.get(self._store.key("learner")) or b""
            if owner.decode() != self._learner:
                self._learner = owner.decode()
                self._report.learners += 1
            self._look_at_rewinds()

    def _look_at_rewinds(self) -> None:
        """Keeps the longest of the learner's rewinds since the last look."""
        rewinds = [x for x in self._store.stream("events", NEWEST) if x[1]["event"] == "rewound"]
        for when, rewound in (x for x in rewinds if x[0] > self._rewound_at):
            self._rewound_at = when
            lost = self._lost(when, int(rewound["updates"]))
            # The last was cut short: the learner saves after it, if a checkpoint is due, however long it took. Nothing
            # was trained in the wait before the first, during which the checkpoint may have been saved again.
            seconds = sum(x["update_s"] + x["wait_s"] for x in lost[1:]) - (lost[-1]["wait_s"] if lost[1:] else 0.0)
            if seconds > self._report.longest_rewind_s:
                self._report.longest_rewind_s, self._report.longest_rewind = seconds, lost

    def _lost(self, before: float, after: int) -> list[dict[str, float]]:
        """Returns the updates beyond a number that the learner had made before a time, the newest first.

        Earlier deaths may have cost updates of the same numbers: count only the latest incarnation's.
        """
        lost, following = list[dict[str, float]](), math.inf
        for written, metrics in reversed(self._store.stream("metrics", NEWEST)):
            if written >= before:
                continue
            update = {name: float(metrics[name]) for name in ("updates", "update_s", "wait_s")}
            if not after < update["updates"] < following:
                break
            following = update["updates"]
            lost.append(update)
        return lost

    def _whole(self) -> bool:
        workers = self._store.workers()
        living = {fields.get("incarnation") for fields in workers.values()}
        return len(workers) == len(VICTIMS) - 1 and self._store.ledger.incarnations().keys() <= living
