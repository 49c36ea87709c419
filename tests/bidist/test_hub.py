"""Sharing: what `bidist push` uploads is what `bidist.load` plays, through a server that speaks the Hub's endpoints."""

import importlib.util
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
import yaml
from hub_server import TOKEN, Hub, serving
from trained import trained

import bidist
from bidist.hub import _distrust
from common import checkpoint
from common.errors import ConfigError
from common.files import append_line
from common.run_folder import RunFolder
from evaluator.evaluate import populations, row_of
from evaluator.scenario_table import ScenarioResult
from reports.hub import stage

ROOT = Path(__file__).parents[2]
NO_HUB = importlib.util.find_spec("huggingface_hub") is None
needs_hub = pytest.mark.skipif(NO_HUB, reason="found no huggingface_hub: bidist[hub]")


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    """A run with metrics, a film, results, and a checkpoint that also holds what only training needs."""
    folder = trained(tmp_path / "runs" / "sunday", "coins", 3)
    (newest,) = populations(folder, ["newest"])
    assert newest.theta is not None
    tensors = {"theta": newest.theta, "average": newest.theta, "optimiser": {"x": torch.zeros(1000)}}
    counters = {"updates": 6, "player_steps": 12800, "rng": [1, 2]}
    checkpoint.save(folder.checkpoints, 6, tensors, counters, keep=None)
    for update in range(1, 7):
        line = {"updates": update, "player_steps": 2000 * update, "return_learning": float(update), "time_s": update}
        append_line(folder.metrics, line)
    (newest,) = populations(folder, ["newest"])
    for number, focal in enumerate((1.0, 3.0)):
        result = ScenarioResult("coins_1", number, focal, 0.0, 300, [0], ["bot"])
        append_line(folder.evaluation, row_of(newest, result, seed=0))
        other = row_of(newest, result, seed=0) | {"checkpoint": "00000005", "scenario": "coins_4"}
        append_line(folder.evaluation, other)
    (folder.path / "coins_1-0.mp4").write_bytes(b"film")
    return folder


def test_a_staged_run_is_loaded_like_the_run_itself(run: RunFolder, tmp_path: Path) -> None:
    (newest,) = populations(run, ["newest"])
    out = tmp_path / "staged"
    stage(run, newest, "jane/coins", out)
    files = sorted(str(path.relative_to(out)) for path in out.rglob("*") if path.is_file())
    inside = "checkpoints/00000006"
    assert files == [
        *("README.md", f"{inside}/average.safetensors", f"{inside}/state.json", f"{inside}/theta.safetensors"),
        *("coins_1-0.mp4", "config.yaml", "evaluation.jsonl", "learning_curve.png"),
    ]
    assert bidist.load(out).source.weights == bidist.load(run.path).source.weights
    assert not any(str(tmp_path) in (out / name).read_text() for name in ("README.md", "config.yaml"))


def test_the_model_card_says_what_the_run_is(run: RunFolder, tmp_path: Path) -> None:
    (newest,) = populations(run, ["newest"])
    stage(run, newest, "jane/coins", tmp_path / "staged")
    card = (tmp_path / "staged" / "README.md").read_text()
    _, metadata, text = card.split("---\n", 2)
    assert yaml.safe_load(metadata)["tags"][-2:] == ["mappo", "coins"]
    assert "for 12,800 player steps\n(6 updates), seed 4; checkpoint `00000006` with 3 policies" in text
    assert "| `coins_1` | 2.00 | 1.00 to 3.00 | 2 |" in text, "the mean of 1 and 3"
    assert "coins_4" not in text, "another checkpoint's results"
    assert "(learning_curve.png)" in text and '"coins_1-0.mp4"' in text and 'load("hf://jane/coins")' in text
    settings = yaml.safe_load(text.partition("```yaml\n")[2].partition("```")[0])
    assert settings["network"]["dense"] == 16 and "folder" not in settings["run"]


@pytest.mark.parametrize(
    ("section", "key", "name"),
    [
        ("method", "name", "os:system"),
        ("network", "name", "os:system"),
        ("environment", "substrate", "pettingzoo:os:abort"),
    ],
)
def test_a_strangers_configuration_cannot_name_code(run: RunFolder, section: str, key: str, name: str) -> None:
    config = run.read_config()
    run.create(config.model_copy(update={section: getattr(config, section).model_copy(update={key: name})}))
    with pytest.raises(ConfigError, match=f"names code of its own, {name}"):
        _distrust(run, "hf://jane/coins")


