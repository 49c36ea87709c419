"""Files that are whole or not there, files of JSON lines, and files that one process at a time may hold."""

import contextlib
import fcntl
import json
import os
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any

POLL_S = 0.02


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


@contextlib.contextmanager
def locked(path: Path, timeout_s: float = 0.0) -> Iterator[IO[bytes]]:
    """Holds a file's lock until the block is left or the process ends, whatever ends it.

    Args:
      path: the file; made if missing, and left there.
      timeout_s: how long to wait while another process holds it.

    Raises:
      TimeoutError: if another process held it all the while.
    """
    deadline = time.monotonic() + timeout_s
    with path.open("ab") as file:
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() >= deadline:
                    raise TimeoutError(f"{path} is held by another process") from None
                time.sleep(POLL_S)
        yield file
