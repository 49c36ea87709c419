"""Runs into which `bidist chaos` injects faults: what it needs to know of one, and a run under `bidist train`."""

import contextlib
import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import redis

from common import checkpoint
from common.errors import BidistError
from common.ledger import Balance
from common.run_folder import RunFolder
from common.store import Store
from deploy.processes import bidist, stop, with_parent
from deploy.redis_server import RedisServer

RUN = "chaos"
VICTIMS = ("actor-0", "actor-1", "learner", "distiller", "redis")
START_S, STOPPED_S, PATIENCE_S = 180.0, 90.0, 15.0
CHECKPOINT_S = 5
SUBSTRATE, ENDLESS = "matrix_coordination", 10**12
SETTINGS = (
    *(f"environment.substrate={SUBSTRATE}", "environment.episode_length=16"),
    *("actor.unroll_length=8", "actor.environments=4"),
    *("learner.batch_unrolls=16", "learner.epochs=1", "learner.device=cpu", "learner.threads=1"),
    *("network.dense=16", "network.core_size=16", "distiller.every=3", "distiller.burn_in=1"),
    *("run.heartbeat_s=0.5", f"run.checkpoint_s={CHECKPOINT_S}"),
)


class Stock(NamedTuple):
    """Final state of a run: the ledger, and the unrolls and updates of its newest checkpoint."""

    balance: Balance
    unrolls: int
    updates: int


class Target(Protocol):
    """A run in training, with its parts within reach."""

    store: Store

    def kill(self, victim: str) -> bool:
        """Kills one of VICTIMS (SIGKILL); returns False if it was not up."""

    def stop(self, victim: str, seconds: float) -> bool:
        """Stops one of VICTIMS for a while; returns False if it was not up."""

    def ended(self) -> int | None:
        """Returns the run's exit status, or None while it runs."""

    def end(self) -> int:
        """Shuts the run down cleanly and returns its exit status."""

    def stock(self) -> Stock:
        """Takes stock after the end."""


class Processes:
    """A run under `bidist train`.

    Args:
      folder: the run's.
      process: the supervisor.
      url: of the run's Redis.
    """

    def __init__(self, folder: RunFolder, process: "subprocess.Popen[bytes]", url: str) -> None:
        self._folder, self._process = folder, process
        self.store = Store(url, RUN, patience_s=PATIENCE_S)

    def kill(self, victim: str) -> bool:
        """Kills a victim's process."""
        return self._send(self._pid(victim), signal.SIGKILL)

    def stop(self, victim: str, seconds: float) -> bool:
        """Stops a victim's process and resumes it."""
        pid = self._pid(victim)
        if not self._send(pid, signal.SIGSTOP):
            return False
        time.sleep(seconds)
        self._send(pid, signal.SIGCONT)
        return True

    def ended(self) -> int | None:
        """Returns the supervisor's exit status."""
        return self._process.poll()

    def end(self) -> int:
        """Asks the supervisor to stop."""
        self._process.send_signal(signal.SIGTERM)
        return self._process.wait(STOPPED_S)

    def stock(self) -> Stock:
        """Reads the ledger from Redis' file, and the folder's newest checkpoint."""
        with RedisServer(self._folder.redis) as server:
            return Stock(Store(server.url, RUN).ledger.balance(), *trained(self._folder))

    def _pid(self, victim: str) -> int | None:
        with contextlib.suppress(BidistError, redis.RedisError):
            if victim == "redis":
                return int(self.store.client.info("server")["process_id"])
            role, _, name = victim.partition("-")
            fields = self.store.workers().get((role, name or role), {})
            return int(fields["pid"]) if "pid" in fields else None
        return None

    def _send(self, pid: int | None, number: signal.Signals) -> bool:
        if pid is None:
            return False
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)
            return True
        return False


def trained(folder: RunFolder) -> tuple[int, int]:
    """Returns the unrolls and the updates of the newest checkpoint in a run's folder; zeros if there is none."""
    saved = checkpoint.newest(folder.checkpoints)
    return (0, 0) if saved is None else (int(saved.state["unrolls"]), int(saved.state["updates"]))


def ledger_problems(ledger: Mapping[str, Any], unrolls_in_checkpoint: int) -> dict[str, bool]:
    """Returns what may be wrong with the ledger of a run in which no actor misbehaved, in words, and whether it is."""
    trained, rejected = ledger["trained"], ledger["rejected"]
    return {
        f"{rejected} unrolls were rejected": rejected > 0,
        f"{trained} unrolls are trained in the ledger, {unrolls_in_checkpoint} in the checkpoint": (
            trained != unrolls_in_checkpoint
        ),
        "nothing was trained": trained == 0,
    }


@contextlib.contextmanager
def processes() -> Iterator[Processes]:
    """Starts a run under `bidist train` in a temporary folder.

    Raises:
      BidistError: if it does not start, or from within; the message ends with its output.
    """
    with tempfile.TemporaryDirectory(prefix="bidist-chaos-") as parent:
        output = Path(parent) / "output"
        command = bidist("train", "--folder", parent, "--run", RUN, "--actors", "2")
        settings = [f"--set={setting}" for setting in SETTINGS]
        child = with_parent([*command, "--steps", str(ENDLESS), *settings])
        with output.open("wb") as file:
            process = subprocess.Popen(child, stdin=subprocess.DEVNULL, stdout=file, stderr=file)
        folder = RunFolder(Path(parent) / RUN)
        try:
            yield Processes(folder, process, _url(folder.redis / "url", process))
        except BidistError as error:
            raise BidistError(f"{error}; the end of its output:\n{output.read_text()[-2000:]}") from None
        finally:
            stop(process, STOPPED_S)


def _url(address: Path, process: "subprocess.Popen[bytes]") -> str:
    deadline = time.monotonic() + START_S
    while not address.exists() or not address.read_text().strip():
        if process.poll() is not None or time.monotonic() > deadline:
            raise BidistError("the run did not start")
        time.sleep(0.1)
    return address.read_text().strip()
