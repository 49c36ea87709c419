"""Sends a run's metrics to an experiment tracker, while it trains or afterwards.

It reads the files in the run's folder, so neither learner nor distiller waits for a tracker's server. What has been
sent is kept in `.track-NAME.json`; a run that resumes continues the tracker's run.
"""

import json
import threading
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from common.errors import ConfigError
from common.files import locked, write
from common.metrics import flat, tag
from common.run_folder import RunFolder, renamed
from reports.trackers import Row, Tracker

LOOK_S = 10.0


def track(folder: RunFolder, name: str, kind: type[Tracker], stopping: threading.Event) -> int:
    """Sends what a run has written and will write, until it ends; returns how many rows were sent.

    Args:
      folder: the run's.
      name: the tracker's.
      kind: the tracker.
      stopping: set to send the rest and leave.

    Raises:
      ConfigError: if there is no such run, or another process sends it to the same tracker.
      SetupError: if the tracker cannot be used.
    """
    config = folder.read_config()
    record = folder.path / f".track-{name}.json"
    try:
        with locked(record.with_suffix(".lock")):
            known = json.loads(record.read_text()) if record.exists() else {}
            sent = known.get("sent", {})
            tails = [
                Tail(path, key, sent.get(path.name, 0))
                for path, key in ((folder.metrics, "updates"), (folder.distillation, "events"))
            ]
            rows_sent = 0
            with kind(config.run.name, flat(config), folder.path, known.get("id", "")) as tracker:
                while True:
                    last_look = stopping.is_set() or folder.summary.exists() or _over(tails[0], config.run.player_steps)
                    rows = [row for tail in tails for row in map(_row, tail.read())]
                    tracker.log(rows)
                    rows_sent += len(rows)
                    state = {"id": tracker.id, "sent": {tail.path.name: tail.last for tail in tails}}
                    write(record, json.dumps(state).encode())
                    if last_look:
                        return rows_sent
                    stopping.wait(LOOK_S)
    except TimeoutError:
        raise ConfigError(f"{folder.path}: another process sends this run to {name}") from None


class Tail:
    """Reads the new lines of a file of JSON lines.

    A resumed run replaces its file by a shorter one; lines that are written again are not read again.

    Args:
      path: the file; may not exist yet.
      key: numbers the lines.
      last: the number after which to start.

    Attributes:
      newest: the last line read.
    """

    def __init__(self, path: Path, key: str, last: int) -> None:
        self.path, self.last = path, last
        self.newest: Mapping[str, Any] = {}
        self._key, self._offset, self._inode = key, 0, 0

    def read(self) -> list[dict[str, Any]]:
        """Returns the lines that are complete and new; skips malformed ones."""
        if not self.path.exists():
            return []
        with self.path.open("rb") as file:
            inode, size = self.path.stat().st_ino, self.path.stat().st_size
            if inode != self._inode or size < self._offset:
                self._inode, self._offset = inode, 0
            file.seek(self._offset)
            data = file.read()
        whole = data[: data.rfind(b"\n") + 1]
        self._offset += len(whole)
        found = [line for line in _parsed(whole.splitlines()) if line.get(self._key, 0) > self.last]
        if found:
            self.newest, self.last = found[-1], found[-1][self._key]
        return found


def _parsed(lines: Iterable[bytes]) -> Iterable[dict[str, Any]]:
    for line in lines:
        try:
            record = json.loads(line)
        except ValueError:
            continue
        if isinstance(record, dict):
            yield record


def _over(metrics: Tail, budget: int) -> bool:
    return bool(metrics.newest.get("player_steps", 0) >= budget)


def _row(line: Mapping[str, Any]) -> Row:
    values = {name: x for name, x in line.items() if name != "time_s" and isinstance(x, int | float)}
    return Row(line["time_s"], int(line.get("player_steps", 0)), {tag(name): x for name, x in renamed(values).items()})
