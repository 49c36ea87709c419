"""Where a role's scalars go: a file of JSON lines, and TensorBoard."""

import math
import time
from collections.abc import Mapping
from pathlib import Path

from tensorboardX import SummaryWriter
from tensorboardX.summary import hparams

from common.config import Config
from common.files import append_line, cut_lines, last_record

PLAYER_STEPS = "player_steps"
PROGRESS = {"updates", "version", PLAYER_STEPS, "env_steps", "episodes", "events", "update"}


def tag(metric: str) -> str:
    """Returns a metric's name in TensorBoard: its group, a slash, its name."""
    if metric.startswith(("return_", "episode_")):
        return f"play/{metric}"
    if metric.startswith(("policy_lag", "queue_")) or metric.endswith("_s"):
        return f"speed/{metric}"
    if metric in PROGRESS or metric.endswith("_version"):
        return f"progress/{metric}"
    return f"learning/{metric}"


def flat(config: Config) -> dict[str, str | float]:
    """Returns the settings that have a value by `section.key`, as text and numbers."""
    sections = config.model_dump(mode="json").items()
    values = {f"{section}.{key}": x for section, part in sections for key, x in part.items() if x is not None}
    return {name: x if isinstance(x, str | int | float) else str(x) for name, x in values.items()}


class MetricsLog:
    """Writes scalars by step.

    TensorBoard's x axis is in player steps, so that runs with batches of different sizes can be compared.

    Args:
      lines: the file of JSON lines.
      tensorboard: TensorBoard's folder.
      step: the metric that numbers the others in the file.
      resume_at: the step to resume after; lines of later steps are dropped, since they will be written again.
    """

    def __init__(self, lines: Path, tensorboard: Path, step: str, resume_at: int) -> None:
        lines.parent.mkdir(parents=True, exist_ok=True)
        cut_lines(lines, step, resume_at)
        self._lines, self._step = lines, step
        last = last_record(lines)
        self._writer = SummaryWriter(str(tensorboard), purge_step=self._x(last) + 1 if last else None)

    def describe(self, config: Config) -> None:
        """Writes the settings of the run for TensorBoard's table of hyperparameters."""
        for summary in hparams(flat(config), {tag("return_learning"): 0.0}):
            self._writer.file_writer.add_summary(summary)

    def write(self, metrics: Mapping[str, float | str]) -> None:
        """Writes one step's metrics; text goes to the JSON lines only, where NaN and infinity become null."""
        record = {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in metrics.items()}
        append_line(self._lines, {"time_s": round(time.time(), 3), **record})
        for name, value in record.items():
            if isinstance(value, int | float):
                self._writer.add_scalar(tag(name), value, self._x(record))

    def close(self) -> None:
        """Flushes and closes both."""
        self._writer.close()

    def _x(self, record: Mapping[str, float | str | None]) -> int:
        return int(record.get(PLAYER_STEPS, record[self._step]) or 0)
