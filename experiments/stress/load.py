"""`bidist chaos --actors N`: a learner under sustained load, with actors that come and go, and stopped now and then.

A real learner and a real distiller train on what a crowd of synthetic actors sends, and a real actor among them.
Memory, file handles and Redis' memory have to stay where they are, the ledger has to agree with the actors' own counts,
and after each stop of the learner (SIGSTOP) traffic has to come back while the policy lag stays within its bound.
"""

import contextlib
import os
import signal
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import psutil

from common.errors import BidistError
from common.run_folder import RunFolder
from common.store import Store
from common.weights import PHI
from deploy.redis_server import RedisServer
from deploy.supervisor import Role
from experiments.stress.crowd import Crowd
from experiments.stress.targets import SETTINGS, STOPPED_S, ledger_problems, trained
from learner.service import unroll_spec
from reports.provenance import write_json

RUN, REAL = "load", "real"
SAMPLES = 100
LIFE_S = 60.0
STOPS, MAX_STOP_S = 6, 60.0
BACK_S = 5.0
START_S = 180.0
STREAMS = ("metrics", "events", "observations")
"""Streams that Redis caps; filling them takes longer than most of these runs last."""
ALLOWED = {"_handles": (0.05, 8.0), "_bytes": (0.1, 8e6)}
"""How much a quantity may grow from the second quarter to the last: a share of it, and a constant."""


@dataclass
class Report:
    """What was measured."""

    actors: int
    seconds: float
    seed: int
    stops: int = 0
    stopped_s: float = 0.0
    back_s: list[float] = field(default_factory=list)
    """From the end of each stop until the learner had trained on something."""
    produced_while_stopped: list[int] = field(default_factory=list)
    """Unrolls produced in the second half of each stop, except the first of a life: the actors should be waiting."""
    lives: int = 0
    closed_while_alive: int = 0
    produced: int = 0
    """By synthetic actors, as they count them."""
    produced_by_the_real_actor: int = 0
    """As the ledger has it."""
    closed: int = 0
    policy_lag_max: float = 0.0
    policy_lag_bound: int = 0
    unbalanced_samples: int = 0
    unrolls_in_checkpoint: int = 0
    ledger: dict[str, Any] = field(default_factory=dict)
    samples: list[dict[str, float]] = field(default_factory=list)

    def growth(self) -> dict[str, tuple[float, float]]:
        """Returns, for each quantity that should stay the same, its medians in the second quarter and in the last."""
        names = [name for name in (self.samples or [{}])[0] if name.endswith(tuple(ALLOWED))]
        quarter = len(self.samples) // 4
        parts = self.samples[quarter : 2 * quarter], self.samples[-quarter:]
        return {name: _medians(parts, name) for name in names} if quarter else {}

    @property
    def all_produced(self) -> int:
        """The unrolls of all actors."""
        return self.produced + self.produced_by_the_real_actor

    @property
    def problems(self) -> list[str]:
        """Every promise that was broken, in words."""
        produced = self.ledger["produced"]
        found = {
            f"the ledger did not balance in {self.unbalanced_samples} samples": self.unbalanced_samples > 0,
            f"{self.all_produced} unrolls were produced, {produced} are in the ledger": produced != self.all_produced,
            **ledger_problems(self.ledger, self.unrolls_in_checkpoint),
            f"{self.closed_while_alive} actors were closed while alive": self.closed_while_alive > 0,
            f"the policy lag reached {self.policy_lag_max:.0f}": self.policy_lag_max > self.policy_lag_bound,
            f"actors produced {self.produced_while_stopped} unrolls for a learner that was stopped": any(
                self.produced_while_stopped
            ),
            f"it took up to {max(self.back_s, default=0.0):.1f} s until the learner trained again": any(
                seconds > BACK_S for seconds in self.back_s
            ),
            "the real actor produced nothing": self.produced_by_the_real_actor == 0,
        }
        for name, (before, after) in self.growth().items():
            share, extra = next(allowed for end, allowed in ALLOWED.items() if name.endswith(end))
            found[f"{name} grew from {before:,.0f} to {after:,.0f}"] = after > before * (1 + share) + extra
        return [text for text, broken in found.items() if broken]

    def record(self) -> dict[str, Any]:
        """Returns the report as plain values."""
        growth = {name: {"second_quarter": a, "last_quarter": b} for name, (a, b) in self.growth().items()}
        return {**asdict(self), "growth": growth, "problems": self.problems}


def run(actors: int, seconds: float, seed: int, out: Path | None, say: Callable[[str], None]) -> Report:
    """Runs the experiment.

    Args:
      actors: how many synthetic actors live at a time.
      seconds: for how long.
      seed: of what they send and when they die.
      out: where the report is written, as JSON.
      say: called with a line of progress after every sample.

    Raises:
      BidistError: if a real role ends; the message ends with their logs.
    """
    report = Report(actors, seconds, seed)
    with tempfile.TemporaryDirectory(prefix="bidist-load-") as parent, RedisServer(Path(parent) / "redis") as server:
        store = Store(server.url, RUN)
        with roles(Path(parent), server.url) as processes:
            store.wait_for_weights(PHI, START_S)
            config, real = store.config(), _incarnation(store)
            report.policy_lag_bound = config.learner.max_policy_lag
            with Crowd(store, config, unroll_spec(config), actors, LIFE_S, seed) as crowd:
                _Load(store, crowd, processes, report, say).run()
                processes["learner"].send_signal(signal.SIGTERM)
                while processes["learner"].poll() is None:
                    crowd.play(0.1)
                report.produced, report.lives, report.closed_while_alive = (
                    crowd.produced,
                    crowd.lives,
                    crowd.closed_while_alive,
                )
        balance = store.ledger.balance()
        report.produced_by_the_real_actor, _ = store.ledger.incarnations().get(real, (0, 0))
        report.ledger = {**asdict(balance), "reasons": dict(balance.reasons)}
        report.unrolls_in_checkpoint, _ = trained(RunFolder(Path(parent) / RUN))
    if out is not None:
        write_json(out, report.record())
    return report


