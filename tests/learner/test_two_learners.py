"""Two learner processes on one run: whatever they share, one of them leaves and the run's counts stay the other's."""

import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import command
import pytest
from learner_runs import configuration
from senders import BATCH, Sender

from common.config import Config
from common.run_folder import RunFolder
from common.store import Store

pytestmark = pytest.mark.slow

PATIENCE_S = 240.0
Launch = Callable[[Path, int], "subprocess.Popen[str]"]


@pytest.fixture
def launch(store: Store) -> Iterator[Launch]:
    """Starts `bidist learner` on a folder of runs and a port."""
    started: list[subprocess.Popen[str]] = []

    def learner(folder: Path, port: int) -> "subprocess.Popen[str]":
        where = ["--redis", store.url, "--run", store.run, "--folder", str(folder)]
        started.append(command.start("learner", *where, "--listen", f"tcp://127.0.0.1:{port}"))
        return started[-1]

    yield learner
    for process in started:
        process.send_signal(signal.SIGCONT)
        process.kill()
        process.communicate()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def until(what: str, condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.05)


def train(store: Store, config: Config, incarnation: str, batches: int = 2) -> None:
    """Ships batches to whoever the run's learner is, and waits until they are trained on."""
    sender, before = Sender(store, config, incarnation), store.ledger.balance().trained
    for _ in range(batches):
        sender.batch(store.version("theta") or 0)
        before += BATCH
        deadline = time.monotonic() + PATIENCE_S
        while store.ledger.balance().trained < before:
            assert time.monotonic() < deadline, store.ledger.balance()
            sender.outbox.pump(0.05)
    sender.outbox.close()


def refused(process: "subprocess.Popen[str]", words: str) -> None:
    """Checks that a process left by itself, with the documented status and one line that says why."""
    assert process.stdout is not None
    *_, last = process.stdout.read().splitlines()
    assert process.wait(PATIENCE_S) == 2, last
    assert last.startswith("bidist: error: ") and any(word in last for word in words.split("|")), last


@pytest.mark.parametrize(
    ("folders", "ports", "words"),
    [
        (("a", "a"), 1, "is already running in another `bidist learner`"),
        (("a", "copy"), 1, "cannot listen|has a learner already"),
        (("a", "copy"), 2, "has a learner already"),
    ],
    ids=["the same folder and port", "a copied folder, the same port", "a copied folder, another port"],
)
def test_of_two_learners_that_start_at_once_one_leaves(
    store: Store, tmp_path: Path, launch: Launch, folders: tuple[str, str], ports: int, words: str
) -> None:
    config = configuration(store, tmp_path / "a")
    shutil.copytree(tmp_path / "a", tmp_path / "copy")
    numbers = [free_port() for _ in range(ports)]
    pair = [launch(tmp_path / folder, numbers[-i % ports]) for i, folder in enumerate(folders)]
    until("the run is announced", lambda: store.endpoint() is not None)
    train(store, config, "a-1")
    until("one leaves", lambda: any(process.poll() is not None for process in pair))
    (loser,) = (process for process in pair if process.poll() is not None)
    refused(loser, words)
    train(store, config, "a-2")
    balance = store.ledger.balance()
    assert balance.holds and (balance.produced, balance.trained) == (4 * BATCH, 4 * BATCH), balance
    (winner,) = (process for process in pair if process is not loser)
    winner.send_signal(signal.SIGTERM)
    assert winner.wait(PATIENCE_S) == 0


def test_a_learner_that_was_stopped_until_another_took_over_leaves(
    store: Store, tmp_path: Path, launch: Launch
) -> None:
    config = configuration(store, tmp_path / "a")
    first = launch(tmp_path / "a", free_port())
    until("the run is announced", lambda: store.endpoint() is not None)
    train(store, config, "a-1")
    first.send_signal(signal.SIGSTOP)
    ours = store.endpoint()
    shutil.copytree(RunFolder.of(config.run).path, tmp_path / "copy" / store.run)
    second = launch(tmp_path / "copy", free_port())
    until("another takes over", lambda: store.endpoint() not in (None, ours))
    train(store, config, "a-2")
    before = store.ledger.balance(), store.version("theta")
    assert before[0].holds and before[0].trained == 2 * BATCH + (2 * BATCH - before[0].rewound)
    first.send_signal(signal.SIGCONT)
    refused(first, "a run has only one")
    assert (store.ledger.balance(), store.version("theta")) == before
    train(store, config, "a-3")
    assert store.ledger.balance().trained == before[0].trained + 2 * BATCH
    assert second.poll() is None
