"""Where a figure comes from: what it was measured on, and the command that made it."""

import json
import os
import platform
import shlex
import subprocess
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

from common.cores import core_count
from common.files import write

DRIVERS = ("/proc/driver/nvidia/version", "/dev/kfd", "/dev/dxg")
"""Of NVIDIA's and AMD's GPUs, and of WSL."""
PACKAGES = ("bidist", "torch", "numpy", "dm-meltingpot", "dmlab2d")
ROOT = Path(__file__).resolve().parents[1]


def circumstances() -> dict[str, Any]:
    """Returns hardware, versions and commit, for a JSON file."""
    return {"hardware": hardware(), "versions": versions(), "commit": commit()}


def write_json(path: Path, record: Mapping[str, Any]) -> None:
    """Writes what was measured as JSON, with its circumstances."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write(path, f"{json.dumps({**record, 'circumstances': circumstances()}, indent=1)}\n".encode())


def record_command(folder: Path, command: Sequence[str]) -> None:
    """Records in a folder of results, for the dashboard, the command that made them, given word by word."""
    write(folder / "command.json", f"{json.dumps({'command': shlex.join(command)})}\n".encode())


def hardware(drivers: Sequence[str] = DRIVERS) -> dict[str, Any]:
    """Returns the number of usable cores, the processor's name, and the GPU's if torch finds one.

    Args:
      drivers: files of which one exists where there is a GPU; if none does, torch is not loaded, which takes seconds.
    """
    model = platform.processor() or platform.machine()
    information = Path("/proc/cpuinfo")
    if information.exists():
        named = [line for line in information.read_text().splitlines() if line.startswith("model name")]
        model = named[0].partition(":")[2].strip() if named else model
    return {"cores": core_count(), "processor": model, "gpu": _gpu() if any(map(os.path.exists, drivers)) else None}


def _gpu() -> str | None:
    import torch

    return torch.cuda.get_device_name() if torch.cuda.is_available() else None


def versions() -> dict[str, str]:
    """Returns the versions of Python, the project, and the packages that its speed and games depend on."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = "not installed"
    return found


def commit(root: Path = ROOT) -> str | None:
    """Returns the checked-out commit, with `-dirty` appended if files were changed; None outside a checkout.

    An installed package is outside a checkout, even if its virtual environment lies in some repository of the user's.

    Args:
      root: the folder of this project's packages.
    """
    if not (root / ".git").exists():
        return None
    command = ["git", "-C", str(root), "describe", "--always", "--dirty", "--abbrev=12"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None