class _Load:
    """One run of the experiment."""

    def __init__(
        self,
        store: Store,
        crowd: Crowd,
        processes: dict[str, "subprocess.Popen[bytes]"],
        report: Report,
        say: Callable[[str], None],
    ) -> None:
        self._store, self._crowd, self._report, self._say = store, crowd, report, say
        self._processes = {name: psutil.Process(process.pid) for name, process in processes.items()}

    def run(self) -> None:
        """Samples until the time is over, and stops the learner a few times, evenly spaced."""
        report, started = self._report, time.monotonic()
        while (elapsed := time.monotonic() - started) < report.seconds:
            if elapsed > (report.stops + 1) * report.seconds / (STOPS + 1):
                self._stop(min(MAX_STOP_S, report.seconds / (4 * STOPS)))
            self._crowd.play(report.seconds / SAMPLES)
            report.samples.append(sample := self._sample(time.monotonic() - started))
            self._say(
                f"{sample['s']:5.0f} s of {report.seconds:.0f} s  {self._crowd.lives} lives, {sample['produced']:.0f} "
                f"unrolls, {report.stops} stops, learner {sample['learner_bytes'] / 1e6:.0f} MB, Redis without "
                f"streams {sample['redis_bytes'] / 1e6:.1f} MB"
            )

    def _stop(self, seconds: float) -> None:
        """Stops the learner for a time while the actors continue, and measures how soon it trains again."""
        learner, report = self._processes["learner"], self._report
        os.kill(learner.pid, signal.SIGSTOP)
        self._crowd.play(seconds / 2)
        before = self._crowd.further
        self._crowd.play(seconds / 2)
        report.produced_while_stopped.append(self._crowd.further - before)
        trained, ended = self._store.ledger.balance().trained, time.monotonic()
        os.kill(learner.pid, signal.SIGCONT)
        while self._store.ledger.balance().trained == trained and time.monotonic() - ended < START_S:
            self._crowd.play(0.05)
        report.back_s.append(round(time.monotonic() - ended, 2))
        report.stops += 1
        report.stopped_s += seconds

    def _sample(self, elapsed_s: float) -> dict[str, float]:
        store, report, client = self._store, self._report, self._store.client
        balance = store.ledger.balance()
        report.unbalanced_samples += not balance.holds
        report.closed = client.scard(store.key("closed"))
        lags = [float(fields["policy_lag_max"]) for _, fields in store.stream("metrics", 100)]
        report.policy_lag_max = max(report.policy_lag_max, *lags, 0.0)
        streams = sum(client.memory_usage(store.key(name), samples=0) or 0 for name in STREAMS)
        found = {"s": round(elapsed_s, 1), "produced": balance.produced, "trained": balance.trained}
        for name, process in self._processes.items():
            if process.status() == psutil.STATUS_ZOMBIE:
                raise BidistError(f"the {name} ended after {elapsed_s:.0f} s")
            found |= {f"{name}_bytes": process.memory_info().rss, f"{name}_handles": process.num_fds()}
        return {**found, "redis_bytes": client.info("memory")["used_memory"] - streams, "streams": streams}


@contextlib.contextmanager
def roles(parent: Path, url: str) -> Iterator[dict[str, "subprocess.Popen[bytes]"]]:
    """Runs the learner, the distiller and one actor of a matrix game."""
    # Made-up unrolls teach nothing: with the usual step size, parameters diverge after a few thousand updates.
    own = ("run.heartbeat_s=2", "learner.batch_unrolls=64", "learner.learning_rate=1e-9")
    settings = [f"--set={setting}" for setting in (*SETTINGS, *own)]
    learner = ["--folder", str(parent), "--steps", str(10**12), *settings]
    options = {"learner": learner, "distiller": [], "actor": ["--name", REAL]}
    started = [Role(name, name, ["--run", RUN, *more], 1, url, []) for name, more in options.items()]
    try:
        for role in started:
            role.start(parent)
        yield {role.name: role.process for role in started if role.process is not None}
    except BidistError as error:
        logs = "\n".join((parent / f"{role.name}.log").read_text()[-1000:] for role in started)
        raise BidistError(f"{error}; the ends of the logs:\n{logs}") from None
    finally:
        for role in started:
            role.stop()
        for role in started:
            role.wait(STOPPED_S)


def _incarnation(store: Store) -> str:
    """Returns the real actor's incarnation, once it has joined."""
    deadline = time.monotonic() + START_S
    while (worker := store.workers().get(("actor", REAL))) is None:
        if time.monotonic() > deadline:
            raise BidistError("the actor did not start")
        time.sleep(0.1)
    return worker["incarnation"]


def _medians(parts: Sequence[Sequence[dict[str, float]]], name: str) -> tuple[float, float]:
    first, last = (statistics.median(sample[name] for sample in part) for part in parts)
    return first, last
