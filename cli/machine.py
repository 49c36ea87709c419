"""What this machine has: cores and memory with its control groups' limits, its C library, installed packages."""

import importlib.metadata
import importlib.util
import os
import platform
import re
from collections.abc import Iterator
from pathlib import Path

import psutil


def melting_pot_folder() -> Path | None:
    """Where Melting Pot is installed, None if it is not."""
    spec = importlib.util.find_spec("meltingpot")
    locations = list(spec.submodule_search_locations or []) if spec else []
    return Path(locations[0]) if locations else None


def wheel_tags(name: str) -> str:
    """The tags of an installed wheel, empty if it is not installed."""
    try:
        text = importlib.metadata.distribution(name).read_text("WHEEL") or ""
    except importlib.metadata.PackageNotFoundError:
        return ""
    return " ".join(re.findall(r"^Tag: (.*)$", text, re.MULTILINE))


def glibc_version() -> tuple[int, int] | None:
    """This machine's glibc, None if it has another C library."""
    name, version = platform.libc_ver()
    match = re.match(r"(\d+)\.(\d+)", version)
    return (int(match[1]), int(match[2])) if name == "glibc" and match else None


def usable_cores() -> float:
    """The cores that this process may use: its affinity, and less where its control group has less."""
    cores = float(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)
    for folder in control_groups("cpu"):
        limit = read_numbers(folder / "cpu.max") or [
            *read_numbers(folder / "cpu.cfs_quota_us"),
            *read_numbers(folder / "cpu.cfs_period_us"),
        ]
        if len(limit) == 2 and limit[0] > 0:
            cores = min(cores, limit[0] / limit[1])
    return cores


def usable_memory() -> tuple[int, int]:
    """The memory that this process may use, all and free, in bytes, with its control group's limit."""
    memory = psutil.virtual_memory()
    total, free = memory.total, memory.available
    for folder in control_groups("memory"):
        limit = read_numbers(folder / "memory.max") or read_numbers(folder / "memory.limit_in_bytes")
        used = read_numbers(folder / "memory.current") or read_numbers(folder / "memory.usage_in_bytes")
        if limit and used and limit[0] < total:
            total, free = limit[0], min(free, limit[0] - used[0] + file_cache(folder))
    return total, free


def file_cache(folder: Path) -> int:
    """Bytes that a control group uses for files, and that the kernel gives up when they are wanted."""
    try:
        match = re.search(r"^(?:total_)?inactive_file (\d+)$", (folder / "memory.stat").read_text(), re.MULTILINE)
    except OSError:
        return 0
    return int(match[1]) if match else 0


def control_groups(controller: str) -> Iterator[Path]:
    """The folders of this process' control group and those it is in, of version 2 and of version 1."""
    try:
        lines = Path("/proc/self/cgroup").read_text().splitlines()
    except OSError:
        return
    for line in lines:
        number, controllers, group = line.split(":", 2)
        if number != "0" and controller not in controllers.split(","):
            continue
        root = Path("/sys/fs/cgroup") / controllers  # version 2 is number 0, names none, and has the root
        path = root / group.lstrip("/")
        yield from (folder for folder in (path, *path.parents) if folder.is_relative_to(root))


def read_numbers(path: Path) -> list[int]:
    """The whole numbers in a file of the kernel's; none if it is missing or says `max`."""
    try:
        return [int(word) for word in path.read_text().split()]
    except (OSError, ValueError):
        return []
