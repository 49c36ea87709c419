"""A full disk stops no role: it is reported, the run continues, and once there is room the next checkpoint is whole."""

import resource
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from senders import Sender
from test_learner_service import configuration, learning

from common import checkpoint
from common.errors import CheckpointError
from common.files import read_lines
from common.run_folder import RunFolder
from common.store import Store


@contextmanager
def full(limit_bytes: int) -> Iterator[None]:
    """Lets no file of this process grow beyond a limit: the system refuses to write, as it does on a full disk."""
    assert signal.getsignal(signal.SIGXFSZ) is signal.SIG_IGN
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


# TensorBoard's own thread ends with the error.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_learner_continues_and_saves_once_there_is_room(store: Store, tmp_path: Path) -> None:
    config = configuration(store, tmp_path)
    folder = RunFolder.of(config.run)
    with learning(store, config) as learner:
        sender = Sender(store, config)
        sender.update(learner)
        learner.save()
        with full(4096):
            for _ in range(12):  # far more scalars than TensorBoard's queue holds
                sender.update(learner)
            learner.save()
        (event,) = [fields for _, fields in store.stream("events", 100) if fields["event"] == "unsaved"]
        assert "could not be saved" in event["message"] and "too large" in event["message"]
        saved = checkpoint.newest(folder.checkpoints)
        assert saved is not None and saved.state["updates"] == 1, "the old one is still there, and whole"
        assert [path.name for path in folder.checkpoints.iterdir()] == ["00000001"], "nothing half-written takes room"
        sender.update(learner)
        learner.save()
        saved = checkpoint.newest(folder.checkpoints)
        assert saved is not None and saved.state["updates"] == 14
        assert read_lines(folder.metrics)[-1]["updates"] == 14
        balance = store.ledger.balance()
        assert balance.holds and balance.trained == balance.produced
        sender.outbox.close()


def test_a_checkpoint_without_room_is_an_error_that_names_it(tmp_path: Path) -> None:
    tensors = {"theta": {"w": torch.zeros(10_000)}}
    checkpoint.save(tmp_path, 1, tensors, {}, keep=1)
    with full(10_000), pytest.raises(CheckpointError, match=r"00000002 could not be saved: .*too large"):
        checkpoint.save(tmp_path, 2, tensors, {}, keep=1)
    assert [path.name for path in tmp_path.iterdir()] == ["00000001"]
