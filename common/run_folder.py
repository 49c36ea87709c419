"""The layout of a run's folder.

config.yaml          the resolved configuration
checkpoints/         the learner's, one folder each, newest last
distiller/           the distiller's checkpoints
pool/                past policies, for methods that keep them
metrics.jsonl        one line per update
distillation.jsonl   one line per distillation event
tensorboard/         the same for TensorBoard
logs/                one file per role
redis/               the append-only file, if `train` started Redis
training-N.mp4       films made during training, by checkpoint
learning_curve.png, summary.json    written at the end
evaluation.jsonl     one line per episode of an official scenario
.train, .learner     locks of the process that trains the run, and of its learner
"""

import contextlib
import shlex
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import yaml

from common.config import Config, RunConfig
from common.errors import ConfigError
from common.files import last_record, locked, read_lines, write
from common.settings import read_yaml, validate

Value = TypeVar("Value")

FORMER_NAMES = {"return_fictitious": "return_others"}
"""Names of metrics in earlier releases, and their names today."""


def renamed(record: Mapping[str, Value]) -> dict[str, Value]:
    """Returns metrics under today's names, whichever release wrote them."""
    return {FORMER_NAMES.get(name, name): value for name, value in record.items()}


def training_return(lines: Iterable[Mapping[str, object]]) -> str:
    """Returns the metric that shows whether a run learns: the return of the learning players.

    If theta does not play in training, it is the return of the players whose steps theta learns from.

    Args:
      lines: of `metrics.jsonl`.
    """
    learning = any(line.get("return_learning") is not None for line in lines)
    return "return_learning" if learning else "return_others"


def find_run(folder: Path, run: str) -> "RunFolder":
    """Returns a run by its name in a folder, or by its path."""
    named = folder / run
    return RunFolder(Path(run) if Path(run).is_dir() and not named.is_dir() else named)


@dataclass(frozen=True)
class RunFolder:
    """The paths of one run."""

    path: Path

    @classmethod
    def of(cls, config: RunConfig) -> "RunFolder":
        """Returns the folder of a configured run."""
        return cls(Path(config.folder) / config.name)

    @property
    def named(self) -> str:
        """Returns the arguments that select this run: its name, and `--folder` unless it is in `runs`."""
        parent = self.path.parent
        return self.path.name + ("" if parent == Path("runs") else f" --folder {shlex.quote(str(parent))}")

    @property
    def config(self) -> Path:
        """The resolved configuration."""
        return self.path / "config.yaml"

    @property
    def checkpoints(self) -> Path:
        """The learner's checkpoints."""
        return self.path / "checkpoints"

    @property
    def distiller(self) -> Path:
        """The distiller's checkpoints."""
        return self.path / "distiller"

    @property
    def pool(self) -> Path:
        """Past policies, one folder each."""
        return self.path / "pool"

    @property
    def metrics(self) -> Path:
        """The learner's metrics, one JSON object per line."""
        return self.path / "metrics.jsonl"

    @property
    def distillation(self) -> Path:
        """The distiller's metrics, one JSON object per line."""
        return self.path / "distillation.jsonl"

    @property
    def tensorboard(self) -> Path:
        """TensorBoard's folder."""
        return self.path / "tensorboard"

    @property
    def logs(self) -> Path:
        """The roles' logs."""
        return self.path / "logs"

    @property
    def redis(self) -> Path:
        """The data of the Redis server that `train` started."""
        return self.path / "redis"

    @property
    def summary(self) -> Path:
        """The run's results, written at its end."""
        return self.path / "summary.json"

    @property
    def evaluation(self) -> Path:
        """Results in official scenarios, one JSON object per episode."""
        return self.path / "evaluation.jsonl"

    @property
    def learning_curve(self) -> Path:
        """A picture of the return during training."""
        return self.path / "learning_curve.png"

    def updates(self) -> list[dict[str, Any]]:
        """Returns the learner's metrics, one record per update."""
        return [renamed(line) for line in read_lines(self.metrics)]

    def last_update(self) -> dict[str, Any]:
        """Returns the metrics of the last update; empty if there is none."""
        return renamed(last_record(self.metrics) or {})

    def lock(self, role: str) -> Path:
        """Returns the lock file of a role."""
        return self.path / f".{role}"

    def make(self) -> None:
        """Makes the folder itself, unless it exists.

        Raises:
          ConfigError: if it cannot be made.
        """
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigError(f"--folder {self.path.parent}: {self.path} cannot be made: {error.strerror}") from None

    @contextlib.contextmanager
    def held(self, role: str, timeout_s: float = 0.0) -> Iterator[None]:
        """Holds the folder's lock for a role, so that only one process has it.

        Args:
          role: `train` or `learner`.
          timeout_s: how long to wait for another holder to leave.

        Raises:
          ConfigError: if another process still holds it after that, or if the folder cannot be made.
        """
        self.make()
        with contextlib.ExitStack() as stack:
            try:
                stack.enter_context(locked(self.lock(role), timeout_s))
            except TimeoutError:
                raise ConfigError(
                    f"run {self.path} is already running in another `bidist {role}`; "
                    f"watch it with bidist watch --run {self.path.name}"
                ) from None
            yield

    def begin(self, config: Config) -> None:
        """Writes the configuration, and removes the summary of a finished run that is resumed."""
        self.create(config)
        self.summary.unlink(missing_ok=True)

    def create(self, config: Config) -> None:
        """Creates the folder and writes the configuration.

        An unchanged file is only touched, so this works on a full disk.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        data = yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False).encode()
        if self.config.exists() and self.config.read_bytes() == data:
            self.config.touch()  # `watch` picks the run with the newest config.yaml
        else:
            write(self.config, data)

    def put_url(self, url: str) -> None:
        """Writes the URL of the run's Redis, readable by this user only: it may hold a password."""
        self.redis.mkdir(exist_ok=True)
        write(self.redis / "url", f"{url}\n".encode(), mode=0o600)

    def read_config(self) -> Config:
        """Reads the configuration back.

        Raises:
          ConfigError: if it is missing or invalid.
        """
        tree = read_yaml(self.config)
        # Runs older than this setting did not observe them.
        tree.setdefault("environment", {}).setdefault("last_action_and_reward", False)
        try:
            return validate(tree)
        except ConfigError as error:
            raise ConfigError(f"{self.config}: {error}") from None
