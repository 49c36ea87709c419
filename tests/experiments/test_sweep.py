"""Sweeps: the progress of trials, their results, and a sweep that is killed and resumed."""

import csv
import json
import math
import os
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import command
import psutil
import pytest
from waiting import until

from common.checkpoint import checkpoints
from common.config import Config, EnvironmentConfig, MethodConfig
from common.files import append_line, locked, read_lines, write
from common.run_folder import RunFolder
from evaluator.results import lock_of
from experiments.sweeps.folder import open_sweep
from experiments.sweeps.plan import make_plan, read_plan
from experiments.sweeps.progress import NOTES, TRIALS, Notes, area_under_curve, progress, row, write_rows
from experiments.sweeps.report import evenness, scaled, write_sweep_report
from experiments.sweeps.view import Clock, plain

GAME = "matrix_coordination"
QUICK = {"actor.unroll_length": 16, "network.dense": 8, "network.core_size": 8}


def test_area_under_a_curve() -> None:
    lines = [{"player_steps": s, "return_learning": r} for s, r in ((100, None), (200, 1.0), (300, 3.0), (700, 3.0))]
    assert area_under_curve(lines, "return_learning") == pytest.approx((200 * 1 + 100 * 2 + 400 * 3) / 700)
    assert math.isnan(area_under_curve(lines[:1], "return_learning"))


