"""Searches for settings: ranges, refusals, a search that is stopped and resumed; submission to a cluster."""

import math
import re
import sys
import threading
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
import yaml

from cli.main import main
from common.errors import ConfigError, SetupError
from common.files import write
from common.settings import parse_overrides
from experiments.sweeps.cluster import submit
from experiments.sweeps.folder import open_sweep
from experiments.sweeps.plan import make_plan, read_plan
from experiments.sweeps.progress import progress
from experiments.sweeps.ranges import Range
from experiments.sweeps.sweep import Sweep
from experiments.sweeps.tune import JOURNAL, SEARCH, Search

GAME = "matrix_coordination"
QUICK = [
    *("--substrate", GAME, "--method", "mappo", "--steps", "1500"),
    *("--set", "actor.unroll_length=16", "--set", "network.core_size=8"),
]


class Suggests:
    """Stands in for an Optuna trial: suggests the lowest value and records the request."""

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
        ("null|1e-05|true", ("choice", "a.b", (None, "1e-05", True))),
    ],
)
def test_ranges_make_the_matching_suggestion(text: str, asked: tuple[Any, ...]) -> None:
    found, trial = Range.parse("a.b", text), Suggests()
    assert found is not None
    assert found.suggest(trial) == (asked[2][0] if asked[0] == "choice" else asked[2])
    assert trial.asked == [asked]


@pytest.mark.parametrize("value", [3, 0.5, "gae", None, True])
def test_other_values_are_fixed(value: Any) -> None:
    assert Range.parse("a.b", value) is None


@pytest.mark.parametrize("text", ["2..1", "a..b", "log:0..1", "1..", "..2", "4|", "|", "4|[", "4|*a"])
def test_malformed_ranges(text: str) -> None:
    with pytest.raises(ConfigError, match=rf"--set a\.b={re.escape(text)}: expected low\.\.high"):
        Range.parse("a.b", text)


CLIP = {"settings": {"learner.clip": "0.1..0.3"}, "substrates": [GAME], "methods": ["mappo"]}


