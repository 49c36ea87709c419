"""Searches for settings: ranges, what is refused, and a search that is stopped and goes on; submission to a cluster."""

import math
import re
import sys
from pathlib import Path
from typing import Any

import pytest

from common.errors import ConfigError, SetupError
from deploy.cli import main
from experiments.cluster import parse_options, submit
from experiments.plan import make_plan, read_plan
from experiments.sweep import open_sweep
from experiments.trials import progress
from experiments.tune import JOURNAL, Range, Search

GAME = "matrix_coordination"
QUICK = ["--substrate", GAME, "--method", "mappo", "--steps", "1500", "--set", "actor.unroll_length=16", "--set",
         "network.core_size=8"]  # fmt: skip


class Suggests:
    """Stands in for Optuna's trial: the lowest value, and what it was asked for."""

    def __init__(self) -> None:
        self.asked: list[tuple[Any, ...]] = []

    def suggest_float(self, *asked: Any, log: bool) -> Any:
        self.asked.append(("float", *asked, log))
        return asked[1]

    def suggest_int(self, *asked: Any, log: bool) -> Any:
        self.asked.append(("int", *asked, log))
        return asked[1]

    def suggest_categorical(self, *asked: Any) -> Any:
        self.asked.append(("choice", *asked))
        return asked[1][0]


@pytest.mark.parametrize(
    ("text", "asked"),
    [
        ("log:1e-4..1e-3", ("float", "a.b", 1e-4, 1e-3, True)),
        ("0.9..1", ("float", "a.b", 0.9, 1, False)),
        ("1..4", ("int", "a.b", 1, 4, False)),
        ("log:4..64", ("int", "a.b", 4, 64, True)),
        ("4|8|16", ("choice", "a.b", (4, 8, 16))),
        ("gae|vtrace", ("choice", "a.b", ("gae", "vtrace"))),
    ],
)
def test_ranges_ask_for_what_they_say(text: str, asked: tuple[Any, ...]) -> None:
    found, trial = Range.parse("a.b", text), Suggests()
    assert found is not None
    assert found.suggest(trial) == (asked[2][0] if asked[0] == "choice" else asked[2])
    assert trial.asked == [asked]


@pytest.mark.parametrize("value", [3, 0.5, "gae", None, True])
def test_other_values_are_no_ranges(value: Any) -> None:
    assert Range.parse("a.b", value) is None


@pytest.mark.parametrize("text", ["2..1", "a..b", "log:0..1", "1..", "..2"])
def test_broken_ranges_are_named(text: str) -> None:
    with pytest.raises(ConfigError, match=rf"--set a.b={re.escape(text)}: expected low..high"):
        Range.parse("a.b", text)


@pytest.mark.parametrize(
    ("tree", "ranges", "measure", "words"),
    [
        ({}, [], "return_auc", "nothing to search: give a range"),
        ({}, [Range("learner.clip", 0.1, 0.3)], "reward", "--measure reward: expected one of return_auc"),
        ({}, [Range("learner.clip", 0.1, 0.3)], "scaled", "needs validation scenarios"),
        ({"evaluation": {"scenarios": [6, 4]}}, [Range("learner.clip", 0.1, 0.3)], "scaled", "_4 is a test scenario"),
    ],
)
def test_a_search_that_would_mean_nothing_is_refused(
    tmp_path: Path, tree: dict[str, Any], ranges: list[Range], measure: str, words: str
) -> None:
    with pytest.raises(ConfigError, match=words):
        Search(make_plan(tree), ranges, measure, tmp_path, 1, [], None)  # type: ignore[arg-type]
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_a_search_goes_on_and_measures_no_suggestion_twice(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["tune", *QUICK, "--set", "learner.learning_rate=log:1e-4..1e-2", "--set", "learner.epochs=1|2", "--out",
               str(tmp_path)]  # fmt: skip
    assert main([*command, "--trials", "1"]) == 0
    (first,) = read_plan(tmp_path, {}).trials()
    settings = dict(first.settings)
    assert 1e-4 <= settings["learner.learning_rate"] <= 1e-2 and settings["learner.epochs"] in (1, 2)
    assert main([*command, "--trials", "2"]) == 0
    trials = read_plan(tmp_path, {}).trials()
    assert [t.variant for t in trials] == ["t0", "t1"]
    assert trials[0].settings == first.settings
    assert all(progress(tmp_path, t).state == "done" for t in trials)
    report = (tmp_path / "tune.md").read_text()
    values = [float(line.split("|")[2]) for line in report.splitlines() if line.startswith("| t")]
    assert values == sorted(values, reverse=True) and len(values) == 2 and not math.isnan(values[0])
    assert "best of 2: return_auc" in capsys.readouterr().out
    assert (tmp_path / JOURNAL).exists()


@pytest.mark.slow
def test_submitted_jobs_do_the_work(tmp_path: Path) -> None:
    """Through submitit's executor for this machine, which is as SLURM's but for where the jobs run."""
    plan = make_plan({"methods": ["mappo"], "substrates": [GAME], "steps": 1500, "seeds": [0, 1],
                      "settings": {"actor.unroll_length": 16, "network.core_size": 8}})  # fmt: skip
    open_sweep(plan, tmp_path)
    for job in submit(tmp_path, 2, {"cluster": "local", "timeout_min": 5}, ["--jobs", "1"]):
        job.result()
    assert {progress(tmp_path, trial).state for trial in plan.trials()} == {"done"}


def test_a_cluster_that_is_not_there_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SetupError, match="submitit cannot submit from here"):
        submit(tmp_path, 1, {}, [])
    with pytest.raises(ConfigError, match="--slurm-option: .*fast"):
        submit(tmp_path, 1, {"cluster": "local", "fast": 1}, [])
    with pytest.raises(ConfigError, match="--slurm-option timeout: expected key=value"):
        parse_options(["timeout"])


@pytest.mark.parametrize(("module", "command"), [("optuna", "tune"), ("submitit", "sweep")])
def test_extras_that_are_missing_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], module: str, command: str
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    extra = ["--set", "learner.clip=0.1..0.2"] if command == "tune" else ["--slurm", "1"]
    assert main([command, *QUICK, *extra, "--out", str(tmp_path)]) == 2
    assert f'pip install "bidist[{"tune" if command == "tune" else "slurm"}]"' in capsys.readouterr().err
