"""The summary of a short run of a matrix game: numbers, figures, and the output on the terminal."""

import csv
import json
import math
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from artists import lines, titles

from cli.main import main
from common.config import Config
from common.errors import CheckpointError, ConfigError
from common.files import read_lines
from common.run_folder import RunFolder
from common.settings import load_config
from deploy.serial import Serial
from reports.curves import compare_curves, draw_run
from reports.provenance import circumstances, commit
from reports.statistics import interval
from reports.style import LIGHT_GREY
from reports.summary import wall_time_s, write_summary

SUMMARY = {
    *("run", "method", "substrate", "seed", "player_steps", "updates", "wall_s", "player_steps_per_s"),
    *("return_learning", "return_others", "trained", "random", "checkpoint", "ledger", "circumstances"),
}


def configuration(folder: Path, name: str, *overrides: str) -> Config:
    common = [
        "environment.substrate=matrix_coordination",
        "environment.episode_length=4",
        f"run.name={name}",
        f"run.folder={folder}",
        "run.player_steps=200",
        "actor.environments=4",
        "actor.unroll_length=4",
        "learner.batch_unrolls=4",
        "learner.epochs=1",
        "distiller.every=1",
        "distiller.burn_in=1",
        "network.dense=8",
        "network.core_size=8",
    ]
    return load_config(overrides=[*common, *overrides], environ={})


@pytest.fixture(scope="module")
def runs(redis_url: str, tmp_path_factory: pytest.TempPathFactory) -> list[RunFolder]:
    """A run of BiDist and a run of MAPPO."""
    folder = tmp_path_factory.mktemp("runs")
    configs = [configuration(folder, "a"), configuration(folder, "b", "method.name=mappo", "run.seed=3")]
    for config in configs:
        RunFolder.of(config.run).create(config)
        with Serial(config, redis_url) as serial:
            while not serial.learner.learner.finished:
                serial.update()
    return [RunFolder.of(config.run) for config in configs]


def test_summary_of_a_run(runs: list[RunFolder], capsys: pytest.CaptureFixture[str]) -> None:
    summary = write_summary(runs[0], episodes=6, ledger="produced = trained")
    record: dict[str, Any] = json.loads((runs[0].path / "summary.json").read_text())
    assert record.keys() == SUMMARY
    last = read_lines(runs[0].metrics)[-1]
    for name in ("player_steps", "updates", "return_learning", "return_others"):
        assert record[name] == last[name]
    assert (record["run"], record["method"], record["seed"]) == ("a", "bidist", 0)
    assert record["checkpoint"] == f"{last['updates']:08d}"
    for name in ("trained", "random"):
        found = record[name]
        assert 0 <= found["low"] <= found["mean"] <= found["high"] <= 4
        assert found["episodes"] == 6
    assert record["player_steps_per_s"] == pytest.approx(record["player_steps"] / summary.wall_s, rel=0.2)
    assert record["circumstances"]["hardware"]["cores"] >= 1
    assert record["circumstances"]["versions"]["torch"] != "not installed"
    assert (runs[0].path / "learning_curve.png").exists()
    printed = capsys.readouterr().out
    assert summary.trained is not None and summary.random is not None
    for part in (f"{summary.trained.mean:.2f}", f"{summary.random.mean:.2f}", "produced = trained", str(runs[0].path)):
        assert part in printed.replace("\n", "")
    assert str(runs[0].path) not in json.dumps(record)


def test_the_same_run_has_the_same_returns(runs: list[RunFolder]) -> None:
    first, again = (write_summary(runs[1], episodes=3) for _ in range(2))
    assert (first.trained, first.random) == (again.trained, again.random)
    assert first.return_others is None


def test_curves_from_the_command_line(runs: list[RunFolder], tmp_path: Path) -> None:
    for count in (1, 2):
        out = tmp_path / f"{count}.png"
        assert main(["curves", *(str(run.path) for run in runs[:count]), "--out", str(out)]) == 0
        assert out.exists()
        rows = list(csv.DictReader(out.with_suffix(".csv").read_text().splitlines()))
        assert {row["run"] for row in rows} == {run.path.name for run in runs[:count]}
        last = read_lines(runs[count - 1].metrics)[-1]
        assert int(rows[-1]["player_steps"]) == last["player_steps"]
        assert float(rows[-1]["return_learning"]) == pytest.approx(last["return_learning"], abs=1e-4)
    assert main(["curves", str(tmp_path), "--out", str(out)]) == 2


def test_each_game_has_a_panel(runs: list[RunFolder], tmp_path: Path) -> None:
    other = RunFolder(tmp_path / "other")
    other.create(configuration(tmp_path, "other", "environment.substrate=matrix_chicken"))
    with pytest.raises(ConfigError, match="no updates"):
        compare_curves([other], tmp_path / "x.png")
    other.metrics.write_text(runs[0].metrics.read_text())
    one = compare_curves([*runs, runs[0]], tmp_path / "one.png")
    two = compare_curves([*runs, other], tmp_path / "two.png")
    assert titles(one) == ["matrix coordination"]
    assert titles(two) == ["matrix coordination", "matrix chicken"]
    assert one.get_figheight() == two.get_figheight() and one.get_figwidth() < two.get_figwidth()
    assert {"bidist, seed 0", "mappo, seed 3"} <= lines(two.axes[0]).keys()
    assert "bidist, seed 0" in lines(two.axes[1])


