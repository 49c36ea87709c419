"""Training systems as a benchmark sees them: a command that trains, and a file with a line for each update."""

import contextlib
import shlex
import subprocess
import tempfile
import time
from collections.abc import Generator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import psutil

import environments
from common.config import Config, learner_threads
from common.cores import core_count
from common.errors import BidistError
from common.files import last_record
from deploy.processes import bidist, stop
from experiments.speed.peers.installation import Installed, Peer
from experiments.speed.peers.settings import Sizes
from experiments.speed.peers.task import METRICS, Task

FOLDER = "FOLDER"
"""Stands for the folder of a run in its command."""
RUN = "bench"
POLL_S = 0.2
STOP_S = 60.0


@dataclass(frozen=True)
class System:
    """A training system.

    Attributes:
      label: what tables call it.
      settings: what it trains with, as it calls them itself.
      command: that trains in `FOLDER`.
      metrics: the path in that folder of its lines, which have `time_s`, `player_steps` and `return_learning`.
      task: for a peer, what is written to the folder before it starts.
      packages: what is installed in its own environment, as `pip freeze` lists it; empty if it runs in this one.
    """

    label: str
    settings: dict[str, Any]
    command: list[str]
    metrics: str
    task: Task | None = None
    packages: list[str] = field(default_factory=list)

    def described(self) -> dict[str, Any]:
        """Returns how it trains, for a JSON file."""
        command = shlex.join([Path(self.command[0]).name, *self.command[1:]])
        return {"command": command, "settings": self.settings, "packages": self.packages}


class Line(NamedTuple):
    """What a system reported last: seconds since its start, player steps, and the return, None if there is none yet."""

    elapsed_s: float
    player_steps: int
    returned: float | None


def of_bidist(label: str, values: Mapping[str, Any]) -> System:
    """Returns `bidist train`.

    Args:
      label: what tables call it.
      values: `section.key` to value; all other settings have their defaults.
    """
    options = [word for name, value in values.items() for word in ("--set", f"{name}={value}")]
    command = bidist("train", "--folder", FOLDER, "--run", RUN, "--steps", str(10**12), *options)
    return System(label, dict(values), command, f"{RUN}/{METRICS}")


def of_peer(peer: Peer, installed: Installed, config: Config) -> System:
    """Returns a peer with this project's settings in its words, and as many games as `bidist train` would play here."""
    cores = core_count()
    games = max(1, cores - learner_threads(config.learner)) * config.actor.environments
    chosen = peer.settings(config, Sizes(games, environments.spec(config.environment).players, cores))
    command = [str(installed.python), "-P", "-m", peer.module, FOLDER]
    return System(peer.label, chosen, command, METRICS, Task(config, chosen), installed.packages)


def follow(system: System, limit_s: float) -> Generator[Line, None, None]:
    """Trains until the limit or until it is closed, and yields its newest line whenever there is a new one.

    Raises:
      BidistError: if training ends by itself; the message has the end of its output.
    """
    with tempfile.TemporaryDirectory(prefix="bidist-", ignore_cleanup_errors=True) as parent:
        folder, log = Path(parent), Path(parent) / "output"
        if system.task is not None:
            system.task.write(folder)
        command = [str(folder) if word == FOLDER else word for word in system.command]
        with log.open("wb") as output:
            process = subprocess.Popen(command, stdout=output, stderr=output, stdin=subprocess.DEVNULL)
        started, newest = time.time(), 0.0
        try:
            while time.time() - started < limit_s:
                if process.poll() is not None:
                    tail = log.read_text(errors="replace")[-2000:]
                    raise BidistError(f"{system.label} ended with exit status {process.returncode}:\n{tail}")
                record = last_record(folder / system.metrics)
                if record is not None and record["time_s"] > newest:
                    newest = record["time_s"]
                    yield Line(newest - started, record["player_steps"], record.get("return_learning"))
                time.sleep(POLL_S)
        finally:
            _stop(process)


def _stop(process: "subprocess.Popen[bytes]") -> None:
    """Ends a process in its own time, and then whatever it leaves behind."""
    with contextlib.suppress(psutil.NoSuchProcess):
        family = psutil.Process(process.pid).children(recursive=True)
        stop(process, STOP_S)
        for member in family:
            with contextlib.suppress(psutil.NoSuchProcess):
                member.kill()
