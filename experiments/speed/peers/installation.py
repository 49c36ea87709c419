"""Installs peers, each into a virtual environment of its own: they need other versions of numpy than this project."""

import json
import subprocess
import sys
import sysconfig
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from common.config import Config
from common.errors import ConfigError, SetupError
from common.files import write
from experiments.speed.peers.settings import Sizes, rllib, sample_factory

ROOT = Path(__file__).resolve().parents[3]
DEFAULT_FOLDER = Path.home() / ".cache" / "bidist" / "peers"
OURS = ("common", "environments", "experiments")
"""The project's packages that a peer's process imports."""
SAME = (
    *("absl-py", "dm-env", "dm-tree", "dmlab2d", "filelock", "immutabledict", "ml-collections", "networkx"),
    *("pydantic", "pyyaml", "torch"),
)
"""What the games and the networks need, installed at the versions that are here."""
Run = Callable[[list[str], Path], str]


@dataclass(frozen=True)
class Peer:
    """Another training system.

    Attributes:
      name: what the command line calls it.
      label: what tables call it.
      module: that trains with it.
      requirements: for pip, besides `SAME`.
      settings: returns this project's settings in its words.
    """

    name: str
    label: str
    module: str
    requirements: tuple[str, ...]
    settings: Callable[[Config, Sizes], dict[str, Any]]

    def plan(self) -> list[str]:
        """Returns all requirements.

        Raises:
          SetupError: if one that must be the same here is not installed.
        """
        try:
            same = [f"{name}=={metadata.version(name).partition('+')[0]}" for name in SAME]
        except metadata.PackageNotFoundError as error:
            raise SetupError(f"{error.name} is not installed here, and {self.label} needs it to play: {HOW}") from None
        return [*self.requirements, *same]


@dataclass(frozen=True)
class Installed:
    """A peer's environment: its Python, and what is installed, as `pip freeze` lists it."""

    python: Path
    packages: list[str]


HOW = "run `make setup` in a checkout, or see docs/install.md"
_KNOWN = (
    Peer(
        *("sample-factory", "Sample Factory", "experiments.speed.peers.sample_factory", ("sample-factory==2.1.1",)),
        sample_factory,
    ),
    Peer("rllib", "RLlib", "experiments.speed.peers.rllib", ("ray[rllib]==2.60.*",), rllib),
)
PEERS = {peer.name: peer for peer in _KNOWN}


def named(names: Sequence[str]) -> list[Peer]:
    """Returns peers by their names, all of them for none.

    Raises:
      ConfigError: if there is no such peer.
    """
    for name in names:
        if name not in PEERS:
            raise ConfigError(f"--peer {name!r}: expected some of {', '.join(PEERS)}, separated by commas")
    return [PEERS[name] for name in names or PEERS]


def run(command: list[str], log: Path) -> str:
    """Runs a command of the installation, with its output in a log, and returns this output.

    Raises:
      SetupError: if it fails; the message has the last error.
    """
    with log.open("wb") as output:
        status = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=output, stderr=output).returncode
    printed = log.read_text(errors="replace")
    if status:
        lines = printed.strip().splitlines() or ["no output"]
        errors = [line for line in lines if line.startswith("ERROR: ")] or lines
        raise SetupError(f"{' '.join(command[:5])} failed: {errors[-1].removeprefix('ERROR: ')}; all of it: {log}")
    return printed


def install(peer: Peer, folder: Path, run: Run = run) -> Installed:
    """Installs a peer, unless it is installed.

    The project's packages and Melting Pot become links in its environment, so that peers play the very same games.

    Args:
      peer: see `PEERS`.
      folder: for the environments of all peers.
      run: runs a command, with its output in a log, and returns this output.

    Raises:
      SetupError: if it cannot be installed, for instance without a network.
    """
    wanted, home = peer.plan(), folder / peer.name
    python, stamp, log = home / "bin" / "python", home / "installed.json", folder / f"{peer.name}.log"
    done = json.loads(stamp.read_text()) if stamp.exists() else {}
    if done.get("wanted") != wanted:
        folder.mkdir(parents=True, exist_ok=True)
        run([sys.executable, "-m", "venv", "--clear", str(home)], log)
        pip = [str(python), "-m", "pip", "--disable-pip-version-check"]
        run([*pip, "install", "--no-input", *wanted], log)
        done = {"wanted": wanted, "packages": run([*pip, "freeze"], log).splitlines()}
        write(stamp, json.dumps(done, indent=1).encode())
    site = Path(sysconfig.get_path("purelib", "venv", {"base": str(home)}))
    for name, target in {**{name: ROOT / name for name in OURS}, "meltingpot": _meltingpot()}.items():
        (site / name).unlink(missing_ok=True)
        (site / name).symlink_to(target, target_is_directory=True)
    return Installed(python, done["packages"])


def _meltingpot() -> Path:
    spec = find_spec("meltingpot")
    if spec is None or not spec.submodule_search_locations:
        raise SetupError(f"dm-meltingpot is not installed: {HOW}")
    return Path(spec.submodule_search_locations[0])
