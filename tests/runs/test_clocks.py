"""Clocks are set forward or back an hour: no live role is considered dead, and nothing waits for a dead one."""

import itertools
import shutil
import subprocess
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from senders import BATCH, Sender
from learner_runs import configuration, learning
from supervised_runs import QUICK, Training
from waiting import until

from common.errors import SetupError
from common.lifecycle import Presence
from common.store import Store
from learner.ownership import Ownership


HOUR_MS = 3_600_000
SHIM = Path(__file__).parents[1] / "helpers" / "wall_clock.c"


def set_redis_clock_forward(store: Store) -> None:
    """What an hour does to keys that expire: Redis computes when they do by the clock of its machine."""
    for key in store.client.scan_iter(match=store.key("*")):
        if store.client.pttl(key) >= 0:
            store.client.delete(key)


def test_an_actor_is_not_closed_because_every_heartbeat_expires_at_once(store: Store, tmp_path: Path) -> None:
    config = configuration(store, tmp_path)
    with learning(store, config) as learner:
        sender = Sender(store, config)
        with Presence(store, "actor", "a", "a-1", heartbeat_s=0.1):
            sender.update(learner)
            sender.batch(learner.learner.version)
            set_redis_clock_forward(store)
            assert not store.workers()
            learner.report()
            assert "a-1" in store.ledger.incarnations(), "the learner still hears from it"
            while not learner.step(timeout_s=0.01):
                sender.outbox.pump(0.01)
            until(lambda: ("actor", "a") in store.workers(), what=lambda: "its next heartbeat brings it back")
        balance = store.ledger.balance()
        assert (balance.trained, balance.lost) == (2 * BATCH, 0)
        sender.outbox.close()


def test_a_dead_learner_is_replaced_although_its_heartbeat_would_last_for_an_hour(store: Store) -> None:
    """Redis' clock was set back after the last heartbeat of a learner on another machine."""
    dead: dict[str, str | int | float] = {"incarnation": "learner-dead", "host": "elsewhere", "pid": 1, "reported": 1}
    store.put_worker("learner", "learner", dead, ttl_s=HOUR_MS / 1000)
    Ownership(store, "learner-next", silence_s=0.5).claim()
    assert store.workers()["learner", "learner"]["incarnation"] == "learner-next"


def test_a_living_learner_is_not_replaced_while_its_clock_is_set_to_and_fro(store: Store) -> None:
    over = threading.Event()

    def beat(clock_s: float) -> None:
        fields: dict[str, str | int | float] = {"incarnation": "x", "host": "elsewhere", "pid": 1}
        store.put_worker("learner", "learner", fields | {"reported": time.time() + clock_s}, ttl_s=60)

    def live() -> None:
        for number in itertools.count():
            if over.wait(0.05):
                return
            beat((-3600, 3600)[number % 2])  # each heartbeat says another time

    beat(0)
    thread = threading.Thread(target=live, daemon=True)
    thread.start()
    try:
        with pytest.raises(SetupError, match="has a learner already"):
            Ownership(store, "learner-next", silence_s=5.0).claim()
    finally:
        over.set()
        thread.join()


@pytest.mark.slow
def test_the_clock_of_a_whole_run_is_set_forward_and_back_an_hour(
    start_training: Callable[..., Training], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Redis, the supervisor and all roles read a wall clock that jumps; the monotonic one does not."""
    if (compiler := shutil.which("cc")) is None:
        pytest.skip("no C compiler here")
    shim, clock = tmp_path / "wall_clock.so", tmp_path / "clock"
    subprocess.run([compiler, "-shared", "-fPIC", "-O1", "-o", shim, SHIM, "-ldl"], check=True)
    clock.write_text("0")
    monkeypatch.setenv("LD_PRELOAD", str(shim))
    monkeypatch.setenv("WALL_CLOCK", str(clock))
    training = start_training("--substrate", "matrix_coordination", "--actors", "1", "--set=actor.unroll_length=16", *QUICK)

    def lives() -> dict[tuple[str, str], str]:
        return {role: fields["incarnation"] for role, fields in training.store.workers().items()}

    training.until("all roles are up", lambda: training.updates() > 3 and len(lives()) == 3)
    before = lives()
    for hours in (1, 0, -1, 0):
        clock.write_text(str(3600 * hours))
        training.until("Redis' clock is set", partial(clock_is_set, training, 3600 * hours))
        training.until("the run continues", partial(has_updated, training, training.updates() + 5))
        training.until("every role reports again", lambda: lives().keys() == before.keys())
        assert lives() == before
    events = [fields["event"] for _, fields in training.store.stream("events", 1000)]
    assert "restart" not in events and "stop" not in events and "error" not in events
    assert training.settled().holds and training.store.ledger.balance().lost == 0
    assert training.stop() == 0


def clock_is_set(training: Training, ahead_s: float) -> bool:
    """Whether Redis' clock is that far ahead of this process's, which is not set."""
    return bool(abs(training.store.client.time()[0] - time.time() - ahead_s) < 60)


def has_updated(training: Training, more_than: int) -> bool:
    return training.updates() > more_than
