"""Metrics reach the JSON lines and TensorBoard, without TensorFlow."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from tensorboard_files import events
from tensorboardX.proto.event_pb2 import SessionLog
from tensorboardX.proto.plugin_hparams_pb2 import HParamsPluginData

from common.files import read_lines
from common.metrics import MetricsLog, tag
from common.settings import load_config


def scalars(folder: Path) -> set[tuple[str, int, float]]:
    """Reads (name, step, value) from TensorBoard's file."""
    return {(value.tag, event.step, value.simple_value) for event in events(folder) for value in event.summary.value}


def test_scalars_reach_both_and_text_the_lines_only(tmp_path: Path) -> None:
    lines, folder = tmp_path / "deep" / "metrics.jsonl", tmp_path / "tensorboard"
    metrics = MetricsLog(lines, folder, "updates", resume_at=0)
    metrics.write({"updates": 1, "loss": 0.5, "direction": "forward", "ratio": float("nan")})
    metrics.write({"updates": 2, "loss": 0.25})
    metrics.close()
    first, second = read_lines(lines)
    assert first["time_s"] <= second["time_s"]
    assert (first["loss"], first["direction"], first["ratio"], second["loss"]) == (0.5, "forward", None, 0.25)
    assert "NaN" not in lines.read_text() and json.loads(lines.read_text().splitlines()[0])["updates"] == 1
    expected = {("progress/updates", 1, 1.0), ("learning/loss", 1, 0.5)}
    expected |= {("progress/updates", 2, 2.0), ("learning/loss", 2, 0.25)}
    assert scalars(folder) == expected


def test_tensorboards_x_axis_is_in_player_steps_also_after_a_resumption(tmp_path: Path) -> None:
    lines, folder = tmp_path / "metrics.jsonl", tmp_path / "tensorboard"
    for resume_at, last in ((0, 5), (3, 4)):
        metrics = MetricsLog(lines, folder / str(resume_at), "updates", resume_at)
        for update in range(resume_at + 1, last + 1):
            metrics.write({"updates": update, "player_steps": 100 * update, "return_learning": float(update)})
        metrics.close()
    assert ("play/return_learning", 200, 2.0) in scalars(folder / "0")
    assert [e.step for e in events(folder / "3") if e.session_log.status == SessionLog.START] == [301]
    assert ("play/return_learning", 400, 4.0) in scalars(folder / "3")


@pytest.mark.parametrize(
    ("metric", "group"),
    [
        ("return_others", "play"),
        ("episode_coins_matched", "play"),
        ("policy_lag_max", "speed"),
        ("player_steps_per_s", "speed"),
        ("player_steps", "progress"),
        ("phi_version", "progress"),
        ("policy_loss", "learning"),
        ("kl_before_nats", "learning"),
    ],
)
def test_tags_have_groups(metric: str, group: str) -> None:
    assert tag(metric) == f"{group}/{metric}"


def test_tensorboard_lists_the_settings_of_a_run(tmp_path: Path) -> None:
    metrics = MetricsLog(tmp_path / "metrics.jsonl", tmp_path / "tensorboard", "updates", resume_at=0)
    metrics.describe(load_config(overrides=["learner.learning_rate=0.125", "method.name=mappo"], environ={}))
    metrics.close()
    written = [value for event in events(tmp_path / "tensorboard") for value in event.summary.value]
    data = {v.tag: HParamsPluginData.FromString(v.metadata.plugin_data.content) for v in written}
    settings = data["_hparams_/session_start_info"].session_start_info.hparams
    assert settings["learner.learning_rate"].number_value == 0.125
    assert settings["method.name"].string_value == "mappo" and settings["network.channels"].string_value == "[16, 32]"
    (metric,) = data["_hparams_/experiment"].experiment.metric_infos
    assert metric.name.tag == tag("return_learning")


def test_a_resumed_log_drops_later_steps(tmp_path: Path) -> None:
    lines, folder = tmp_path / "metrics.jsonl", tmp_path / "tensorboard"
    for resume_at, last in ((0, 5), (3, 4)):
        metrics = MetricsLog(lines, folder, "updates", resume_at)
        for update in range(resume_at + 1, last + 1):
            metrics.write({"updates": update, "loss": float(update + 10 * resume_at)})
        metrics.close()
    assert [(line["updates"], line["loss"]) for line in read_lines(lines)] == [(1, 1), (2, 2), (3, 3), (4, 34)]


def test_writing_metrics_does_not_load_tensorflow(tmp_path: Path) -> None:
    program = (
        "import sys; from pathlib import Path; from common.metrics import MetricsLog\n"
        "log = MetricsLog(Path(sys.argv[1]) / 'm', Path(sys.argv[1]) / 't', 'updates', 0)\n"
        "log.write({'updates': 1}); log.close()\n"
        "print(*{'tensorflow'} & set(sys.modules))"
    )
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path)], cwd=root, check=True, capture_output=True, text=True
    )
    assert done.stdout.split() == []
