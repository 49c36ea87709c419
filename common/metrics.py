"""Where a role's scalars go: a file of JSON lines, and TensorBoard. A full disk interrupts both but stops no role."""

import logging
import math
import time
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from common.config import Config
from common.errors import worth_logging
from common.files import append_line, cut_lines, last_record

if TYPE_CHECKING:
    from tensorboardX import SummaryWriter

log = logging.getLogger(__name__)

RETRY_S = 60.0
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
    """Returns the settings that are not null, as text and numbers by `section.key`."""
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
        try:
            cut_lines(lines, step, resume_at)
        except OSError as error:
            log.error("lines of updates that are made again stay in %s: %s", lines, error)
        self._lines, self._step = lines, step
        self._failures: Counter[str] = Counter()
        last = last_record(lines)
        self._board = _Board(tensorboard, self._x(last) + 1 if last else None)

    def describe(self, config: Config) -> None:
        """Writes the settings of the run for TensorBoard's table of hyperparameters."""
        self._board.describe(config)

    def write(self, metrics: Mapping[str, float | str]) -> None:
        """Writes one step's metrics; text goes to the JSON lines only, where NaN and infinity become null."""
        record = {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in metrics.items()}
        try:
            append_line(self._lines, {"time_s": round(time.time(), 3), **record})
        except OSError as error:
            if worth_logging(self._failures, "lines"):
                log.error("metrics could not be written: %s", error)
        scalars = {tag(name): value for name, value in record.items() if isinstance(value, int | float)}
        self._board.write(scalars, self._x(record))

    def close(self) -> None:
        """Flushes and closes both."""
        self._board.close()

    def _x(self, record: Mapping[str, float | str | None]) -> int:
        return int(record.get(PLAYER_STEPS, record[self._step]) or 0)


class _Board:
    """TensorBoard's writer, opened again later if it fails.

    The writer's thread ends with its first error; nothing then empties the queue, and writing would block forever.
    """

    def __init__(self, folder: Path, purge_step: int | None) -> None:
        self._folder = folder
        self._failed_at = 0.0
        self._writer: SummaryWriter | None = None
        self._reopen(purge_step)

    def write(self, scalars: Mapping[str, float], step: int) -> None:
        if self._writer is None and time.monotonic() - self._failed_at > RETRY_S:
            self._reopen(None)
        for name, value in scalars.items():
            if (writer := self._living()) is not None:
                writer.add_scalar(name, value, step)

    def _reopen(self, purge_step: int | None) -> None:
        try:
            self._writer = _open(self._folder, purge_step)
        except OSError as error:
            log.error("TensorBoard's files cannot be opened, trying again in %.0f s: %s", RETRY_S, error)
            self._failed_at = time.monotonic()

    def describe(self, config: Config) -> None:
        from tensorboardX.summary import hparams

        if (writer := self._living()) is not None:
            for summary in hparams(flat(config), {tag("return_learning"): 0.0}):
                writer.file_writer.add_summary(summary)

    def close(self) -> None:
        if (writer := self._living()) is not None:
            try:
                writer.close()
            except OSError as error:
                log.error("TensorBoard's files are incomplete: %s", error)

    def _living(self) -> "SummaryWriter | None":
        if self._writer is None:
            return None
        events = self._writer.file_writer.event_writer
        if events._worker.is_alive():
            return self._writer
        log.error("TensorBoard's files could not be written; trying again in %.0f s", RETRY_S)
        events._event_queue.cancel_join_thread()  # or this process would never exit
        self._writer, self._failed_at = None, time.monotonic()
        return None


def _open(folder: Path, purge_step: int | None = None) -> "SummaryWriter":
    """Opens a writer; imported here, because it loads torch."""
    from tensorboardX import SummaryWriter

    return SummaryWriter(str(folder), purge_step=purge_step)
