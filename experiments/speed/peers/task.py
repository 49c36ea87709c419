"""What a peer is given in a folder, and where it reports: contracts between this project and a peer's process."""

import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from common.config import Config
from common.files import append_line, write

TASK, METRICS = "task.json", "metrics.jsonl"


@dataclass(frozen=True)
class Task:
    """A training run of a peer: the project's settings, and the same in the peer's own words."""

    config: Config
    settings: dict[str, Any]

    def write(self, folder: Path) -> None:
        """Writes the task where a peer finds it."""
        document = {"config": self.config.model_dump(mode="json"), "settings": self.settings}
        write(folder / TASK, json.dumps(document).encode())

    @classmethod
    def read(cls, folder: Path) -> "Task":
        """Reads the task."""
        document = json.loads((folder / TASK).read_text())
        return cls(Config.model_validate(document["config"]), document["settings"])


def report(folder: Path, line: dict[str, Any]) -> None:
    """Appends a line to the metrics, with the time in seconds since 1970."""
    append_line(folder / METRICS, {"time_s": time.time(), **line})
