"""What a figure was measured on: processor, versions, commit."""

import platform
import subprocess
from importlib import metadata
from pathlib import Path
from typing import Any

from common.cores import core_count

PACKAGES = ("bidist", "torch", "numpy", "dm-meltingpot", "dmlab2d")


def circumstances() -> dict[str, Any]:
    """Hardware, versions and commit, for a JSON file."""
    return {"hardware": hardware(), "versions": versions(), "commit": commit()}


def hardware() -> dict[str, Any]:
    """The number of usable cores, the processor's name, and the GPU's if torch finds one."""
    import torch

    model = platform.processor() or platform.machine()
    information = Path("/proc/cpuinfo")
    if information.exists():
        named = [line for line in information.read_text().splitlines() if line.startswith("model name")]
        model = named[0].partition(":")[2].strip() if named else model
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    return {"cores": core_count(), "processor": model, "gpu": gpu}


def versions() -> dict[str, str]:
    """The versions of Python, the project, and the packages that its speed and games depend on."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = "not installed"
    return found


def commit() -> str | None:
    """The checked-out commit, with `-dirty` appended if files were changed; None outside a repository."""
    command = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty", "--abbrev=12"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None
