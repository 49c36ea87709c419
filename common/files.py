"""Atomic writes, JSON lines, and file locks."""

import contextlib
import json
import logging
import os
import socket
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from filelock import FileLock

log = logging.getLogger(__name__)

POLL_S = 0.02
TAIL_BYTES = 1 << 16


def write(path: Path, data: bytes, mode: int = 0o666) -> None:
    """Writes a file atomically: under a temporary name, synced, then renamed.

    A new file gets `mode`, less the umask; one that is replaced keeps its mode and, if root replaces it, its owner.
    """
    temporary = path.with_name(f".{path.name}.{socket.gethostname()}.{os.getpid()}")
    try:
        with open(temporary, "wb", opener=lambda name, flags: os.open(name, flags, mode)) as file:
            _take_after(path, file.fileno())
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.rename(path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise


def _take_after(path: Path, descriptor: int) -> None:
    with contextlib.suppress(OSError):
        before = path.stat()
        os.fchmod(descriptor, stat.S_IMODE(before.st_mode))
        if os.geteuid() == 0:
            os.fchown(descriptor, before.st_uid, before.st_gid)


def append_line(path: Path, record: Mapping[str, Any]) -> None:
    """Appends a JSON object as a line of its own, even after a torn line."""
    with path.open("ab+") as file:
        end = file.seek(0, os.SEEK_END)
        if end:
            file.seek(end - 1)
            torn = file.read(1) != b"\n"
            file.write(b"\n" if torn else b"")
        file.write(json.dumps(record).encode() + b"\n")


def read_lines(path: Path) -> list[dict[str, Any]]:
    """Reads one JSON object per line; skips malformed lines with a warning, and a torn last line silently."""
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
        log.warning("%s: skipped %d malformed lines, the first is line %d", path, len(damaged), damaged[0])
    return records


def cut_lines(path: Path, key: str, last: int) -> None:
    """Drops lines whose `key` exceeds `last`: a run that resumes from a checkpoint writes them again.

    A line without a number there is damaged, and is dropped too.
    """
    lines = read_lines(path)
    numbers = [record.get(key) for record in lines]
    if damaged := sum(not isinstance(number, int | float) for number in numbers):
        log.warning("%s: dropping %d damaged lines, without %s", path, damaged, key)
    kept = [
        json.dumps(record) + "\n"
        for record, number in zip(lines, numbers, strict=True)
        if isinstance(number, int | float) and number <= last
    ]
    if len(kept) < len(lines):
        write(path, "".join(kept).encode())


@contextlib.contextmanager
def locked(path: Path, timeout_s: float = 0.0) -> Iterator[None]:
    """Holds a file lock for the length of the block; the system releases it if the process dies.

    Args:
      path: the lock file; created if missing, and left in place.
      timeout_s: how long to wait while another process holds it.

    Raises:
      TimeoutError: if it is still held after that.
    """
    with FileLock(path).acquire(timeout_s, POLL_S):
        yield


def is_locked(path: Path) -> bool:
    """Returns whether some process holds a file lock; see `locked`."""
    if not path.exists():
        return False
    try:
        with locked(path):
            return False
    except TimeoutError:
        return True


def last_record(path: Path) -> dict[str, Any] | None:
    """Returns the last complete record of a JSON lines file without reading all of it; None if there is none."""
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
