"""A run in containers into which `bidist chaos --compose` injects faults.

Docker Compose starts a project of its own, with its own volumes, and removes it at the end. A victim is killed from
outside of its container, as by the kernel when memory runs out, so that the engine has to restart it; `docker kill`
would tell the engine not to. To stop a victim, the engine freezes its container.
"""

import contextlib
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import yaml

from common.errors import BidistError, ConfigError, SetupError
from common.run_folder import RunFolder
from common.store import Store
from experiments.stress.targets import ENDLESS, PATIENCE_S, RUN, SETTINGS, SUBSTRATE, VICTIMS, Stock, trained

PROJECT = "bidist-chaos"
SERVICES = ("actor", "learner", "distiller")
CLIENTS = (("docker", "compose"), ("docker-compose",))


class Containers:
    """A run in containers.

    Args:
      compose: the command line of Docker Compose for the project.
      url: of the run's Redis.
    """

    def __init__(self, compose: Sequence[str], url: str) -> None:
        self._compose = compose
        self.store = Store(url, RUN, patience_s=PATIENCE_S)
        ids = [_called(*compose, "ps", "-aq", service).split() for service in (*SERVICES, "redis")]
        self._ids = dict(zip(VICTIMS, (name for names in ids for name in names), strict=True))

    def kill(self, victim: str) -> bool:
        """Kills a victim's container, all processes at once."""
        pid, image = _called("docker", "inspect", "-f", "{{.State.Pid}} {{.Image}}", self._ids[victim]).split()
        if pid == "0":
            return False
        outside = ("docker", "run", "--rm", "--network", "none", "--user", "0", "--pid", "host")
        return _done(*outside, "--entrypoint", "sh", image, "-c", f"kill -9 {pid}")

    def stop(self, victim: str, seconds: float) -> bool:
        """Freezes a victim's container and resumes it."""
        if not _done("docker", "pause", self._ids[victim]):
            return False
        time.sleep(seconds)
        _called("docker", "unpause", self._ids[victim])
        return True

    def ended(self) -> int | None:
        """Returns the learner's exit status if the engine does not start it again."""
        status, code = _called(
            "docker", "inspect", "-f", "{{.State.Status}} {{.State.ExitCode}}", self._ids["learner"]
        ).split()
        return int(code) if status == "exited" else None

    def end(self) -> int:
        """Stops the roles, in the order that compose stops them in, and returns the worst exit status."""
        _called(*self._compose, "stop", *SERVICES)
        ids = (name for victim, name in self._ids.items() if victim != "redis")
        return max(map(int, _called("docker", "inspect", "-f", "{{.State.ExitCode}}", *ids).split()))

    def stock(self) -> Stock:
        """Reads the ledger from Redis, and the newest checkpoint in the learner's volume."""
        with tempfile.TemporaryDirectory(prefix="bidist-chaos-") as parent:
            _called("docker", "cp", f"{self._ids['learner']}:/runs/{RUN}", parent)
            return Stock(self.store.ledger.balance(), *trained(RunFolder(Path(parent) / RUN)))


@contextlib.contextmanager
def containers(file: Path) -> Iterator[Containers]:
    """Starts a run in containers with two actors; builds images that are missing.

    Args:
      file: this project's `docker-compose.yml`.

    Raises:
      ConfigError: if there is no such file.
      SetupError: if there is no Docker Compose here, or no engine.
      BidistError: if it does not start, or from within; the message ends with its log.
    """
    if not file.is_file():
        raise ConfigError(f"--compose {file}: there is no such file; give this project's docker-compose.yml")
    with tempfile.TemporaryDirectory(prefix="bidist-chaos-") as parent:
        address = f"127.0.0.1:{_free_port()}"
        fixed = Path(parent) / "ports.yml"  # the engine would assign Redis another port at each start
        fixed.write_text(yaml.safe_dump({"services": {"redis": {"ports": [f"{address}:6379"]}}}))
        compose = (*_settings(), *_client(), "-p", PROJECT, "-f", str(file), "-f", str(fixed))
        remove = (*compose, "down", "-v", "-t", "5")
        _called(*remove)  # what an earlier one may have left
        try:
            _called(*compose, "up", "-d", "--scale", "actor=2")
            password = _called(*compose, "exec", "-T", "redis", "cat", "/keys/viewer-password").strip()
            yield Containers(compose, f"redis://viewer:{password}@{address}/0")
        except BidistError as error:
            log = subprocess.run([*compose, "logs", "--tail", "10"], capture_output=True, text=True).stdout
            raise BidistError(f"{error}; the end of its log:\n{log[-4000:]}") from None
        finally:
            _done(*remove)


def _settings() -> list[str]:
    """The run's settings, which take precedence over those in `.env`."""
    options = " ".join(f"--set={setting}" for setting in SETTINGS)
    values = {"RUN": RUN, "METHOD": "bidist", "SUBSTRATE": SUBSTRATE, "STEPS": ENDLESS, "LEARNER_ARGS": options}
    return ["env", *(f"{name}={value}" for name, value in values.items())]


def _client() -> tuple[str, ...]:
    found = next((client for client in CLIENTS if shutil.which(client[0]) and _done(*client, "version")), None)
    if found is None:
        raise SetupError("there is no Docker Compose here; install Docker with its compose plugin")
    if not _done("docker", "info"):
        raise SetupError("no Docker engine answers; start it, and see whether `docker info` works")
    return found


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def _done(*command: str) -> bool:
    return subprocess.run(command, capture_output=True).returncode == 0


def _called(*command: str) -> str:
    """Returns what a command printed.

    Raises:
      BidistError: if it failed; the message is the command's own.
    """
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise BidistError(f"Docker failed: {done.stderr[-2000:].strip()}")
    return done.stdout
