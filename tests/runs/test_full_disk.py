"""A full disk stops no role: it is reported, the run continues, and once there is room the next checkpoint is whole."""

import contextlib
import resource
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import command
import pytest
import redis
import serial_runs
import torch
from senders import Sender
from learner_runs import configuration, learning

from common import checkpoint
from common.errors import CheckpointError, StoreError
from common.files import cut_lines, read_lines
from common.lifecycle import Presence
from common.run_folder import RunFolder
from common.store import Store
from deploy import views, watching
from deploy.serial import Serial


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


# As above.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_distiller_continues_and_says_that_it_could_not_save(redis_url: str, tmp_path: Path) -> None:
    config = serial_runs.configuration(tmp_path, f"{tmp_path.name}-full", "distiller.every=1")
    folder = RunFolder.of(config.run)
    folder.create(config)
    with Serial(config, redis_url) as serial:
        serial.update()
        assert serial.distiller is not None and not serial.distiller.unsaved
        with full(4096):
            serial.update()
        assert "could not be saved" in serial.distiller.unsaved
        events = [fields for _, fields in serial.store.stream("events", 100) if fields["event"] == "unsaved"]
        assert [(fields["role"], fields["message"]) for fields in events] == [("distiller", serial.distiller.unsaved)]
        assert serial.distiller.distiller.events == 2, "it distilled nevertheless"
        with Presence(serial.store, "distiller", "distiller", "d-1", heartbeat_s=0.05) as presence:
            presence.say(unsaved=serial.distiller.unsaved)
            deadline = time.monotonic() + 60
            while f"the distiller's checkpoint is missing: {folder.distiller}" not in shown(serial.store):
                assert time.monotonic() < deadline, shown(serial.store)
                time.sleep(0.05)
        serial.update()
        saved = checkpoint.newest(folder.distiller)
        assert not serial.distiller.unsaved and saved is not None and saved.state["distiller"]["events"] == 3


def shown(store: Store) -> str:
    return views.plain(views.snapshot(store))


def test_a_role_that_restarts_needs_no_room(store: Store, tmp_path: Path) -> None:
    config = configuration(store, tmp_path)
    folder = RunFolder.of(config.run)
    folder.metrics.write_text('{"updates": 1}\n{"updates": 2}\n')
    before = folder.config.read_bytes()
    with full(0):
        folder.create(config)
        with pytest.raises(OSError, match="too large"):
            folder.create(config.model_copy(update={"run": config.run.model_copy(update={"seed": 5})}))
        cut_lines(folder.metrics, "updates", 2)
        with pytest.raises(OSError, match="too large"):
            cut_lines(folder.metrics, "updates", 1)
    assert folder.config.read_bytes() == before and len(read_lines(folder.metrics)) == 2
    assert not [path for path in folder.path.iterdir() if path.name.startswith(".m") or path.name.startswith(".c")]


@pytest.mark.slow
def test_a_whole_run_on_a_full_disk_continues_once_there_is_room(capsys: pytest.CaptureFixture[str]) -> None:
    """A small tmpfs that only the run sees: Redis' file, the checkpoints, the metrics and the logs all meet its end."""
    with tempfile.TemporaryDirectory(prefix="disk-") as mount, running_on_a_small_disk(Path(mount)) as (process, disk):
        until("Redis is up", lambda: (disk / "run" / "redis" / "url").exists())
        url = (disk / "run" / "redis" / "url").read_text().strip().replace(mount, str(disk))
        store = Store(url, "run", patience_s=1)
        until("it updates", lambda: updates(store) > 3 and len(store.workers()) == 3)
        lives = {role: fields["incarnation"] for role, fields in store.workers().items()}
        filler = disk / "filler"
        with contextlib.suppress(OSError), filler.open("wb", buffering=0) as file:
            while True:
                file.write(bytes(1 << 12))
        until("Redis notices", lambda: "Redis cannot write its file" in (watching.trouble(store) or ""))
        assert watching.status(url, "run", disk) == 0
        assert "is its disk full?" in capsys.readouterr().out
        time.sleep(5)  # longer than a heartbeat lasts, and less than roles wait for Redis
        assert process.poll() is None
        filler.unlink()
        seen = updates(store)
        until("the run continues", lambda: updates(store) > seen + 2 and len(store.workers()) == 3)
        assert {role: fields["incarnation"] for role, fields in store.workers().items()} == lives, "nobody restarted"
        assert watching.trouble(store) is None and store.ledger.balance().holds
        process.send_signal(signal.SIGTERM)
        assert process.wait(120) == 0


@contextmanager
def running_on_a_small_disk(mount: Path) -> Iterator[tuple["subprocess.Popen[bytes]", Path]]:
    """Runs `bidist train` on a tmpfs of its own; yields the process, and where this process finds that tmpfs."""
    mounted = ["unshare", "-rm", "sh", "-c", f'mount -t tmpfs -o size=48m none {mount} && exec "$@"', "sh"]
    try:
        subprocess.run([*mounted, "true"], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("no tmpfs can be mounted here")
    small = ["network.dense=16", "network.core_size=16", "run.heartbeat_s=0.5", "run.checkpoint_s=1"]
    options = ["--run", "run", "--folder", str(mount), "--substrate", "matrix_coordination", "--actors", "1", *small]
    process = subprocess.Popen([*mounted, sys.executable, "-m", "cli", "train", *options], cwd=command.ROOT)
    try:
        yield process, Path(f"/proc/{process.pid}/root{mount}")
    finally:
        process.kill()
        process.wait()


def updates(store: Store) -> int:
    return int(store.hash("progress").get("updates", 0))


def until(what: str, condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 240
    while True:
        with contextlib.suppress(redis.RedisError, OSError, StoreError):
            if condition():
                return
        assert time.monotonic() < deadline, what
        time.sleep(0.1)
