"""The command behind Table 1: its plans, and a tiny run of it that is archived and resumed."""

import shutil
import threading
from pathlib import Path

import pytest
import yaml

from dashboard.results import command as command_of
from evaluator.scenarios import scenario
from experiments.sweeps.plan import read_plan
from experiments.sweeps.reproduce import ARCHIVE, GAMES, PAPER, SMALL, reproduce

ABLATIONS = {"bidist-forward-only", "bidist-no-distillation", "bidist-no-fictitious", "bidist-all-fictitious"}
BEYOND = {"bidist-symmetric", "other-play"}
COMMAND = ["bidist", "reproduce", "--small"]
METHODS = {"bidist", "mappo", "pp", "rpm", "randnet", "opre"}


def test_the_plans_are_the_papers_experiments() -> None:
    plans = {name: read_plan(PAPER / f"{name}.yaml", {}) for name in GAMES}
    assert set(plans) | set(SMALL) == {path.stem for path in PAPER.glob("*.yaml")}
    assert plans["pure_coordination"].methods.keys() == METHODS | ABLATIONS | BEYOND
    assert all(plan.methods.keys() == METHODS for name, plan in plans.items() if name != "pure_coordination")
    for plan in plans.values():
        assert plan.steps == 1_000_000 and len(plan.seeds) >= 5 and max(plan.seeds) < 100
        names = {name for trial in plan.trials() for name in trial.scenarios}
        assert len([name for name in names if int(name.rpartition("_")[2]) < 5]) == 5
        assert {scenario(name).substrate for name in names} == set(plan.substrates)


@pytest.mark.slow
def test_what_is_archived_is_not_run_again(tmp_path: Path) -> None:
    plans, work, out = tmp_path / "plans", tmp_path / "work", tmp_path / "out"
    plans.mkdir()
    tree = {"methods": ["mappo"], "substrates": ["matrix_coordination"], "seeds": [0, 1], "steps": 400}
    (plans / "small.yaml").write_text(yaml.safe_dump(tree | {"settings": {"network.core_size": 8}}))
    assert reproduce(True, work, out, 2, [], threading.Event(), COMMAND, plans)
    kept = sorted(path.name for path in (out / ARCHIVE).iterdir())
    assert kept == [f"mappo-matrix_coordination-s{seed}.json.gz" for seed in (0, 1)]
    assert "2 of 2 trials are done" in (out / "small" / "sweep.md").read_text()
    curves = out / "small" / "learning_curves.png"
    assert curves.exists() and command_of(tmp_path, curves) == "bidist reproduce --small"
    shutil.rmtree(work)
    before = {path: path.stat().st_mtime_ns for path in (out / ARCHIVE).iterdir()}
    assert reproduce(True, work, out, 2, [], threading.Event(), COMMAND, plans)
    assert before == {path: path.stat().st_mtime_ns for path in (out / ARCHIVE).iterdir()}
    assert not list(work.rglob("checkpoints")), "nothing was trained"
    (out / ARCHIVE / kept[1]).unlink()
    shutil.rmtree(work)
    assert reproduce(True, work, out, 2, [], threading.Event(), COMMAND, plans, train=False)
    assert "1 of 2 trials are done" in (out / "small" / "sweep.md").read_text()
    assert not (out / ARCHIVE / kept[1]).exists(), "nothing is run"