def test_a_run_is_drawn_with_its_returns_and_its_distillation_events(runs: list[RunFolder], tmp_path: Path) -> None:
    summary = write_summary(runs[0], episodes=4)
    figure = draw_run(runs[0], tmp_path / "run.png")
    assert titles(figure) == ["matrix coordination, bidist, seed 0", ""]
    returns, events = map(lines, figure.axes)
    metrics = read_lines(runs[0].metrics)
    for label, name in (("learning players (theta)", "return_learning"), ("others (phi)", "return_others")):
        points = [[m["player_steps"], m[name]] for m in metrics if m.get(name) is not None]
        assert returns[label].tolist() == points
    assert summary.random is not None
    assert set(returns["random population, with 95% interval"][:, 1]) == {summary.random.mean}
    found = read_lines(runs[0].distillation)
    for direction in ("forward", "reverse"):
        assert events[direction][:, 1].tolist() == [e["kl_after_nats"] for e in found if e["direction"] == direction]


def test_seeds_of_one_label_are_drawn_with_their_mean(runs: list[RunFolder], tmp_path: Path) -> None:
    figure = compare_curves(runs, tmp_path / "seeds.png", labels=["same", "same"])
    x, y = lines(figure.axes[0])["same, 2 seeds"].T
    curves = []
    for run in runs:
        shown = [m for m in read_lines(run.metrics) if m.get("return_learning") is not None]
        curves.append(np.interp(x, [m["player_steps"] for m in shown], [m["return_learning"] for m in shown]))
    assert y == pytest.approx(np.mean(curves, 0))


def test_many_labels_get_a_panel_each_with_the_others_in_grey(runs: list[RunFolder], tmp_path: Path) -> None:
    names = ["mappo", "bidist", "c", "d", "e"]
    figure = compare_curves([*runs, *runs, runs[0]], tmp_path / "apart.png", labels=names)
    drawn = [axes for axes in figure.axes if axes.axison]
    own = [next(iter(lines(axes).keys() & set(titles(figure)))) for axes in drawn]
    assert own == [axes.get_title("left") for axes in drawn] and len(own) == len(names)
    for axes in drawn:
        grey = [line for line in axes.lines if line.get_color() == LIGHT_GREY]
        assert len(grey) == len(names)


def test_a_run_without_updates_or_checkpoints_has_no_summary(tmp_path: Path) -> None:
    config = configuration(tmp_path, "empty")
    folder = RunFolder.of(config.run)
    folder.create(config)
    with pytest.raises(CheckpointError, match="no updates"):
        write_summary(folder)
    folder.metrics.write_text('{"updates": 1}\n')
    for episodes in (3, 0):
        with pytest.raises(CheckpointError, match="no complete checkpoint"):
            write_summary(folder, episodes)


def test_a_summary_without_games_names_the_newest_checkpoint(runs: list[RunFolder]) -> None:
    summary = write_summary(runs[1], episodes=0)
    assert (summary.trained, summary.random) == (None, None)
    assert summary.checkpoint == f"{summary.updates:08d}"


def test_wall_time_excludes_pauses() -> None:
    lines = [
        {"time_s": 100.0, "wait_s": 1.0, "update_s": 2.0},
        {"time_s": 104.0, "wait_s": 1.0, "update_s": 2.0},
        {"time_s": 9000.0, "wait_s": 5.0, "update_s": 2.0},
        {"time_s": 9003.5, "wait_s": 1.0, "update_s": 2.0},
    ]
    assert wall_time_s(lines) == 3 + 4 + 7 + 3.5
    assert wall_time_s(lines[:1]) == 3


def test_interval_covers_the_mean_95_times_in_100() -> None:
    rng = np.random.default_rng(0)
    samples = [interval(rng.normal(2.0, 3.0, 40).tolist()) for _ in range(100)]
    assert np.mean([s.low <= 2.0 <= s.high for s in samples]) == pytest.approx(0.95, abs=0.05)
    constant = interval([1.5] * 8)
    assert (constant.mean, constant.low, constant.high, constant.episodes) == (1.5, 1.5, 1.5, 8)
    single = interval([2.0])
    assert single.low == single.high == 2.0 and math.isfinite(single.mean)


def test_circumstances_are_plain_json() -> None:
    assert json.loads(json.dumps(circumstances())).keys() == {"hardware", "versions", "commit"}
    assert commit() is None or len(str(commit())) >= 7


def test_the_commit_is_not_that_of_a_repository_around_the_installation(tmp_path: Path) -> None:
    identity = ["-c", "user.name=A", "-c", "user.email=a@b"]
    subprocess.run(["git", "init", "-q", tmp_path], check=True)
    subprocess.run(["git", "-C", tmp_path, *identity, "commit", "-q", "--allow-empty", "-m", "theirs"], check=True)
    installed = tmp_path / ".venv" / "site-packages"
    installed.mkdir(parents=True)
    assert commit(tmp_path) is not None and commit(installed) is None
