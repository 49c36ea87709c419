"""Where a role's scalars go: a file of JSON lines, and TensorBoard."""

import math
import time
from collections.abc import Mapping
from pathlib import Path

from tensorboardX import SummaryWriter

from common.files import append_line, cut_lines


class MetricsLog:
    """Writes scalars by step.

    Args:
      lines: the file of JSON lines.
      tensorboard: TensorBoard's folder.
      step: the metric that numbers the others.
      resume_at: the step to resume after; lines of later steps are dropped, since they will be written again.
    """

    def __init__(self, lines: Path, tensorboard: Path, step: str, resume_at: int) -> None:
        lines.parent.mkdir(parents=True, exist_ok=True)
        cut_lines(lines, step, resume_at)
        self._lines, self._step = lines, step
        self._writer = SummaryWriter(str(tensorboard), purge_step=resume_at + 1 if resume_at else None)

    def write(self, metrics: Mapping[str, float | str]) -> None:
        """Writes one step's metrics; text goes to the JSON lines only, where NaN and infinity become null."""
        record = {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in metrics.items()}
        append_line(self._lines, {"time_s": round(time.time(), 3), **record})
        for name, value in record.items():
            if isinstance(value, int | float):
                self._writer.add_scalar(name, value, int(metrics[self._step]))

    def close(self) -> None:
        """Flushes and closes both."""
        self._writer.close()
