"""`bidist chaos`: kills and stops everything in a real run, in random order, and checks the ledger at the end.

A run of a small matrix game trains under `bidist train` while, every few seconds, an actor, the learner, the distiller
or Redis is killed (SIGKILL) or stopped for a while (SIGSTOP, SIGCONT). What is hit and when derives from a seed.
"""

import contextlib
import json
import os
import random
import signal
import subprocess
import tempfile
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import redis

from common import checkpoint
from common.errors import BidistError
from common.ledger import Balance
from common.run_folder import RunFolder
from common.store import Store
from common.weights import PHI, THETA
from deploy.processes import bidist
from deploy.redis_server import RedisServer
from deploy.supervisor import FAST_DEATHS, FAST_DEATHS_S
from reports.provenance import circumstances

RUN = "chaos"
VICTIMS = ("actor-0", "actor-1", "learner", "distiller", "redis")
PAUSE_S, STOP_S = (0.5, 3.0), (0.5, 6.0)
START_S, SETTLE_S, STOPPED_S = 180.0, 120.0, 90.0
SETTINGS = (
    *("environment.substrate=matrix_coordination", "environment.episode_length=16", "actor.unroll_length=8"),
    *(
        "actor.environments=4",
        "learner.batch_unrolls=16",
        "learner.epochs=1",
        "learner.device=cpu",
        "learner.threads=1",
    ),
    *("network.dense=16", "network.core_size=16", "distiller.every=3", "distiller.burn_in=1"),
    *("run.heartbeat_s=0.5", "run.checkpoint_s=5"),
)


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
    """What was done to a run, and what became of it."""

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
    unrolls_in_checkpoint: int = 0
    ledger: dict[str, Any] = field(default_factory=dict)
    exit_status: int | None = None

    @property
    def problems(self) -> list[str]:
        """Every promise that was broken, in words."""
        sides = self.ledger
        accounted = sum(sides[name] for name in ("trained", "stale", "rejected", "rewound", "lost", "in_flight"))
        found = {
            f"{sides['produced'] - accounted} unrolls are unaccounted for": sides["produced"] != accounted,
            f"{sides['rejected']} unrolls were rejected": sides["rejected"] > 0,
            f"{sides['trained']} unrolls are trained in the ledger, {self.unrolls_in_checkpoint} in the checkpoint": (
                sides["trained"] != self.unrolls_in_checkpoint
            ),
            f"a version went back {self.versions_went_back} times": self.versions_went_back > 0,
            f"the run ended with status {self.exit_status}": self.exit_status != 0,
            "nothing was trained": sides["trained"] == 0,
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


def run(seconds: float, seed: int, out: Path | None, say: Callable[[str], None]) -> Report:
    """Runs the experiment.

    Args:
      seconds: for how long faults are injected.
      seed: of the faults.
      out: where the report is written, as JSON.
      say: called with a line of progress after every fault.
    """
    with tempfile.TemporaryDirectory(prefix="bidist-chaos-") as parent:
        with _training(Path(parent)) as (process, url):
            chaos = Chaos(Store(url, RUN, patience_s=15.0), process, Report(seed, seconds), say)
            chaos.until(lambda: chaos.updates() > 3, START_S, "the run to train")
            chaos.inject_faults()
            chaos.settle()
            process.send_signal(signal.SIGTERM)
            chaos.report.exit_status = process.wait(STOPPED_S)
        report = chaos.report
        _take_stock(RunFolder(Path(parent) / RUN), report)
    if out is not None:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(json.dumps({**report.record(), "circumstances": circumstances()}, indent=1) + "\n")
    return report


class Chaos:
    """Injects faults into a run that trains.

    Args:
      store: the run's keys.
      process: the supervisor.
      report: where everything is recorded.
      say: called with a line of progress after every fault.
    """

    def __init__(
        self, store: Store, process: "subprocess.Popen[bytes]", report: Report, say: Callable[[str], None]
    ) -> None:
        self._store, self._process, self.report, self._say = store, process, report, say
        self._recent: dict[str, deque[float]] = {victim: deque(maxlen=FAST_DEATHS - 2) for victim in VICTIMS}
        self._learner = ""

    def inject_faults(self) -> None:
        """Injects faults until the time is over."""
        started = time.monotonic()
        for fault in faults(self.report.seed):
            elapsed = time.monotonic() - started
            if elapsed > self.report.seconds:
                return
            if self._process.poll() is not None:
                raise BidistError(f"the run ended with status {self._process.returncode} after {elapsed:.0f} s")
            self._inject(fault)
            self._look()
            total = self.report.total
            how = f"{'stop' if fault.stopped_s else 'kill'} {fault.victim:<9}"
            self._say(
                f"{elapsed:4.0f} s of {self.report.seconds:.0f} s  {how}  {total['kills']} kills, {total['stops']} "
                f"stops, {self.report.updates} updates, version {self.report.theta_version}"
            )
            time.sleep(fault.pause_s)

    def settle(self) -> None:
        """Waits until the run trains again and the accounts of dead actors are closed."""
        before = self.updates()
        self.until(lambda: self.updates() > before + 3, SETTLE_S, "the run to continue")
        self.until(self._closed, SETTLE_S, "dead actors' accounts to be closed")
        self._look()

    def until(self, condition: Callable[[], bool], timeout_s: float, what: str) -> None:
        """Waits for a condition, which may ask Redis."""
        deadline = time.monotonic() + timeout_s
        while True:
            with contextlib.suppress(BidistError, redis.RedisError):
                if condition():
                    return
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise BidistError(f"waited up to {timeout_s:.0f} s for {what}, which did not happen")
            time.sleep(0.2)

    def updates(self) -> int:
        """Returns how many updates the learner has made."""
        return int(self._store.hash("progress").get("updates", 0))

    def _inject(self, fault: Fault) -> None:
        """Kills or stops a process, unless it is down or the supervisor would give up."""
        recent, now = self._recent[fault.victim], time.monotonic()
        worn = len(recent) == recent.maxlen and now - recent[0] < FAST_DEATHS_S
        pid = None if worn else self._process_of(fault.victim)
        if pid is None:
            self.report.spared += 1
            return
        with contextlib.suppress(ProcessLookupError):
            if fault.stopped_s is None:
                os.kill(pid, signal.SIGKILL)
                self.report.kills[fault.victim] += 1
            else:
                os.kill(pid, signal.SIGSTOP)
                time.sleep(fault.stopped_s)
                os.kill(pid, signal.SIGCONT)
                self.report.stops[fault.victim] += 1
            recent.append(now)  # a role that was stopped may have to exit, too

    def _process_of(self, victim: str) -> int | None:
        try:
            if victim == "redis":
                return int(self._store.client.info("server")["process_id"])
            role, _, name = victim.partition("-")
            fields = self._store.workers().get((role, name or role))
        except (BidistError, redis.RedisError):
            return None
        return None if fields is None or "pid" not in fields else int(fields["pid"])

    def _look(self) -> None:
        """Records how far the run has come."""
        with contextlib.suppress(BidistError, redis.RedisError):
            theta, phi = (self._store.version(name) or 0 for name in (THETA, PHI))
            self.report.versions_went_back += theta < self.report.theta_version
            self.report.versions_went_back += phi < self.report.phi_version
            self.report.theta_version, self.report.phi_version = theta, phi
            self.report.updates = self.updates()
            owner = self._store.client.get(self._store.key("learner")) or b""
            if owner.decode() != self._learner:
                self._learner = owner.decode()
                self.report.learners += 1

    def _closed(self) -> bool:
        living = {fields.get("incarnation") for fields in self._store.workers().values()}
        return self._store.ledger.incarnations().keys() <= living


@contextlib.contextmanager
def _training(parent: Path) -> Iterator[tuple["subprocess.Popen[bytes]", str]]:
    """Trains a run under the supervisor; yields the supervisor and the URL of the run's Redis."""
    settings = [f"--set={setting}" for setting in SETTINGS]
    command = bidist("train", "--folder", str(parent), "--run", RUN, "--actors", "2", "--steps", str(10**12), *settings)
    with (parent / "output").open("wb") as output:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=output)
    address = parent / RUN / "redis" / "url"
    try:
        deadline = time.monotonic() + START_S
        while not address.exists() or not address.read_text().strip():
            if process.poll() is not None or time.monotonic() > deadline:
                raise BidistError(f"the run did not start:\n{(parent / 'output').read_text()[-2000:]}")
            time.sleep(0.1)
        yield process, address.read_text().strip()
    except BidistError as error:
        raise BidistError(f"{error}; the end of its output:\n{(parent / 'output').read_text()[-2000:]}") from None
    finally:
        if process.poll() is None:
            process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(STOPPED_S)
            process.kill()
            process.wait()


def _take_stock(folder: RunFolder, report: Report) -> None:
    """Reads the ledger from Redis' file and the trained unrolls from the last checkpoint, once everything has ended."""
    with RedisServer(folder.redis) as server:
        balance: Balance = Store(server.url, RUN).ledger.balance()
    report.ledger = {**asdict(balance), "reasons": dict(balance.reasons)}
    saved = checkpoint.newest(folder.checkpoints)
    report.unrolls_in_checkpoint = 0 if saved is None else int(saved.state["unrolls"])
