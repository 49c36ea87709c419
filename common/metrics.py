"""Where a role's scalars go: a file of JSON lines and TensorBoard."""

import math
import sys
import time
import types
from collections.abc import Mapping
from pathlib import Path

from common.files import append_line, cut_lines

# TensorBoard takes TensorFlow for its files where it is installed, which takes seconds and memory to load; if this
# module can be imported it goes without.
sys.modules.setdefault("tensorboard.compat.notf", types.ModuleType("tensorboard.compat.notf"))
from torch.utils.tensorboard import SummaryWriter  # noqa: E402


class MetricsLog:
    """Writes scalars by step.

    Args:
      lines: the file of JSON lines.
      tensorboard: TensorBoard's folder.
      step: the name of the metric that numbers the others.
      resume_at: lines of later steps are dropped; they belong to a future that was taken back.
    """

    def __init__(self, lines: Path, tensorboard: Path, step: str, resume_at: int) -> None:
        lines.parent.mkdir(parents=True, exist_ok=True)
        cut_lines(lines, step, resume_at)
        self._lines, self._step = lines, step
        self._writer = SummaryWriter(str(tensorboard), purge_step=resume_at + 1 if resume_at else None)

    def write(self, metrics: Mapping[str, float | str]) -> None:
        """Writes one step's metrics; text goes to the lines alone, and so does what is not a number."""
        record = {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in metrics.items()}
        append_line(self._lines, {"time_s": round(time.time(), 3), **record})
        for name, value in record.items():
            if isinstance(value, int | float):
                self._writer.add_scalar(name, value, int(metrics[self._step]))

    def close(self) -> None:
        """Flushes and closes."""
        self._writer.close()