@pytest.fixture
def hub() -> Iterator[Hub]:
    with serving() as server:
        yield server


def python(hub: Hub, folder: Path, *arguments: str, token: str = TOKEN) -> "subprocess.CompletedProcess[str]":
    """Runs Python as a user of this hub, in a folder."""
    environ = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "HF_ENDPOINT": hub.url,
        "HF_TOKEN": token,
        "HF_HOME": str(folder / "hf"),
        "HF_HUB_DISABLE_XET": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
    }
    command = [sys.executable, *arguments]
    return subprocess.run(command, cwd=folder, env=environ, capture_output=True, text=True, timeout=240)


@needs_hub
@pytest.mark.slow
def test_what_one_user_pushes_another_loads(run: RunFolder, hub: Hub, tmp_path: Path) -> None:
    done = python(hub, tmp_path, "-m", "cli", "push", "sunday", "jane/coins", "--private")
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.strip().startswith(f"{hub.url}/jane/coins/commit/")
    assert hub.private == {"jane/coins": True}
    assert hub.files["jane/coins"]["README.md"].startswith(b"---\nlibrary_name: bidist\n")
    assert "checkpoints/00000006/theta.safetensors" in hub.files["jane/coins"]
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    script = "import bidist; p = bidist.load('hf://jane/coins'); print(p, p.source.weights)"
    loaded = python(hub, elsewhere, "-c", script)
    assert loaded.returncode == 0, loaded.stderr[-3000:]
    weights = bidist.load(run.path).source.weights
    assert f"run sunday, checkpoint 00000006, 12,800 player steps, 3 policies) {weights}" in loaded.stdout
    assert not [request for request in hub.asked if "/resolve/" in request and "README.md" in request]
    commit = done.stdout.strip().rpartition("/")[2]
    again = python(hub, elsewhere, "-c", script.replace("jane/coins", f"jane/coins@{commit}"))
    assert again.returncode == 0, again.stderr[-3000:]


@needs_hub
@pytest.mark.slow
def test_a_push_replaces_an_earlier_one(run: RunFolder, hub: Hub, tmp_path: Path) -> None:
    """An older checkpoint in place of a newer one, without the newer one's film and results."""
    assert python(hub, tmp_path, "-m", "cli", "push", "sunday", "jane/coins").returncode == 0
    before = set(hub.files["jane/coins"])
    hub.files["jane/coins"]["LICENSE"] = b"jane's"
    (run.path / "coins_1-0.mp4").unlink()
    run.evaluation.unlink()
    older = next(path.name for path in sorted(run.checkpoints.iterdir()) if path.name != "00000006")
    done = python(hub, tmp_path, "-m", "cli", "push", "sunday", "jane/coins", "--checkpoint", older)
    assert done.returncode == 0, done.stderr[-3000:]
    left = set(hub.files["jane/coins"])
    assert {path.split("/")[1] for path in left if path.startswith("checkpoints/")} == {older}
    assert before - left >= {"coins_1-0.mp4", "evaluation.jsonl"} and "LICENSE" in left


@needs_hub
@pytest.mark.slow
def test_what_the_hub_refuses_is_one_line(run: RunFolder, hub: Hub, tmp_path: Path) -> None:
    refused = python(hub, tmp_path, "-m", "cli", "push", "sunday", "jane/coins", token="hf_wrong")
    assert refused.returncode == 3 and "hf auth login" in refused.stderr.splitlines()[-1], refused.stderr[-3000:]
    assert python(hub, tmp_path, "-m", "cli", "push", "sunday", "jane").returncode == 2
    script = "import bidist\ntry: bidist.load('hf://{}')\nexcept bidist.BidistError as error: print(error)"
    for name, words in {"jane/nothing": "expected hf://user/name", "a b/c": "expected hf://user/name"}.items():
        done = python(hub, tmp_path, "-c", script.format(name))
        assert words in done.stdout, done.stderr[-3000:]
    hub.files["jane/empty"] = {"README.md": b"nothing here"}
    assert "holds no config.yaml" in python(hub, tmp_path, "-c", script.format("jane/empty")).stdout
