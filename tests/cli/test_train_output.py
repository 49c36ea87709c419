"""What `bidist train` says of itself where nobody sits at a terminal, and what it does once nobody reads it."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from command import ROOT
from supervised_runs import PATIENCE_S, QUICK, Training

from common.store import Store

pytestmark = pytest.mark.slow

GAME = ("--substrate", "matrix_coordination", "--actors", "1", "--set", "actor.unroll_length=16", *QUICK)
TIMED = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ ")


def trains(training: Training) -> None:
    before = training.updates()
    training.until("it trains", lambda: training.updates() > before + 2)


def deaths(training: Training) -> list[str]:
    """Kills an actor and Redis, stops the run once it has mended both, and returns what it said."""
    trains(training)
    training.kill("actor", signal.SIGKILL)
    os.kill(training.store.client.info("server")["process_id"], signal.SIGKILL)
    trains(training)
    assert training.stop() == 0
    return training.output().splitlines()


@pytest.mark.parametrize("form", ["plain", "json"])
def test_each_line_has_its_time_or_is_a_record_of_its_run(
    start_training: Callable[..., Training], monkeypatch: pytest.MonkeyPatch, form: str
) -> None:
    """All roles start, although the environment gives each the same port for its probes."""
    monkeypatch.setenv("BIDIST_LOG", form)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        monkeypatch.setenv("BIDIST_HEALTH_PORT", str(taken.getsockname()[1]))
        said = deaths(start_training(*GAME))
        resumed = start_training()
        trains(resumed)
        assert resumed.stop() == 0
        said += resumed.output().splitlines()
    if form == "plain":
        assert [line for line in said if not TIMED.match(line)] == []
        warned = [line for line in said if f"train     run@{socket.gethostname()} WARNING" in line]
    else:
        records = [json.loads(line) for line in said]
        assert {(record["role"], record["run"]) for record in records} == {("train", "run")}
        warned = [record["message"] for record in records if record["level"] == "WARNING"]
    for words in ("actor-0 died (status -9), playing matrix_coordination: restarting it in", "Redis died"):
        assert any(words in line for line in warned), said
    for words in ("budget: ", "run run, folder ", "player steps | ", "stopped; resume with: bidist train --resume run"):
        assert any(words in line for line in said), said


@pytest.mark.parametrize("errors", [subprocess.PIPE, subprocess.STDOUT], ids=["| head -2", "2>&1 | head -2"])
def test_a_run_whose_reader_leaves_stops_in_order(store: Store, tmp_path: Path, errors: int) -> None:
    run = ["--folder", str(tmp_path), "--run", store.run, "--redis", store.url, *GAME]
    command = [sys.executable, "-m", "cli", "train", *run]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=errors, text=True) as training:
        try:
            assert training.stdout is not None
            assert "budget: " in training.stdout.readline() and f"run {store.run}, " in training.stdout.readline()
            training.stdout.close()
            said = "" if training.stderr is None else training.stderr.read()
            assert training.wait(PATIENCE_S) == 0, "as after Ctrl-C"
        finally:
            training.kill()
    if errors == subprocess.PIPE:
        assert said.splitlines()[-1].endswith(f"resume with: bidist train --resume {store.run} --folder {tmp_path}")
        assert "Errno" not in said
    assert store.ledger.balance().holds and not store.workers(), "every role has left, and said so"