def trained(tmp_path: Path, episodes: int = 0) -> Any:
    """A sweep whose one trial is trained, judging by its files."""
    evaluation = {"scenarios": [5, 6], "episodes": 2}
    plan = make_plan({"methods": ["mappo"], "substrates": ["coins"], "steps": 1000, "evaluation": evaluation})
    plan.save(tmp_path)  # `open_sweep` would ask for bots
    (tmp_path / NOTES).mkdir()
    (trial,) = plan.trials()
    folder = trial.folder(tmp_path)
    folder.path.mkdir()
    folder.create(Config(method=MethodConfig(name="mappo"), environment=EnvironmentConfig(substrate="coins")))
    Notes.of(tmp_path, trial).write(command=trial.command, commit="abc", host="here")
    for steps, earned in ((512, 2.0), (1024, 4.0)):
        append_line(folder.metrics, {"player_steps": steps, "return_learning": earned, "episode_coins_matched": 3.0})
    write(folder.summary, json.dumps({"wall_s": 10.0, "trained": None}).encode())
    for n in range(episodes):
        for checkpoint, gain in (("00000002", 0), ("00000002-average", 50)):
            played = {"scenario": f"coins_{5 + n % 2}", "episode": n // 2, "evaluation_seed": 0, "reference": False}
            result = {"updates": 2, "checkpoint": checkpoint, "focal_return": float(n + gain)}
            append_line(folder.evaluation, played | result)
    return trial


def test_state_of_a_trial(tmp_path: Path) -> None:
    trial = trained(tmp_path, episodes=3)
    seen = progress(tmp_path, trial)
    assert (seen.state, seen.player_steps, seen.training_return, seen.episodes) == ("stopped", 1024, 4.0, 3)
    assert seen.trained
    longer = replace(trial, steps=2000)
    assert not progress(tmp_path, longer).trained, "its summary is of a shorter run"
    with locked(lock_of(trial.folder(tmp_path).evaluation)):
        assert progress(tmp_path, trial).state == "evaluating", "by a process whose sweep was killed"
    notes = Notes.of(tmp_path, trial)
    with locked(notes.lock):
        assert progress(tmp_path, trial).state == "evaluating"
        trial.folder(tmp_path).summary.rename(tmp_path / "away")
        assert progress(tmp_path, trial).state == "training"
    (tmp_path / "away").rename(trial.folder(tmp_path).summary)
    notes.write(error="bidist: error: no bots", failed_at=0)
    assert (progress(tmp_path, trial).state, progress(tmp_path, trial).error) == ("failed", "bidist: error: no bots")
    assert "0 of 1 trials done | 1 failed" in plain({trial: progress(tmp_path, trial)}, Clock())


def test_row_of_a_trial(tmp_path: Path) -> None:
    trial = trained(tmp_path, episodes=4)
    assert progress(tmp_path, trial).state == "done"
    found = row(tmp_path, trial)
    assert (found["return_end"], found["episode_coins_matched_end"], found["commit"]) == (4.0, 3.0, "abc")
    assert (found["focal_5"], found["focal_6"]) == (1.0, 2.0), "of theta, not of its average"
    assert found["command"] == trial.command
    expected = ((1.0 + 29.9565) / (113.1556 + 29.9565) + (2.0 + 144.1794) / (3.9712 + 144.1794)) / 2
    assert scaled(found, trial.scenarios) == pytest.approx(expected, abs=1e-3)
    assert evenness(found, trial.scenarios) == 0.5
    write_rows([found, {"run": "x", "more": 1.23456789}], tmp_path / TRIALS)
    with (tmp_path / TRIALS).open() as file:
        first, second = csv.DictReader(file)
    assert (first["host"], first["more"], second["more"], second["host"]) == ("here", "", "1.2346", "")
    assert scaled({"focal_5": 1.0}, trial.scenarios) is None


def test_report_of_an_unfinished_sweep(tmp_path: Path) -> None:
    plan = make_plan(
        {"methods": ["bidist-all-fictitious", "mappo"], "substrates": [GAME], "steps": 900, "seeds": "0-1"}
    )
    open_sweep(plan, tmp_path)
    for trial in plan.trials():
        if trial.seed == 1 and trial.method == "mappo":
            continue  # never started
        folder = trial.folder(tmp_path)
        folder.create(Config(method=MethodConfig(name=trial.method), environment=EnvironmentConfig(substrate=GAME)))
        Notes.of(tmp_path, trial).write(command=trial.command)
        name = "return_learning" if trial.method == "mappo" else "return_others"
        for steps in (300, 600, 900)[: 3 - trial.seed]:
            append_line(folder.metrics, {"player_steps": steps, name: steps / 100 + trial.seed})
        if trial.seed == 0:
            write(folder.summary, json.dumps({"wall_s": 3.0, "random": None, "trained": None}).encode())
    text = write_sweep_report(tmp_path, tmp_path / "report").read_text()
    assert "2 of 4 trials are done" in text
    assert f"- bidist-all-fictitious-{GAME}-s1: stopped, 67% trained" in text
    (line,) = [line for line in text.splitlines() if line.startswith("| bidist-all-fictitious |")]
    assert [part.strip() for part in line.split("|")][2:6] == ["1", "0 M", "5.00", "9.00"], (
        "of the finished trial alone"
    )
    assert (tmp_path / "report" / "learning_curves.png").exists()


def settings(extra: dict[str, Any]) -> list[str]:
    return [part for key, value in (QUICK | extra).items() for part in ("--set", f"{key}={value}")]


@pytest.mark.slow
def test_killed_sweep_resumes(tmp_path: Path) -> None:
    """The sweep is killed with SIGKILL during a trial; a second process then does exactly what is left."""
    options = ["--seeds", "0-1", "--steps", "30000", "--out", str(tmp_path)]
    quick = settings({"run.checkpoint_s": 0.2, "run.heartbeat_s": 0.5})
    first = tmp_path / f"mappo-{GAME}-s0"
    killed = command.start("sweep", "--method", "mappo", "--substrate", GAME, *options, *quick, new_session=True)
    until(lambda: any(first.glob("checkpoints/0*")) or killed.poll() is not None, patience_s=120)
    assert killed.poll() is None, killed.communicate()[0]
    os.kill(killed.pid, signal.SIGKILL)
    killed.communicate()
    status = command.bidist("sweep", str(tmp_path), "--status")
    assert ", 1 waiting" in status.stdout
    assert status.returncode == 1

    resumed = command.bidist("sweep", str(tmp_path))
    assert resumed.returncode == 0, resumed.stdout + resumed.stderr
    assert "2 trials: 2 done" in resumed.stdout
    with (tmp_path / TRIALS).open() as file:
        rows = list(csv.DictReader(file))
    assert [r["state"] for r in rows] == ["done", "done"]
    assert all(int(r["player_steps"]) >= 30000 and float(r["return_auc"]) > 0 for r in rows)
    assert "continuing from" in (first / "logs" / "learner.log").read_text()

    report = write_sweep_report(tmp_path, tmp_path / "report").read_text()
    assert "2 of 2 trials are done" in report and "| mappo | 2 |" in report
    assert (tmp_path / "report" / "learning_curves.png").stat().st_size > 10_000


@pytest.mark.slow
def test_failing_trial_is_reported_and_the_others_continue(tmp_path: Path) -> None:
    """Two processes share the work; the folder of one trial holds no run."""
    broken, whole = (tmp_path / f"{method}-{GAME}-s0" for method in ("bidist", "mappo"))
    options = [
        "--method",
        "bidist,mappo",
        "--substrate",
        GAME,
        "--steps",
        "2000",
        "--out",
        str(tmp_path),
        *settings({}),
    ]
    refused = command.bidist("sweep", *options, "--steps", "0")
    assert "steps: " in refused.stderr and refused.returncode == 2
    open_sweep(
        make_plan({"methods": ["bidist", "mappo"], "substrates": [GAME], "steps": 2000, "settings": QUICK}), tmp_path
    )
    trial = next(t for t in read_plan(tmp_path, {}).trials() if t.method == "bidist")
    Notes.of(tmp_path, trial).write(command=trial.command)
    broken.mkdir()
    (broken / "config.yaml").write_text("nonsense: 1\n")
    workers = [command.start("sweep", *options, new_session=True) for _ in range(2)]
    outputs = [worker.communicate(timeout=240)[0] for worker in workers]
    assert [worker.returncode for worker in workers] == [1, 1], outputs
    found = {t.method: progress(tmp_path, t) for t in read_plan(tmp_path, {}).trials()}
    assert (found["bidist"].state, found["mappo"].state) == ("failed", "done")
    assert "config.yaml" in found["bidist"].error and "nonsense: no such setting" in found["bidist"].error
    assert all("nonsense" in output for output in outputs)
    log = (tmp_path / NOTES / f"{whole.name}.log").read_text()
    assert log.count("checkpoint:") == 1, "it was trained once"


@pytest.mark.slow
def test_sigterm_to_every_process_of_a_sweep_loses_nothing(tmp_path: Path) -> None:
    """A service manager signals all processes at once, and the sweep and its trial then pass the signal on."""
    options = ["--method", "mappo", "--substrate", GAME, "--steps", "10_000_000", "--out", str(tmp_path)]
    quick = settings({"run.checkpoint_s": 1000, "run.heartbeat_s": 0.5})
    sweep = command.start("sweep", *options, *quick, new_session=True)
    folder = RunFolder(tmp_path / f"mappo-{GAME}-s0")
    until(lambda: len(read_lines(folder.metrics)) >= 5 or sweep.poll() is not None, patience_s=120)
    assert sweep.poll() is None, sweep.communicate()[0]
    for process in [psutil.Process(sweep.pid), *psutil.Process(sweep.pid).children(recursive=True)]:
        if "redis-server" not in process.name():
            process.send_signal(signal.SIGTERM)
    output = sweep.communicate(timeout=120)[0]
    assert sweep.returncode == 130, output
    last = read_lines(folder.metrics)[-1]["updates"]
    assert [path.name for path in checkpoints(folder.checkpoints)][-1:] == [f"{last:08d}"]
    assert "exiting now" not in "".join(log.read_text() for log in folder.logs.glob("*.log"))
