"""Metrics reach the JSON lines and TensorBoard, without TensorFlow."""

import json
import struct
import subprocess
import sys
from pathlib import Path

from tensorboardX.proto.event_pb2 import Event

from common.files import read_lines
from common.metrics import MetricsLog


def scalars(folder: Path) -> set[tuple[str, int, float]]:
    """Reads (name, step, value) from TensorBoard's file: records of a length, its checksum, the data, its checksum."""
    (path,) = folder.iterdir()
    data, found = path.read_bytes(), set()
    while data:
        (length,) = struct.unpack("<Q", data[:8])
        event = Event.FromString(data[12 : 12 + length])
        found |= {(value.tag, event.step, value.simple_value) for value in event.summary.value}
        data = data[16 + length :]
    return found


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
    expected = {("updates", 1, 1.0), ("loss", 1, 0.5), ("updates", 2, 2.0), ("loss", 2, 0.25)}
    assert scalars(folder) == expected


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
    root = Path(__file__).parents[1]
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path)], cwd=root, check=True, capture_output=True, text=True
    )
    assert done.stdout.split() == []
