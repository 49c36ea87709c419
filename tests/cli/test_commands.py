"""Commands that read runs, through the command line: they play, compare and draw what training left behind."""

import csv
import json
import subprocess
from pathlib import Path

import av
import pytest
from command import ROOT
from matplotlib import image
from serial_runs import SMALL

import environments
from cli.main import main
from common import checkpoint
from common.config import Config, EnvironmentConfig, MethodConfig, NetworkConfig
from common.files import append_line, read_lines
from common.run_folder import RunFolder
from common.settings import load_config
from deploy.processes import bidist
from environments.lengths import expected_length
from networks.network import Network

METHODS = ("mappo", "bidist")


@pytest.fixture(scope="module")
def runs(redis_url: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a short run of each method in `METHODS`, named after it."""
    folder = tmp_path_factory.mktemp("runs")
    settings = [part for setting in SMALL for part in ("--set", setting)]
    game = ["--substrate", "matrix_prisoners_dilemma", "--steps", "800", "--games", "0"]
    for method in METHODS:
        named = ["--method", method, "--run", f"{method}-commands", "--folder", str(folder), "--redis", redis_url]
        assert main(["train", "--serial", *named, *game, *settings]) == 0
    return folder


@pytest.fixture
def names() -> list[str]:
    return [f"{method}-commands" for method in METHODS]


@pytest.mark.slow
def test_crossplay(runs: Path, names: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["crossplay", *names, "--random", "--episodes", "2", "--workers", "1"]
    command += ["--folder", str(runs), "--out", str(tmp_path)]
    assert main(command) == 0
    document = json.loads((tmp_path / "crossplay.json").read_text())
    assert document["substrate"] == "matrix_prisoners_dilemma"
    assert document["command"].startswith(f"bidist crossplay {' '.join(names)} --episodes 2 --folder ")
    found = {standing["population"] for standing in document["standings"]}
    assert len(found) == 3 and {name for name in found if name.startswith(tuple(names))} != set()
    assert image.imread(tmp_path / "crossplay.png").std() > 0.05
    assert names[0] in capsys.readouterr().out
    rows = (tmp_path / "crossplay.jsonl").read_text()
    assert main(command) == 0
    assert (tmp_path / "crossplay.jsonl").read_text() == rows, "no episode is played twice"


def test_diversity(runs: Path, names: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["diversity", names[1], "--folder", str(runs), "--out", str(tmp_path)]) == 0
    assert (tmp_path / "diversity.json").exists() and image.imread(tmp_path / "diversity.png").std() > 0.05
    assert f"{names[1]}: " in capsys.readouterr().out
    assert main(["diversity", names[0], "--folder", str(runs), "--out", str(tmp_path)]) == 3
    assert str(runs / names[0]) in capsys.readouterr().err, "its checkpoints hold a single policy"


def test_curves(runs: Path, names: list[str], tmp_path: Path) -> None:
    out = tmp_path / "curves.png"
    assert main(["curves", *names, "--folder", str(runs), "--out", str(out)]) == 0
    assert image.imread(out).std() > 0.05
    rows = list(csv.DictReader(out.with_suffix(".csv").read_text().splitlines()))
    assert {row["run"] for row in rows} == set(names)
    assert sum(row["run"] == names[0] for row in rows) == len(read_lines(RunFolder(runs / names[0]).metrics))


def test_report(runs: Path, names: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for seed, (name, method) in enumerate(zip(names, METHODS, strict=True)):
        config = RunFolder(runs / name).read_config()
        for number in range(6):
            length = expected_length("coins")  # so that returns need no adjusting
            played = {
                "scenario": f"coins_{number % 2}",
                "substrate": "coins",
                "episode": number // 2,
                "env_steps": length,
            }
            population = {"run": name, "method": method, "seed": config.run.seed, "checkpoint": "00000009"}
            state = {"updates": 9, "player_steps": 900, "weights": "", "evaluation_seed": 0, "reference": False}
            result = {**played, **population, **state, "focal_return": 10.0 * seed + number}
            append_line(RunFolder(runs / name).evaluation, result)
    assert main(["report", *(str(runs / name) for name in names), "--out", str(tmp_path)]) == 0
    assert f"12 episodes; report: {tmp_path / 'report.md'}" in capsys.readouterr().out.replace("\n", "")
    text = (tmp_path / "report.md").read_text()
    assert "coins" in text and "learning_curves.png" in text
    rows = list(csv.DictReader((tmp_path / "returns.csv").read_text().splitlines()))
    means = {(row["method"], row["scenario"]): float(row["focal_return"]) for row in rows}
    assert (means["mappo", "coins_0"], means["bidist", "coins_1"]) == (2.0, 13.0)


@pytest.mark.slow
def test_record(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The population plays all seats, without bots; the film has a frame at the start and one after each step."""
    pytest.importorskip("meltingpot")
    config = Config(
        environment=EnvironmentConfig(substrate="running_with_scissors_in_the_matrix__one_shot"),  # short episodes
        network=NetworkConfig(dense=8, core_size=8),
        method=MethodConfig(name="mappo"),
    )
    folder = RunFolder(tmp_path / "filmed")
    folder.create(config)
    theta = dict(Network(environments.spec(config.environment), config.network, 1).named_parameters())
    tensors = {"theta": {name: p.detach().clone() for name, p in theta.items()}}
    checkpoint.save(folder.checkpoints, 7, tensors, {"updates": 7, "player_steps": 1000}, keep=None)
    assert main(["record", "filmed", "--folder", str(tmp_path)]) == 0
    shown = capsys.readouterr().out
    (film,) = folder.path.glob("*.mp4")
    with av.open(str(film)) as video:
        frames = sum(1 for _ in video.decode(video=0))
    assert f"{film}: {frames - 1} steps in " in shown.replace("\n", "") and "bots" not in shown


@pytest.mark.slow
def test_following_a_run_that_has_not_begun_waits_for_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Meanwhile a folder of the run's name in the working directory, such as `/run` in a container, is not the run."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    (tmp_path / "late").mkdir()
    command = bidist("evaluate", "late", "--folder", "runs", "--follow")
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as evaluation:
        try:
            assert evaluation.stderr is not None
            assert "waiting for run late, which is not in runs yet" in evaluation.stderr.readline()
            folder = RunFolder(tmp_path / "runs" / "late")
            folder.make()
            folder.summary.write_text("{}")  # so that the evaluation ends
            folder.create(load_config(overrides=["run.name=late"], environ={}))
            assert evaluation.wait(60) == 0
            assert evaluation.stderr.read() == "", "it says so once"
        finally:
            evaluation.kill()
