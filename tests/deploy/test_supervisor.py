"""The whole system as real processes: it trains, survives the death of its parts, stops cleanly and resumes."""

import json
import os
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path

import command
import pytest
from supervised_runs import PATIENCE_S, QUICK, Training

from common.files import read_lines
from common.store import Store
from deploy.redis_server import RedisServer

pytestmark = pytest.mark.slow

REFUSALS = {
    "out of memory": (["CONFIG", "SET", "maxmemory", "1"], ["CONFIG", "SET", "maxmemory", "0"]),
    "read-only": (["REPLICAOF", "127.0.0.1", "1"], ["REPLICAOF", "NO", "ONE"]),
}
"""How a server comes to refuse writes, and how it stops."""


def test_a_run_on_a_real_substrate_recovers_stops_in_order_and_resumes(start_training: Callable[..., Training]) -> None:
    game = "running_with_scissors_in_the_matrix__one_shot"  # its episodes are short, for the games at the end
    training = start_training("--substrate", game, "--actors", "2", *QUICK)
    training.until("it updates", lambda: training.updates() > 3)
    for role in ("actor", "distiller", "learner"):
        training.kill(role, signal.SIGKILL)
    balance = training.settled()
    assert balance.holds, balance
    assert balance.trained > 0
    events = [fields["event"] for _, fields in training.store.stream("events", 1000)]
    assert events.count("restart") == 3
    assert "distillation" in events
    assert training.stop() == 0, training.output()
    lines = read_lines(training.folder / "metrics.jsonl")
    assert [line["updates"] for line in lines] == list(range(1, len(lines) + 1))

    resumed = start_training("--steps", str(lines[-1]["player_steps"] + 3000), "--games", "2")
    assert resumed.process.wait(PATIENCE_S) == 0, resumed.output()
    more = read_lines(resumed.folder / "metrics.jsonl")
    assert [line["updates"] for line in more] == list(range(1, len(more) + 1))
    assert len(more) > len(lines)
    assert more[len(lines)]["player_steps"] > lines[-1]["player_steps"]
    versions = [line["version"] for line in more]
    assert versions == sorted(set(versions))
    summary = json.loads((resumed.folder / "summary.json").read_text())
    assert summary["player_steps"] == more[-1]["player_steps"]
    assert (resumed.folder / "learning_curve.png").stat().st_size > 10_000


def test_a_run_survives_the_death_of_redis(start_training: Callable[..., Training]) -> None:
    training = start_training("--substrate", "matrix_coordination", "--set", "actor.unroll_length=16", *QUICK)
    training.until("it updates", lambda: training.updates() > 3)
    os.kill(training.store.client.info("server")["process_id"], signal.SIGKILL)
    updates = training.updates()
    training.until("the run continues", lambda: training.updates() > updates + 5)
    balance = training.settled()
    assert balance.holds, balance
    assert training.stop() == 0


def more(now: dict[str, tuple[int, int]], before: dict[str, tuple[int, int]]) -> int:
    """How many incarnations have produced more than before, and had it accounted for."""
    return sum(n > before.get(name, (0, 0))[0] <= done for name, (n, done) in now.items())


def outlasts(start_training: Callable[..., Training], server: RedisServer, trouble: Callable[[], None]) -> None:
    """Checks that no role of a run exits while its Redis is in trouble, and that all of them continue afterwards."""
    game = ["--substrate", "matrix_coordination", "--actors", "2", "--set", "actor.unroll_length=16"]
    training = start_training(*game, "--redis", server.url, *QUICK)
    store = training.store
    training.until("it updates", lambda: training.updates() > 3 and len(store.workers()) == 4)
    training.until("it distils", lambda: (store.version("phi") or 0) > 0)
    living, theta, phi = training.incarnations(), store.version("theta") or 0, store.version("phi") or 0
    trouble()
    training.until("theta goes on", lambda: (store.version("theta") or 0) > theta + 5)
    training.until("phi goes on", lambda: (store.version("phi") or 0) > phi)
    training.until("the same roles are there", lambda: training.incarnations() == living)
    sent = store.ledger.incarnations()
    training.until("both actors play on", lambda: more(store.ledger.incarnations(), sent) == 2)
    assert training.settled().holds
    events = [fields["event"] for _, fields in store.stream("events", 1000)]
    assert "restart" not in events and "error" not in events
    assert training.stop() == 0, training.output()


@pytest.mark.parametrize(("away_s", "emptied"), [(30.0, False), (15.0, True)], ids=["away 30 s", "back empty"])
def test_every_role_outlasts_a_redis_that_is_away(
    start_training: Callable[..., Training], tmp_path: Path, away_s: float, emptied: bool
) -> None:
    """Meanwhile all heartbeats expire, and actors are silent for longer than the learner counts them as there."""
    with RedisServer(tmp_path / "elsewhere") as server:

        def away() -> None:
            assert server.pid is not None
            os.kill(server.pid, signal.SIGKILL)
            time.sleep(away_s)
            assert server.poll() is not None
            if emptied:
                for data in (tmp_path / "elsewhere").glob("appendonly*"):
                    shutil.rmtree(data) if data.is_dir() else data.unlink()
            server.restart()
            assert bool(Store(server.url, "run").client.exists("bidist:run:starts")) is not emptied

        outlasts(start_training, server, away)


@pytest.mark.parametrize(("spoil", "mend"), REFUSALS.values(), ids=REFUSALS)
def test_every_role_outlasts_a_redis_that_refuses_writes(
    start_training: Callable[..., Training], tmp_path: Path, spoil: list[str], mend: list[str]
) -> None:
    with RedisServer(tmp_path / "elsewhere") as server:
        store = Store(server.url, "run")

        def refusing() -> None:
            store.client.execute_command(*spoil)
            version = store.version("theta")
            time.sleep(15.0)
            assert store.version("theta") == version and not store.workers(), "nothing was written, and heartbeats end"
            store.client.execute_command(*mend)

        outlasts(start_training, server, refusing)


def test_roles_that_are_stopped_come_back_and_only_one_process_may_train_a_run(
    start_training: Callable[..., Training],
) -> None:
    training = start_training("--substrate", "matrix_coordination", "--set", "actor.unroll_length=16", *QUICK)
    training.until("it updates", lambda: training.updates() > 3)
    settings = (training.folder / "config.yaml").read_bytes()
    resume = ["train", "--folder", str(training.folder.parent), "--resume", "run", "--steps", "99000000"]
    second = command.bidist(*resume)
    assert (second.returncode, second.stdout) == (2, "")
    assert "is already running" in second.stderr
    assert (training.folder / "config.yaml").read_bytes() == settings
    for role in ("actor", "distiller", "learner"):
        training.kill(role, signal.SIGTERM)
    assert training.settled().holds
    assert training.stop() == 0, training.output()


def test_a_role_that_cannot_start_ends_the_run_with_the_reason(start_training: Callable[..., Training]) -> None:
    training = start_training("--substrate", "matrix_coordination", "--set", "learner.device=cuda:7")
    assert training.process.wait(PATIENCE_S) == 2
    assert (
        training.output()
        .splitlines()[-1]
        .startswith("bidist: error: learner cannot run: learner.device=cuda:7: torch finds no usable GPU")
    )
