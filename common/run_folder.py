"""Where a run keeps its things.

config.yaml          the resolved configuration
checkpoints/         the learner's, one folder each, newest last
distiller/           the distiller's own
pool/                past policies that are played, of methods that keep some
metrics.jsonl        one line an update
distillation.jsonl   one line a distillation event
tensorboard/         the same for TensorBoard
logs/                one file a role
redis/               the append-only file, if `train` started Redis
learning_curve.png, summary.json    written at the end
evaluation.jsonl     one line an episode of an official scenario
.train, .learner     held by the process that trains it, and by its learner
"""

import contextlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import yaml

from common.config import Config, RunConfig
from common.errors import ConfigError
from common.files import locked, write
from common.settings import read_yaml, validate


def training_return(lines: Iterable[Mapping[str, object]]) -> str:
    """The metric that shows how a run learns: the learning players' return.

    Where theta plays nowhere in training, it is the return of the players whose steps it learns from.

    Args:
      lines: of `metrics.jsonl`.
    """
    learning = any(line.get("return_learning") is not None for line in lines)
    return "return_learning" if learning else "return_fictitious"


def find_run(folder: Path, run: str) -> "RunFolder":
    """A run by its name in a folder, or by a path of its own."""
    named = folder / run
    return RunFolder(Path(run) if Path(run).is_dir() and not named.is_dir() else named)


@dataclass(frozen=True)
class RunFolder:
    """The paths of one run."""

    path: Path

    @classmethod
    def of(cls, config: RunConfig) -> "RunFolder":
        """The folder of a run by its configuration."""
        return cls(Path(config.folder) / config.name)

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
        """The learner's metrics, a JSON object a line."""
        return self.path / "metrics.jsonl"

    @property
    def distillation(self) -> Path:
        """The distiller's metrics, a JSON object a line."""
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
        """Redis' files."""
        return self.path / "redis"

    @property
    def summary(self) -> Path:
        """What the run came to, written at its end."""
        return self.path / "summary.json"

    @property
    def evaluation(self) -> Path:
        """How its populations did in official scenarios, a JSON object an episode."""
        return self.path / "evaluation.jsonl"

    @property
    def learning_curve(self) -> Path:
        """The picture of it."""
        return self.path / "learning_curve.png"

    def lock(self, role: str) -> Path:
        """The file that the process in a role holds."""
        return self.path / f".{role}"

    @contextlib.contextmanager
    def held(self, role: str, timeout_s: float = 0.0) -> Iterator[None]:
        """Holds the folder in a role, of which it has room for one.

        Args:
          role: `train` or `learner`.
          timeout_s: how long to wait for another holder to leave.

        Raises:
          ConfigError: if another process holds it all the while.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        with contextlib.ExitStack() as stack:
            try:
                stack.enter_context(locked(self.lock(role), timeout_s))
            except TimeoutError:
                raise ConfigError(
                    f"run {self.path} is running already, another `bidist {role}` holds it: "
                    f"see it with bidist watch --run {self.path.name}"
                ) from None
            yield

    def begin(self, config: Config) -> None:
        """Writes the configuration, and takes away what said that the run is finished, should it go on now."""
        self.create(config)
        self.summary.unlink(missing_ok=True)

    def create(self, config: Config) -> None:
        """Writes the configuration, making the folder for it."""
        self.path.mkdir(parents=True, exist_ok=True)
        text = yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False)
        write(self.config, text.encode())

    def read_config(self) -> Config:
        """Reads the configuration back.

        Raises:
          ConfigError: if it is missing or wrong.
        """
        tree = read_yaml(self.config)
        # Runs from before this setting existed did not observe it.
        tree.setdefault("environment", {}).setdefault("last_action_and_reward", False)
        try:
            return validate(tree)
        except ConfigError as error:
            raise ConfigError(f"{self.config}: {error}") from None