def search(tree: dict[str, Any], folder: Path) -> Search:
    return Search(tree, folder, 1, [], threading.Event())


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"settings": {"learner.clip": 0.2}}, "nothing to search: give a range"),
        ({"measure": "reward"}, "--measure reward: expected one of return_auc"),
        ({"measure": "scaled"}, "needs validation scenarios"),
        ({"variants": {"x": {}}}, "leave `variants` out"),
        ({"settings": {"learner.clp": "0.1..0.3"}}, "learner.clp: no such setting"),
        ({"settings": {"learner.epochs": "0..3"}}, "learner.epochs: .*greater than or equal to 1"),
        ({"settings": {"run.seed": "0..3"}}, "use the plan's seeds"),
        (
            {"measure": "scaled", "substrates": ["coins"], "evaluation": {"scenarios": [6, 4]}},
            "coins_4 is a test scenario: tuning on it would invalidate the test",
        ),
        ({"measure": "scaled", "substrates": ["coins"], "evaluation": {"scenarios": ["foo"]}}, "no scenario is called"),
    ],
)
def test_meaningless_search_is_refused(tmp_path: Path, changes: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        search(CLIP | changes, tmp_path)


def test_folder_holds_one_search(tmp_path: Path) -> None:
    write(tmp_path / SEARCH, yaml.safe_dump({"measure": "return_auc", **CLIP}).encode())
    with pytest.raises(ConfigError, match="holds a search with measure='return_auc', which is not 'return_end'"):
        search(CLIP | {"measure": "return_end"}, tmp_path).run(1)
    with pytest.raises(ConfigError, match="holds a search with seeds=None, which is not '1-2'"):
        search(CLIP | {"seeds": "1-2"}, tmp_path).run(1)


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Replaces runs: returns the variants that ran, in order; their measure is ten times the clip range."""
    ran: list[str] = []

    def run(self: Sweep) -> bool:
        ran.extend(trial.variant for trial in self._trials)
        return True

    monkeypatch.setattr(Sweep, "run", run)
    monkeypatch.setattr(Search, "_value", lambda _, plan: 10 * next(iter(plan.variants.values()))["learner.clip"])
    return ran


def values(report: Path) -> list[float]:
    return [float(line.split("|")[2]) for line in report.read_text().splitlines() if line.startswith("| t")]


def test_search_resumes_abandoned_suggestions_and_measures_nothing_twice(
    tmp_path: Path, measured: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert search(CLIP, tmp_path).run(3)
    assert measured == ["t0", "t1", "t2"]
    killed = search(CLIP, tmp_path)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Search, "_work", Mock(side_effect=KeyboardInterrupt))
        killed.run(5)
    assert search(CLIP, tmp_path).run(5)
    assert measured == ["t0", "t1", "t2", "t3", "t4"]
    found = values(tmp_path / "tune.md")
    assert len(set(found)) == 5 and found == sorted(found, reverse=True) and all(1 <= v <= 3 for v in found)
    assert search(CLIP, tmp_path).run(5)
    assert len(measured) == 5
    assert [t.variant for t in read_plan(tmp_path, {}).trials()] == ["t0", "t1", "t2", "t3", "t4"]


def test_suggestion_of_another_process_is_left_alone(
    tmp_path: Path, measured: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    other = search(CLIP, tmp_path)

    def meanwhile(self: Search, study: Any, number: int, params: Any) -> None:
        assert not search(CLIP, tmp_path).run(1), "the suggestion exists but is not measured"
        work(self, study, number, params)

    with monkeypatch.context() as patch:
        work = Search._work
        patch.setattr(Search, "_work", meanwhile)
        assert other.run(1)
    assert measured == ["t0"]
    assert "1 suggestions are not measured yet" in capsys.readouterr().out


def test_failed_suggestions_count_towards_the_total(
    tmp_path: Path, measured: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Search, "_value", lambda *_: math.nan)
    assert search(CLIP, tmp_path).run(2)
    assert measured == ["t0", "t1"] and values(tmp_path / "tune.md") == []


@pytest.mark.slow
def test_search_through_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ranges = ["learner.learning_rate=log:1e-4..1e-2", "--set", "learner.epochs=1|2"]
    assert main(["tune", *QUICK, *ranges, "--out", str(tmp_path), "--trials", "1"]) == 0
    assert main(["tune", str(tmp_path), "--trials", "2"]) == 0
    trials = read_plan(tmp_path, {}).trials()
    assert [t.variant for t in trials] == ["t0", "t1"]
    assert all(
        1e-4 <= t.settings["learner.learning_rate"] <= 1e-2 and t.settings["learner.epochs"] in (1, 2) for t in trials
    )
    assert all(progress(tmp_path, t).state == "done" for t in trials)
    assert len(values(tmp_path / "tune.md")) == 2
    assert "best of 2: return_auc" in capsys.readouterr().out
    assert (tmp_path / JOURNAL).exists()


@pytest.mark.slow
def test_submitted_jobs_run_the_trials(tmp_path: Path) -> None:
    """Through submitit's local executor, which differs from SLURM's only in where the jobs run."""
    quick = {"actor.unroll_length": 16, "network.core_size": 8}
    tree = {"methods": ["mappo"], "substrates": [GAME], "steps": 1500, "seeds": [0, 1], "settings": quick}
    plan = make_plan(tree)
    open_sweep(plan, tmp_path)
    for job in submit(tmp_path, 2, {"cluster": "local", "timeout_min": 5}, ["--jobs", "1"]):
        job.result()
    assert {progress(tmp_path, trial).state for trial in plan.trials()} == {"done"}


def test_missing_cluster_and_unknown_options(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SetupError, match="submitit cannot submit from here"):
        submit(tmp_path, 1, {}, [])
    with pytest.raises(ConfigError, match="--slurm-option: .*fast"):
        submit(tmp_path, 1, {"cluster": "local", "fast": 1}, [])
    with pytest.raises(ConfigError, match="--slurm-option timeout: expected key=value"):
        parse_overrides(["timeout"], "--slurm-option")


@pytest.mark.parametrize(("module", "command"), [("optuna", "tune"), ("submitit", "sweep")])
def test_missing_extras_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], module: str, command: str
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    extra = ["--set", "learner.clip=0.1..0.2"] if command == "tune" else ["--slurm", "1"]
    assert main([command, *QUICK, *extra, "--out", str(tmp_path)]) == 2
    assert f'pip install "bidist[{"tune" if command == "tune" else "slurm"}]"' in capsys.readouterr().err
