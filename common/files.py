"""Files that are whole or not there, files of JSON lines, and files that one process at a time may hold."""

import contextlib
import fcntl
import json
import logging
import os
import socket
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any

log = logging.getLogger(__name__)

POLL_S = 0.02
TAIL_BYTES = 1 << 16


def write(path: Path, data: bytes) -> None:
    """Writes a file whole or not at all: under a temporary name, synced, renamed."""
    temporary = path.with_name(f".{path.name}.{socket.gethostname()}.{os.getpid()}")
    with temporary.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    temporary.rename(path)


def append_line(path: Path, record: Mapping[str, Any]) -> None:
    """Appends a JSON object as one line of its own, also behind a line that was torn."""
    with path.open("ab+") as file:
        end = file.seek(0, os.SEEK_END)
        if end:
            file.seek(end - 1)
            torn = file.read(1) != b"\n"
            file.write(b"\n" if torn else b"")
        file.write(json.dumps(record).encode() + b"\n")


def read_lines(path: Path) -> list[dict[str, Any]]:
    """Reads JSON objects, one a line; what is none is left out, and said but for a last line that is torn."""
    if not path.exists():
        return []
    records, damaged = [], []
    lines = path.read_text(errors="replace").splitlines()
    for number, line in enumerate(lines, start=1):
        try:
            record = json.loads(line)
        except json.JSONDecodeError:
            record = None
        if isinstance(record, dict):
            records.append(record)
        elif number < len(lines):
            damaged.append(number)
    if damaged:
        log.warning("%s: %d damaged lines are left out, the first is line %d", path, len(damaged), damaged[0])
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


def is_locked(path: Path) -> bool:
    """Returns whether some process holds a file's lock; see `locked`."""
    if not path.exists():
        return False
    try:
        with locked(path):
            return False
    except TimeoutError:
        return True


def last_record(path: Path) -> dict[str, Any] | None:
    """Reads the last whole JSON object of a file of JSON lines, without reading the rest; None if there is none."""
    if not path.exists():
        return None
    with path.open("rb") as file:
        file.seek(max(0, file.seek(0, os.SEEK_END) - TAIL_BYTES))
        lines = file.read().splitlines()
    for line in reversed(lines):
        with contextlib.suppress(ValueError):
            if isinstance(record := json.loads(line), dict):
                return record
    return None
