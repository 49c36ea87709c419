"""Where a role's scalars go: a file of JSON lines, and TensorBoard. A full disk interrupts both and stops nobody."""

import logging
import math
import time
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

from tensorboardX import SummaryWriter

from common.errors import worth_logging
from common.files import append_line, cut_lines

log = logging.getLogger(__name__)

RETRY_S = 60.0


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
        self._failures: Counter[str] = Counter()
        self._board = _Board(tensorboard, resume_at + 1 if resume_at else None)

    def write(self, metrics: Mapping[str, float | str]) -> None:
        """Writes one step's metrics; text goes to the JSON lines only, where NaN and infinity become null."""
        record = {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in metrics.items()}
        try:
            append_line(self._lines, {"time_s": round(time.time(), 3), **record})
        except OSError as error:
            if worth_logging(self._failures, "lines"):
                log.error("metrics could not be written: %s", error)
        scalars = {name: value for name, value in record.items() if isinstance(value, int | float)}
        self._board.write(scalars, int(metrics[self._step]))

    def close(self) -> None:
        """Flushes and closes both."""
        self._board.close()


class _Board:
    """TensorBoard's writer, opened again later if it fails.

    Its thread ends with the first error, after which nobody empties the queue, and writing would wait for ever.
    """

    def __init__(self, folder: Path, purge_step: int | None) -> None:
        self._folder = folder
        self._failed_at = 0.0
        self._writer: SummaryWriter | None = SummaryWriter(str(folder), purge_step=purge_step)

    def write(self, scalars: Mapping[str, float], step: int) -> None:
        if self._writer is None and time.monotonic() - self._failed_at > RETRY_S:
            try:
                self._writer = SummaryWriter(str(self._folder))
            except OSError:
                self._failed_at = time.monotonic()
        for name, value in scalars.items():
            if (writer := self._living()) is not None:
                writer.add_scalar(name, value, step)

    def close(self) -> None:
        if (writer := self._living()) is not None:
            try:
                writer.close()
            except OSError as error:
                log.error("TensorBoard's files are incomplete: %s", error)

    def _living(self) -> SummaryWriter | None:
        if self._writer is None:
            return None
        events = self._writer.file_writer.event_writer
        if events._worker.is_alive():
            return self._writer
        log.error("TensorBoard's files could not be written; trying again in %.0f s", RETRY_S)
        events._event_queue.cancel_join_thread()  # or this process would never end
        self._writer, self._failed_at = None, time.monotonic()
        return None
