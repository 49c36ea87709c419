"""Experiment trackers: Weights & Biases and MLflow.

Their own configuration says where they send to, and as whom: `wandb login` or `WANDB_MODE=offline`,
`MLFLOW_TRACKING_URI`.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol, Self

from common.errors import SetupError

PROJECT = "bidist"
MLFLOW_BATCH = 1000
MLFLOW_PARAMETERS = 100


class Row(NamedTuple):
    """The metrics of one update or distillation event: when, after how many player steps, and what."""

    time_s: float
    player_steps: int
    metrics: Mapping[str, float]


class Tracker(Protocol):
    """Sends a run to a tracker; a context manager.

    Attributes:
      id: the tracker's name for the run, once entered; given to the constructor, it continues that run.
    """

    id: str

    def __init__(self, name: str, settings: Mapping[str, str | float], folder: Path, id: str) -> None: ...

    def __enter__(self) -> Self: ...

    def __exit__(self, *error: object) -> None: ...

    def log(self, rows: Sequence[Row]) -> None:
        """Sends rows, in their order."""


class Wandb:
    """Weights & Biases; its local files go to `wandb/` in the run's folder."""

    def __init__(self, name: str, settings: Mapping[str, str | float], folder: Path, id: str) -> None:
        self._name, self._settings, self._folder, self.id = name, settings, folder, id

    def __enter__(self) -> Self:
        import wandb

        where: dict[str, Any] = {"project": PROJECT, "dir": str(self._folder), "id": self.id or None, "resume": "allow"}
        try:
            self._run: Any = wandb.init(name=self._name, config=dict(self._settings), **where)
        except wandb.Error as error:
            raise SetupError(f"wandb: {error}; log in with `wandb login`, or set WANDB_MODE=offline") from None
        self.id = self._run.id
        self._run.define_metric("player_steps")
        self._run.define_metric("*", step_metric="player_steps")
        return self

    def __exit__(self, *error: object) -> None:
        self._run.finish(exit_code=int(error[0] is not None))

    def log(self, rows: Sequence[Row]) -> None:
        """See `Tracker`."""
        for row in rows:
            self._run.log({**row.metrics, "player_steps": row.player_steps})


class MLflow:
    """MLflow; without `MLFLOW_TRACKING_URI` it writes to `mlflow.db` in the working directory."""

    def __init__(self, name: str, settings: Mapping[str, str | float], folder: Path, id: str) -> None:
        del folder
        self._name, self._settings, self.id = name, settings, id

    def __enter__(self) -> Self:
        from mlflow import MlflowClient
        from mlflow.entities import Param
        from mlflow.exceptions import MlflowException

        try:
            self._client: Any = MlflowClient()
            if self.id:
                self._client.update_run(self.id, "RUNNING")
                return self
            experiment = self._client.get_experiment_by_name(PROJECT)
            number = experiment.experiment_id if experiment else self._client.create_experiment(PROJECT)
            self.id = self._client.create_run(number, run_name=self._name).info.run_id
            parameters = [Param(name, str(value)) for name, value in self._settings.items()]
            for i in range(0, len(parameters), MLFLOW_PARAMETERS):
                self._client.log_batch(self.id, params=parameters[i : i + MLFLOW_PARAMETERS])
        except (MlflowException, ImportError) as error:
            raise SetupError(f"mlflow: {error}; is MLFLOW_TRACKING_URI right?") from None
        return self

    def __exit__(self, *error: object) -> None:
        self._client.set_terminated(self.id, "FINISHED" if error[0] is None else "FAILED")

    def log(self, rows: Sequence[Row]) -> None:
        """See `Tracker`."""
        from mlflow.entities import Metric

        metrics = [
            Metric(name, value, int(1000 * row.time_s), row.player_steps)
            for row in rows
            for name, value in row.metrics.items()
        ]
        for i in range(0, len(metrics), MLFLOW_BATCH):
            self._client.log_batch(self.id, metrics=metrics[i : i + MLFLOW_BATCH])


TRACKERS: dict[str, type[Tracker]] = {"wandb": Wandb, "mlflow": MLflow}
