"""A run in which everything is killed and stopped keeps its ledger; and the report of one that did not says so."""

import itertools
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil
import pytest
from command import bidist

from experiments.stress.chaos import Report, faults, run
from experiments.stress.targets import VICTIMS

ROOT = Path(__file__).parents[2]
WHOLE = {"produced": 9, "trained": 4, "stale": 1, "rejected": 0, "rewound": 2, "lost": 1, "in_flight": 1}


def report(**changes: Any) -> Report:
    made = Report(seed=1, seconds=1.0, unrolls_in_checkpoint=4, exit_status=0, ledger=dict(WHOLE))
    for name, value in changes.items():
        setattr(made, name, value)
    return made


def test_a_run_in_which_all_was_accounted_for_has_no_problems() -> None:
    assert report().problems == []


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"ledger": WHOLE | {"produced": 10}}, "1 unrolls are unaccounted for"),
        ({"ledger": WHOLE | {"lost": 2}}, "-1 unrolls are unaccounted for"),
        ({"ledger": WHOLE | {"trained": 5, "lost": 0}}, "5 unrolls are trained in the ledger, 4 in the checkpoint"),
        ({"ledger": WHOLE | {"rejected": 1, "lost": 0}}, "1 unrolls were rejected"),
        ({"versions_went_back": 2}, "a version went back 2 times"),
        ({"longest_rewind_s": 6.0}, "the learner went back 6.0 s, with a checkpoint every 5 s"),
        ({"exit_status": 3}, "the run ended with status 3"),
    ],
)
def test_a_broken_promise_is_a_problem(changes: dict[str, Any], problem: str) -> None:
    assert report(**changes).problems == [problem]


def test_faults_derive_from_the_seed_and_hit_every_part() -> None:
    first, second, other = (list(itertools.islice(faults(seed), 200)) for seed in (1, 1, 2))
    assert first == second != other
    assert {fault.victim for fault in first} == set(VICTIMS)
    assert 30 < sum(fault.stopped_s is not None for fault in first) < 100


@pytest.mark.slow
@pytest.mark.parametrize(
    ("options", "error"),
    [
        (("--compose", "absent.yml"), "--compose absent.yml: there is no such file"),
        (("--compose", "docker-compose.yml", "--actors", "2"), "--actors and --compose exclude each other"),
    ],
)
def test_a_wrong_option_is_refused_before_anything_starts(options: tuple[str, ...], error: str) -> None:
    done = bidist("chaos", *options)
    assert done.returncode == 2
    assert error in done.stderr and len(done.stderr.splitlines()) == 1


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_command_that_is_ended_leaves_no_run_behind(tmp_path: Path, number: signal.Signals) -> None:
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    command = [sys.executable, "-m", "cli", "chaos", "--minutes", "5"]
    with subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE) as chaos:
        assert chaos.stdout is not None
        assert b" of 300 s " in chaos.stdout.readline()
        family = psutil.Process(chaos.pid).children(recursive=True)
        assert len(family) >= 4, "the supervisor, Redis and roles"
        chaos.send_signal(number)
        assert chaos.wait(60) == (128 + number if number == signal.SIGTERM else -number)
    _, living = psutil.wait_procs(family, 60)
    assert not living
    assert number == signal.SIGKILL or list(tmp_path.glob("bidist-*")) == []


@pytest.mark.slow
def test_a_real_run_survives_and_everything_is_accounted_for(tmp_path: Path) -> None:
    lines: list[str] = []
    found = run(25.0, seed=3, out=tmp_path / "out" / "report.json", say=lines.append)
    assert found.problems == [], "\n".join(lines)
    assert sum(found.total.values()) >= 3 and len(lines) >= sum(found.total.values())
    written = json.loads((tmp_path / "out" / "report.json").read_text())
    assert written["ledger"] == found.ledger and written["total"] == found.total and written["seed"] == 3
