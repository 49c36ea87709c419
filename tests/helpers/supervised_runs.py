"""Runs of all roles under `bidist train`, as child processes of a test."""

import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import command
import pytest

from common.ledger import Balance
from common.store import Store

PATIENCE_S = 300.0

SETTINGS = (
    "run.heartbeat_s=0.5",
    "run.checkpoint_s=3",
    "distiller.every=3",
    "actor.environments=4",
    "learner.epochs=1",
)

QUICK = [f"--set={setting}" for setting in SETTINGS]


class Training:
    """`bidist train` as a child process, and its data in Redis."""

    def __init__(self, folder: Path, options: list[str]) -> None:
        self.folder = folder / "run"
        name = ["--resume"] if self.folder.exists() else ["--run"]
        self.process = command.start("train", "--folder", str(folder), *name, "run", *options)
        address = self.folder / "redis" / "url"
        before = address.stat().st_mtime if address.exists() else 0.0
        self.until("Redis is up", lambda: address.exists() and address.stat().st_mtime > before)
        self.store = Store(address.read_text().strip(), "run")

    def until(self, what: str, condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + PATIENCE_S
        while not condition():
            assert self.process.poll() is None, f"ended while waiting for: {what}\n{self.output()}"
            assert time.monotonic() < deadline, f"waited {PATIENCE_S} s for: {what}"
            time.sleep(0.1)

    def updates(self) -> int:
        return int(self.store.hash("progress").get("updates", 0))

    def incarnations(self) -> dict[tuple[str, str], str]:
        return {key: fields["incarnation"] for key, fields in self.store.workers().items()}

    def incarnation(self, role: str) -> str | None:
        found = [w["incarnation"] for (r, _), w in self.store.workers().items() if r == role]
        return found[0] if found else None

    def kill(self, role: str, how: signal.Signals) -> None:
        """Kills a role, then waits until it is back and the run continues."""
        worker = next(w for (r, _), w in self.store.workers().items() if r == role)
        os.kill(int(worker["pid"]), how)
        self.until(f"{role} is back", lambda: self.incarnation(role) not in (None, worker["incarnation"]))
        updates = self.updates()
        self.until("the run continues", lambda: self.updates() > updates + 1)

    def settled(self) -> Balance:
        """Returns the ledger once the incarnations of killed roles are closed."""
        living = {w["incarnation"] for w in self.store.workers().values()}
        self.until("dead incarnations are closed", lambda: self.store.ledger.incarnations().keys() <= living)
        return self.store.ledger.balance()

    def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(PATIENCE_S)

    def output(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.read()


@pytest.fixture
def start_training(tmp_path: Path) -> Iterator[Callable[..., Training]]:
    trainings: list[Training] = []

    def begin(*options: str) -> Training:
        trainings.append(Training(tmp_path, list(options)))
        return trainings[-1]

    yield begin
    for training in trainings:
        training.process.kill()
        training.process.wait()
        assert training.process.stdout is not None
        training.process.stdout.close()
