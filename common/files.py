"""Files that are whole or not there, and files of JSON lines."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def write(path: Path, data: bytes) -> None:
    """Writes a file whole or not at all: under a temporary name, synced, renamed."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    with temporary.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    temporary.rename(path)


def append_line(path: Path, record: Mapping[str, Any]) -> None:
    """Appends a JSON object as one line."""
    with path.open("a") as file:
        file.write(json.dumps(record) + "\n")


def read_lines(path: Path) -> list[dict[str, Any]]:
    """Reads JSON lines; a last line that is torn is left out."""
    if not path.exists():
        return []
    records = []
    for line in path.read_text().splitlines():
        try:
            records.append(json.loads(line))
        except json.JSONDecodeError:
            continue
    return records


def cut_lines(path: Path, key: str, last: int) -> None:
    """Drops the lines whose `key` is beyond `last`: a run that went back to a checkpoint writes them again."""
    if path.exists():
        kept = [json.dumps(record) + "\n" for record in read_lines(path) if record[key] <= last]
        write(path, "".join(kept).encode())
