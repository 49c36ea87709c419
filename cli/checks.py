"""The checks of `bidist doctor`; each function checks one thing that a run needs."""

import importlib
import importlib.metadata
import importlib.util
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from common.errors import SetupError
from deploy.redis_server import find_redis_server

GIB = 2**30
MIN_PYTHON = (3, 11)
MIN_CORES = 2
MIN_MEMORY_GIB = 4.0
MIN_DISK_GIB = 5.0
SETUP_ADVICE = "run `make setup` in a checkout; elsewhere install it as docs/install.md says"
BOTS_ADVICE = (
    "training works without them; to evaluate, set BIDIST_MELTINGPOT_ASSETS to Melting Pot's asset archive and run "
    "`make setup`, or run `make bots` where Melting Pot's own download works; without a checkout, see docs/install.md"
)
# The paper's substrates, with both variants of the games that have two.
SUBSTRATES = (
    "coins",
    "coop_mining",
    *(
        f"{game}_in_the_matrix__{variant}"
        for game in ("chicken", "prisoners_dilemma", "pure_coordination")
        for variant in ("arena", "repeated")
    ),
)

Status = Literal["ok", "warn", "fail"]


@dataclass(frozen=True)
class Check:
    """The result of one check.

    Attributes:
      name: what was checked.
      status: `ok`; `warn` if something works poorly or not at all; `fail` if no run is possible.
      found: what the machine has.
      advice: how to fix it, in one line; empty if there is nothing to fix.
    """

    name: str
    status: Status
    found: str
    advice: str = ""


def check_python(version: tuple[int, ...]) -> Check:
    """Checks that Python is new enough."""
    found = ".".join(map(str, version)) + f" ({sys.executable})"
    if version < MIN_PYTHON:
        return Check("Python", "fail", found, "install Python 3.11 or newer, then run `make clean setup`")
    return Check("Python", "ok", found)


def check_package(name: str, module: str = "") -> Check:
    """Checks that a package is installed and can be imported.

    Args:
      name: the distribution's name, as pip knows it.
      module: the module's name, if it differs.
    """
    try:
        version = importlib.metadata.version(name)
        imported = importlib.import_module(module or name)
    except importlib.metadata.PackageNotFoundError:
        return Check(name, "fail", "not installed", SETUP_ADVICE)
    except (ImportError, OSError) as error:
        return Check(name, "fail", f"cannot be imported: {error}", "run `make clean setup`")
    if name == "pyzmq":
        version += f" (libzmq {imported.zmq_version()})"
    return Check(name, "ok", version)


def check_glibc(tags: str, found: tuple[int, int] | None) -> Check:
    """Checks that glibc is new enough for dmlab2d's wheel.

    Args:
      tags: the wheel's tags; empty if it is not installed.
      found: the version of glibc; None if the C library is another one.
    """
    wanted = [(int(major), int(minor)) for major, minor in re.findall(r"manylinux_(\d+)_(\d+)", tags)]
    text = "none" if found is None else "{}.{}".format(*found)
    if not wanted:
        return Check("glibc", "ok", f"{text} (the installed dmlab2d names no minimum)")
    text += " (dmlab2d needs {}.{})".format(*min(wanted))
    if found is None or found < min(wanted):
        return Check("glibc", "fail", text, "use a newer Linux, such as Debian 12 or Ubuntu 22.04")
    return Check("glibc", "ok", text)


def check_substrates(folder: Path | None) -> Check:
    """Checks that Melting Pot is installed with the paper's substrates, without importing it: that needs TensorFlow."""
    if folder is None:
        return Check("Melting Pot", "fail", "not installed", SETUP_ADVICE)
    configs = folder / "configs" / "substrates"
    missing = [name for name in SUBSTRATES if not (configs / f"{name}.py").is_file()]
    if missing or not (folder / "lua" / "levels").is_dir():
        what = ", ".join(missing) or "the levels"
        return Check("Melting Pot", "fail", f"lacks {what}", "run `make clean setup`")
    version = importlib.metadata.version("dm-meltingpot")
    return Check("Melting Pot", "ok", f"{version}, all {len(SUBSTRATES)} substrates of the paper")


def check_bots(folder: Path | None) -> Check:
    """Checks which of the paper's substrates have the bots that their scenarios need."""
    models = folder / "assets" / "saved_models" if folder else None
    found = [name for name in SUBSTRATES if models and any((models / name).glob("*/saved_model.pb"))]
    if not found:
        return Check("bots", "warn", "none: scenarios cannot be played", BOTS_ADVICE)
    missing = [name for name in SUBSTRATES if name not in found]
    if missing:
        return Check("bots", "warn", f"{', '.join(found)}; none for {', '.join(missing)}", BOTS_ADVICE)
    return Check("bots", "ok", ", ".join(found))


def check_redis_server() -> Check:
    """Checks the Redis server that `bidist train` would start."""
    try:
        binary = find_redis_server()
        version = subprocess.run(
            [binary.path, "--version"], capture_output=True, text=True, timeout=10, check=True
        ).stdout
    except SetupError as error:
        return Check("Redis server", "fail", "none", str(error))
    except (OSError, subprocess.SubprocessError) as error:
        return Check("Redis server", "fail", f"cannot be run: {error}", "reinstall the system's redis-server")
    match = re.search(r"v=(\S+)", version)
    found = f"{match[1] if match else version.strip()} ({binary.path})"
    if binary.fallback:
        advice = "fine for one machine; for several, install the system's (`apt install redis-server`)"
        return Check("Redis server", "warn", found, advice)
    return Check("Redis server", "ok", found)


def check_cores(cores: float) -> Check:
    """Checks that this process may use enough cores for learner and actors."""
    if cores < MIN_CORES:
        advice = f"runs work, but slowly: the learner and the actors share fewer than {MIN_CORES} cores"
        return Check("cores", "warn", f"{cores:g}", advice)
    return Check("cores", "ok", f"{cores:g}")


def check_memory(memory: tuple[int, int]) -> Check:
    """Checks the memory that this process may use.

    Args:
      memory: total and free, in bytes.
    """
    total, free = (value / GIB for value in memory)
    found = f"{total:.1f} GiB, {free:.1f} free"
    if free < MIN_MEMORY_GIB:
        return Check("memory", "warn", found, f"free some, or run fewer actors: {MIN_MEMORY_GIB:g} GiB is comfortable")
    return Check("memory", "ok", found)


def check_gpu() -> Check:
    """Checks whether torch can use a GPU; having none is fine."""
    if importlib.util.find_spec("torch") is None:
        return Check("GPU", "warn", "unknown without torch", SETUP_ADVICE)
    import torch

    if torch.cuda.is_available():
        names = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
        return Check("GPU", "ok", ", ".join(names))
    if Path("/dev/nvidia0").exists():
        advice = "install NVIDIA's driver and a matching build of torch; until then the learner runs on the CPU"
        return Check("GPU", "warn", f"present, but torch {torch.__version__} cannot use it", advice)
    return Check("GPU", "ok", "none; the learner runs on the CPU")


def check_disk(folder: Path) -> Check:
    """Checks the free disk space where runs are kept."""
    free = shutil.disk_usage(folder).free / GIB
    if free < MIN_DISK_GIB:
        advice = f"free some, or keep runs elsewhere with --folder: {MIN_DISK_GIB:g} GiB is comfortable"
        return Check("disk", "warn", f"{free:.1f} GiB free", advice)
    return Check("disk", "ok", f"{free:.1f} GiB free")
