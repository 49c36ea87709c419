"""The learner's process: how it starts, what its loop reports, and that it resumes from the disk exactly."""

import contextlib
import shutil
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
import torch
import zmq
from learner_runs import CPU, configuration, learning
from senders import BATCH, Sender
from waiting import until

from common.errors import SetupError
from common.files import read_lines
from common.lifecycle import Presence, pid_scope
from common.run_folder import RunFolder
from common.store import Store
from learner import service
from learner.ownership import Ownership
from learner.ranks import Launch, Ranks
from learner.service import LearnerService


def test_a_second_learner_on_the_same_port_leaves_the_ledger_untouched(store: Store, tmp_path: Path) -> None:
    config = configuration(store, tmp_path)
    with learning(store, config) as first:
        sender = Sender(store, config)
        for _ in range(2):
            sender.update(first)
        before, endpoint = store.ledger.balance(), store.endpoint()
        assert before.trained == 2 * BATCH and before.rewound == 0
        # No checkpoint has been saved: a learner that started would rewind everything.
        port = first.endpoint.rpartition(":")[2]
        with pytest.raises(SetupError, match="cannot listen"), learning(store, config, f"tcp://127.0.0.1:{port}"):
            pass
        assert store.ledger.balance() == before
        assert store.endpoint() == endpoint
        sender.update(first)
        assert store.ledger.balance().trained == 3 * BATCH
        sender.outbox.close()
    with learning(store, config):
        rewound = store.ledger.balance()
        assert rewound.holds and (rewound.trained, rewound.rewound) == (0, 3 * BATCH)


def test_a_second_learner_on_another_port_leaves_the_run_untouched(store: Store, tmp_path: Path) -> None:
    """It was started from a copy of the folder, so that no lock keeps it out."""
    config = configuration(store, tmp_path)
    copy = config.model_copy(update={"run": config.run.model_copy(update={"folder": tmp_path / "copy"})})
    with learning(store, config) as first, Presence(store, "learner", "learner", first.incarnation, heartbeat_s=0.1):
        sender = Sender(store, config)
        for _ in range(2):
            sender.update(first)
        before = store.ledger.balance(), store.endpoint(), store.version("theta"), store.client.get(store.key("config"))
        with pytest.raises(SetupError, match=r"has a learner already: process \d+ on .*; a run has only one"):
            LearnerService(store, copy, "tcp://127.0.0.1:*", "127.0.0.1", Ranks(CPU)).__enter__()
        after = store.ledger.balance(), store.endpoint(), store.version("theta"), store.client.get(store.key("config"))
        assert after == before
        sender.update(first)
        assert store.ledger.balance().trained == 3 * BATCH
        sender.outbox.close()


def test_a_learner_that_was_thought_dead_stays_out(store: Store, tmp_path: Path) -> None:
    """It was stopped until its heartbeat had expired; when it wakes up, it has a batch."""
    config = configuration(store, tmp_path)
    copy = config.model_copy(update={"run": config.run.model_copy(update={"folder": tmp_path / "copy"})})
    with learning(store, config) as first:
        sender = Sender(store, config)
        sender.update(first)
        store.client.delete(store.key("worker:learner:learner"))
        store.put_worker("actor", "a", {"incarnation": "a-1"}, ttl_s=3600)
        with learning(store, copy) as second:
            taken, version = store.ledger.balance(), store.version("theta")
            assert (taken.trained, taken.rewound) == (0, BATCH) and second.endpoint != first.endpoint
            sender.batch(first.learner.version)
            with pytest.raises(SetupError, match="took run .* over; a run has only one"):
                while not first.step(timeout_s=0.01):
                    sender.outbox.pump(0.01)
            for change in (first.feed.account, first.leave, lambda: first._ledger.rewind(0)):
                with pytest.raises(SetupError, match="a run has only one"):
                    change()
            now = store.ledger.balance()
            assert now.holds and (now.trained, now.rewound, now.lost, now.stale) == (0, BATCH, 0, 0)
            assert store.version("theta") == version
            sender.outbox.connect(second.endpoint)
            until(lambda: second.step(timeout_s=0.01), lambda: sender.outbox.pump(0.01))
            assert store.ledger.balance().trained == BATCH
            sender.outbox.close()


def test_a_learner_whose_process_is_gone_is_replaced_at_once(store: Store, tmp_path: Path) -> None:
    config = configuration(store, tmp_path)
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    dead: dict[str, str | int | float] = {
        "incarnation": "learner-dead",
        "host": socket.gethostname(),
        "place": pid_scope(),
        "pid": gone.pid,
        "reported": 1,
    }
    store.put_worker("learner", "learner", dead, ttl_s=3600)
    with learning(store, config) as learner:
        assert store.workers()["learner", "learner"]["incarnation"] == learner.incarnation
    assert not store.workers(), "and nobody waits for the next"


def test_a_learner_in_a_container_with_the_same_host_name_is_not_considered_dead(store: Store) -> None:
    """Its process cannot be seen from here."""
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    with Presence(store, "learner", "learner", "learner-there", heartbeat_s=0.1) as there:
        there.say(pid=gone.pid, place="another namespace")
        until(lambda: store.workers()["learner", "learner"]["pid"] == str(gone.pid))
        with pytest.raises(SetupError, match=rf"has a learner already: process {gone.pid} on {socket.gethostname()}"):
            Ownership(store, "learner-here", silence_s=60).claim()
        assert store.workers()["learner", "learner"]["incarnation"] == "learner-there"


