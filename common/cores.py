"""How many CPU cores this process may use; learner threads, actors, sweeps and the doctor all count them here."""

import os
from pathlib import Path

PROC_CGROUP = Path("/proc/self/cgroup")
CGROUP_ROOT = Path("/sys/fs/cgroup")


def usable_cores(membership: Path = PROC_CGROUP, root: Path = CGROUP_ROOT) -> float:
    """Returns the cores this process may use: its CPU affinity, or less if its control group (version 2) has less.

    Args:
      membership: the file that names the process's control group.
      root: where control groups are mounted.
    """
    cores = float(_affinity())
    for group in control_groups(membership, root):
        try:
            quota, period = (group / "cpu.max").read_text().split()
        except (OSError, ValueError):
            continue
        if quota != "max":
            cores = min(cores, int(quota) / int(period))
    return cores


def core_count() -> int:
    """Returns `usable_cores` as a whole number of processes or threads to start, at least 1."""
    return max(1, int(usable_cores()))


def control_groups(membership: Path = PROC_CGROUP, root: Path = CGROUP_ROOT) -> list[Path]:
    """Returns the folders of this process's version 2 control group and its ancestors; any of them may set a limit."""
    try:
        lines = membership.read_text().splitlines()
    except OSError:
        return []
    names = [line.removeprefix("0::/") for line in lines if line.startswith("0::/")]
    return [folder for name in names for folder in (root / name, *(root / name).parents) if folder.is_relative_to(root)]


def _affinity() -> int:
    if hasattr(os, "sched_getaffinity"):  # not on macOS
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
