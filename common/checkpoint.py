"""Checkpoints: one folder each, tensors as safetensors and the rest as JSON, written atomically."""

import hashlib
import json
import logging
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from common import tensors as tensor_bytes
from common.errors import CheckpointError
from common.files import write

if TYPE_CHECKING:
    from torch import Tensor

log = logging.getLogger(__name__)

FORMAT = 2
"""1 was without a digest of the state; such checkpoints can be loaded."""
STATE = "state.json"
MAX_FILE_BYTES = 8 << 30


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint in memory.

    Attributes:
      path: its folder.
      tensors: by file (`theta`, `optimiser`, ...), then by name.
      state: everything that is not a tensor, such as counters.
      digests: SHA-256 of each file.
    """

    path: Path
    tensors: "dict[str, dict[str, Tensor]]"
    state: dict[str, Any]
    digests: dict[str, str]


def path_of(folder: Path, number: int) -> Path:
    """Returns the path of checkpoint `number`, whether it exists or not."""
    return folder / f"{number:08d}"


def save(
    folder: Path,
    number: int,
    tensors: "Mapping[str, Mapping[str, Tensor]]",
    state: Mapping[str, Any],
    keep: int | None,
) -> Path:
    """Saves checkpoint `number` and removes all but the `keep` newest; None keeps all.

    It is written under a temporary name, synced, then renamed, so readers never see an incomplete checkpoint.

    Raises:
      CheckpointError: if there is no room for it, or it cannot be written for another reason.
    """
    target = path_of(folder, number)
    temporary = folder / f".{target.name}.{os.getpid()}"
    try:
        _write(target, temporary, tensors, state)
    except OSError as error:
        shutil.rmtree(temporary, ignore_errors=True)
        raise CheckpointError(f"{target} could not be saved: {error}") from None
    for old in checkpoints(folder)[:-keep] if keep else ():
        shutil.rmtree(old, ignore_errors=True)
    return target


def _write(
    target: Path, temporary: Path, tensors: "Mapping[str, Mapping[str, Tensor]]", state: Mapping[str, Any]
) -> None:
    folder = target.parent
    for abandoned in folder.glob(".[0-9]*"):  # left by a process that was killed while saving
        shutil.rmtree(abandoned, ignore_errors=True)
    temporary.mkdir(parents=True)
    digests = {}
    for name, group in tensors.items():
        data = tensor_bytes.pack(group)
        digests[name] = hashlib.sha256(data).hexdigest()
        write(temporary / f"{name}.safetensors", data)
    record = {"format": FORMAT, "digests": digests, "state": state, "state_digest": _digest(state)}
    write(temporary / STATE, json.dumps(record, indent=1).encode())
    shutil.rmtree(target, ignore_errors=True)
    temporary.rename(target)
    _sync(folder)


def load(path: Path) -> Checkpoint:
    """Loads a checkpoint and checks every file against its digest.

    Raises:
      CheckpointError: if it is missing, incomplete or damaged.
    """
    try:
        record = json.loads(_read(path / STATE))
        if record["format"] not in (1, FORMAT):
            raise CheckpointError(f"{path}: format {record['format']}, but this version reads {FORMAT}")
        if record["format"] == FORMAT and record["state_digest"] != _digest(record["state"]):
            raise CheckpointError(f"{path}: {STATE} changed after it was saved; use an older one")
        tensors = {}
        for name, digest in record["digests"].items():
            data = _read(path / f"{name}.safetensors")
            if hashlib.sha256(data).hexdigest() != digest:
                raise CheckpointError(f"{path}: {name}.safetensors changed after it was saved; use an older one")
            tensors[name] = tensor_bytes.unpack(data)
        return Checkpoint(path, tensors, record["state"], record["digests"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise CheckpointError(f"{path}: incomplete or damaged checkpoint: {error}") from None


def newest(folder: Path) -> Checkpoint | None:
    """Loads the newest intact checkpoint in a folder; skips damaged ones with a warning. None if there is none."""
    for path in reversed(checkpoints(folder)):
        try:
            return load(path)
        except CheckpointError as error:
            log.warning("skipping a damaged checkpoint: %s", error)
    return None


def set_aside(folder: Path, after: int) -> None:
    """Renames checkpoints of a higher number to `NUMBER.damaged`.

    A run that resumes from an older one, because they are damaged, will save their numbers again; until then they must
    not count among the newest, which are kept.
    """
    for path in (path for path in checkpoints(folder) if int(path.name) > after):
        aside = path.with_name(f"{path.name}.damaged")
        shutil.rmtree(aside, ignore_errors=True)
        try:
            path.rename(aside)
        except OSError as error:
            log.warning("%s cannot be set aside: %s", path, error)
        else:
            log.warning("%s could not be loaded and is now called %s", path, aside.name)


def checkpoints(folder: Path) -> list[Path]:
    """Returns the checkpoints in a folder, oldest first."""
    if not folder.is_dir():
        return []
    return sorted((p for p in folder.iterdir() if p.is_dir() and p.name.isdecimal()), key=lambda p: int(p.name))


def _digest(state: Any) -> str:
    """Returns the SHA-256 of a state, which is the same before it is saved as JSON and after."""
    return hashlib.sha256(json.dumps(json.loads(json.dumps(state)), sort_keys=True).encode()).hexdigest()


def _read(path: Path) -> bytes:
    if (size := path.stat().st_size) > MAX_FILE_BYTES:
        raise ValueError(f"{path.name} has {size} bytes, expected at most {MAX_FILE_BYTES}")
    return path.read_bytes()


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