def test_theta_knows_more_than_a_ledger_that_redis_has_lost(store: Store, tmp_path: Path) -> None:
    """Learner and Redis lose the ledger's last outcomes together; later rewinds are counted all the same."""
    config = configuration(store, tmp_path)
    with learning(store, config) as first:
        sender = Sender(store, config)
        sender.update(first)
        saved = {key: store.client.dump(key) for key in map(store.key, ("ledger", "sequences", "change"))}
        sender.update(first)
        first.save()
    for key, value in saved.items():
        store.client.restore(key, 0, value, replace=True)
    with learning(store, config) as second:
        assert (second.learner.unrolls, store.ledger.balance().trained) == (2 * BATCH, BATCH)
        assert store.ledger.balance().unrecorded == BATCH
        store.client.delete(store.key("endpoint"), store.key("ledger"), store.key("sequences"), store.key("change"))
        second.report()
        assert store.ledger.balance().unrecorded == 2 * BATCH, "and if Redis comes back empty"
    sender.outbox.close()


def test_a_start_that_fails_frees_the_port(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = configuration(store, tmp_path)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        listen = f"tcp://127.0.0.1:{free.getsockname()[1]}"

    def broken(*_: Any) -> None:
        raise SetupError("the pool cannot be read")

    with monkeypatch.context() as patched:
        patched.setattr("learner.pool.Pool.restore", broken)
        with pytest.raises(SetupError, match="the pool cannot be read"), learning(store, config, listen):
            pass
    assert store.endpoint() is None, "what is not ready is not announced"
    deadline = time.monotonic() + 10
    while True:  # ZeroMQ closes sockets in a thread of its own
        with contextlib.suppress(zmq.ZMQError, SetupError), learning(store, config, listen):
            break
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_constructing_a_learner_touches_neither_redis_nor_the_network(store: Store, tmp_path: Path) -> None:
    config = configuration(store, tmp_path)
    LearnerService(store, config, "tcp://nowhere.invalid:1", "127.0.0.1", Ranks(CPU))
    assert not list(store.client.scan_iter(match=store.key("*")))


@pytest.mark.parametrize("core", ["gru", "lstm"])
def test_a_learner_resumes_exactly_from_its_checkpoint_on_disk(store: Store, tmp_path: Path, core: str) -> None:
    """Two updates, a checkpoint, a third; then another learner makes that third update from the files alone."""
    config = configuration(store, tmp_path, f"network.core={core}", "learner.minibatches=2")
    with learning(store, config) as whole:
        sender = Sender(store, config)
        for _ in range(2):
            sender.update(whole)
        whole.save()
        folder = RunFolder.of(config.run)
        kept = tmp_path / "kept"
        shutil.copytree(folder.checkpoints, kept)
        version = whole.learner.version
        sender.update(whole)
        expected, counters = whole.learner.tensors(), whole.learner.counters()
        sender.outbox.close()
    for key in store.client.scan_iter(match=store.key("*")):
        store.client.delete(key)
    torch.manual_seed(99)  # another process
    shutil.rmtree(folder.checkpoints)
    shutil.copytree(kept, folder.checkpoints)
    with learning(store, config) as resumed:
        assert (resumed.learner.updates, resumed.learner.version) == (2, version)
        sender = Sender(store, config, "a-2", skip=2 * BATCH)
        sender.update(resumed)
        found = resumed.learner.tensors()
        assert resumed.learner.counters() == counters
        sender.outbox.close()
    assert found.keys() == expected.keys()
    for group, tensors in expected.items():
        assert found[group].keys() == tensors.keys()
        for name, x in tensors.items():
            if group != "random":  # of torch, which no update draws from
                assert torch.equal(found[group][name], x), f"{group}/{name}"
    updates = [line["updates"] for line in read_lines(folder.metrics)]
    assert updates == [1, 2, 3]


def test_the_loop_reports_every_advance_and_stops(store: Store, tmp_path: Path) -> None:
    """`advanced` is what health checks read: it has to follow the updates, and only those."""
    config = configuration(store, tmp_path)
    arguments = (store, config, "tcp://127.0.0.1:*", "127.0.0.1", Launch())
    threads = torch.get_num_threads()
    loop = threading.Thread(target=service.run, args=arguments, daemon=True)
    loop.start()
    try:
        sender = Sender(store, config)
        worker = _reported(store, lambda fields: fields.get("state") == "waiting for unrolls")
        assert "advanced" not in worker
        times = []
        for update in range(2):
            started = time.time()
            sender.batch(update)
            worker = _reported(store, _after(started), sender)
            times.append(float(worker["advanced"]))
            assert started - 0.01 <= times[-1] <= time.time()
        quiet = _reported(store, lambda fields: float(fields["reported"]) > times[-1] + 0.5)
        assert float(quiet["advanced"]) == times[-1]
        sender.outbox.close()
    finally:
        store.stopping.set()
        loop.join(30)
        torch.set_num_threads(threads)
    assert not loop.is_alive()
    assert store.hash("progress")["state"] == "stopped" and store.ledger.balance().holds
    assert RunFolder.of(config.run).checkpoints.is_dir()


def _after(started: float) -> Any:
    return lambda fields: float(fields.get("advanced", 0)) >= started - 0.01


def _reported(store: Store, wanted: Any, sender: Sender | None = None) -> dict[str, str]:
    """Waits for a heartbeat of the learner that looks as wanted."""
    deadline = time.monotonic() + 30
    while True:
        fields = store.workers().get(("learner", "learner"), {})
        if fields and wanted(fields):
            return fields
        assert time.monotonic() < deadline, fields
        if sender is None:
            time.sleep(0.02)
        else:
            sender.outbox.pump(0.02)
