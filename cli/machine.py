"""What this machine has: memory within its control group's limit, its C library, installed packages."""

import importlib.metadata
import importlib.util
import platform
import re
from pathlib import Path

import psutil

from common.cores import control_groups


def melting_pot_folder() -> Path | None:
    """Returns where Melting Pot is installed; None if it is not."""
    spec = importlib.util.find_spec("meltingpot")
    locations = list(spec.submodule_search_locations or []) if spec else []
    return Path(locations[0]) if locations else None


def wheel_tags(name: str) -> str:
    """Returns the tags of an installed wheel; empty if it is not installed."""
    try:
        text = importlib.metadata.distribution(name).read_text("WHEEL") or ""
    except importlib.metadata.PackageNotFoundError:
        return ""
    return " ".join(re.findall(r"^Tag: (.*)$", text, re.MULTILINE))


def glibc_version() -> tuple[int, int] | None:
    """Returns the version of this machine's glibc; None if it has another C library."""
    name, version = platform.libc_ver()
    match = re.match(r"(\d+)\.(\d+)", version)
    return (int(match[1]), int(match[2])) if name == "glibc" and match else None


def usable_memory() -> tuple[int, int]:
    """Returns the memory that this process may use within its control group's limit: total and free, in bytes."""
    memory = psutil.virtual_memory()
    total, free = memory.total, memory.available
    for folder in control_groups():
        limit = read_numbers(folder / "memory.max")
        used = read_numbers(folder / "memory.current")
        if limit and used and limit[0] < total:
            total, free = limit[0], min(free, limit[0] - used[0] + file_cache(folder))
    return total, free


def file_cache(folder: Path) -> int:
    """Returns the bytes of a control group's file cache, which the kernel frees on demand."""
    try:
        match = re.search(r"^inactive_file (\d+)$", (folder / "memory.stat").read_text(), re.MULTILINE)
    except OSError:
        return 0
    return int(match[1]) if match else 0


def read_numbers(path: Path) -> list[int]:
    """Returns the whole numbers in a kernel file; none if it is missing or says `max`."""
    try:
        return [int(word) for word in path.read_text().split()]
    except (OSError, ValueError):
        return []
