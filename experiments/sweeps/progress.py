"""The progress and results of a sweep's trials, read from their run folders."""

import csv
import io
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from common.files import is_locked, read_lines, write
from common.run_folder import RunFolder, training_return
from evaluator.results import AVERAGED, lock_of
from experiments.sweeps.trial import Trial
from reports.lengths import adjusted

NOTES = ".sweep"
TRIALS = "trials.csv"

ACTIVE = ("training", "evaluating")

State = Literal["done", "training", "evaluating", "stopped", "failed", "waiting"]


@dataclass(frozen=True)
class Notes:
    """The files that a sweep keeps about a trial, beside the run's folder.

    Attributes:
      lock: held by the process that runs the trial.
      log: output of its commands.
      record: JSON: the command; the machine, commit and time of the last claim; the error if it failed.
    """

    lock: Path
    log: Path
    record: Path

    @classmethod
    def of(cls, sweep: Path, trial: Trial) -> "Notes":
        """Returns the paths of a trial."""
        base = sweep / NOTES
        return cls(base / f"{trial.name}.lock", base / f"{trial.name}.log", base / f"{trial.name}.json")

    def read(self) -> dict[str, Any]:
        """Returns the record; empty if the trial was never claimed."""
        try:
            found: dict[str, Any] = json.loads(self.record.read_text())
        except FileNotFoundError:
            return {}
        return found

    def write(self, **fields: Any) -> None:
        """Changes fields of the record; the caller must hold the lock."""
        write(self.record, json.dumps({**self.read(), **fields}, indent=1).encode())


@dataclass(frozen=True)
class Progress:
    """The progress of a trial.

    Attributes:
      state: `stopped` if it was started and no process runs it now; a run whose sweep was killed counts as `training`
        until it has stopped.
      trained: whether its run is finished and has trained for the plan's steps.
      player_steps: trained on so far.
      player_steps_per_s: the latest rate; 0 until there is one.
      training_return: the latest; nan until there is one.
      episodes: evaluated so far.
      error: why it failed; empty if it did not.
    """

    state: State
    trained: bool
    player_steps: int
    player_steps_per_s: float
    training_return: float
    episodes: int
    error: str = ""


def progress(sweep: Path, trial: Trial) -> Progress:
    """Reads a trial's progress from its files alone, so every process on every machine sees the same."""
    folder, notes = trial.folder(sweep), Notes.of(sweep, trial)
    last = folder.last_update()
    locks = (notes.lock, folder.lock("train"), lock_of(folder.evaluation))
    steps, earned = last.get("player_steps", 0), last.get("return_learning", last.get("return_others"))
    trained = folder.summary.exists() and steps >= trial.steps
    episodes = len(evaluated(folder, trial)) if trained else 0
    error = str(notes.read().get("error") or "")
    if trained and episodes >= trial.episodes * len(trial.scenarios):
        state: State = "done"
    elif any(map(is_locked, locks)):
        state = "evaluating" if trained else "training"
    elif error:
        state = "failed"
    else:
        state = "stopped" if folder.path.exists() else "waiting"
    return Progress(
        state,
        trained,
        steps,
        last.get("player_steps_per_s") or 0.0,
        math.nan if earned is None else earned,
        episodes,
        error if state == "failed" else "",
    )


def evaluated(folder: RunFolder, trial: Trial) -> list[dict[str, Any]]:
    """Returns the episodes of a trial's evaluation: newest evaluated checkpoint, seed 0, the plan's scenarios."""
    rows = [
        row
        for row in read_lines(folder.evaluation)
        if row["scenario"] in trial.scenarios
        and row["episode"] < trial.episodes
        and (row["evaluation_seed"], row["reference"]) == (0, False)
        and not row["checkpoint"].endswith(AVERAGED)
    ]
    newest = max((row["updates"] for row in rows), default=0)
    return [row for row in rows if row["updates"] == newest]


def area_under_curve(lines: Sequence[Mapping[str, Any]], name: str) -> float:
    """Returns the mean of a metric over a run's player steps, by the trapezoidal rule.

    Before the first value, the metric is taken to equal it.

    Args:
      lines: of `metrics.jsonl`.
      name: the metric.

    Returns: the mean; nan if the metric was never measured.
    """
    points = [(line["player_steps"], line[name]) for line in lines if line.get(name) is not None]
    if not points:
        return math.nan
    x, y = np.array(points, float).T
    x, y = np.append(0.0, x), np.append(y[0], y)
    return float(np.trapezoid(y, x) / x[-1])


def row(sweep: Path, trial: Trial) -> dict[str, Any]:
    """Returns a trial's results so far as a flat row; `docs/experiments.md` explains the columns."""
    folder, seen, record = trial.folder(sweep), progress(sweep, trial), Notes.of(sweep, trial).read()
    lines = folder.updates()
    summary = json.loads(folder.summary.read_text()) if folder.summary.exists() else {}
    late = [line for line in lines if line["player_steps"] > 0.9 * seen.player_steps]
    shown, trained = training_return(lines), summary.get("trained") or {}
    found: dict[str, Any] = {
        "run": trial.name,
        **{name: getattr(trial, name) for name in ("method", "variant", "substrate", "seed")},
        "state": seen.state,
        "player_steps": seen.player_steps,
        **{name: summary.get(name) for name in ("wall_s", "player_steps_per_s")},
        "return_auc": area_under_curve(lines, shown),
        "return_end": _mean(late, shown),
        "return_others_end": _mean(late, "return_others"),
        **{f"{name}_end": _mean(late, name) for name in ("explained_variance", "entropy_nats")},
        "among_itself": trained.get("mean"),
    }
    for name in sorted({key for line in late for key in line if key.startswith("episode_")} - {"episode_env_steps"}):
        found[f"{name}_end"] = _mean(late, name)
    episodes = adjusted(evaluated(folder, trial))
    for scenario in trial.scenarios:
        own = [e["focal_return"] for e in episodes if e["scenario"] == scenario]
        found[f"focal_{scenario.rpartition('_')[2]}"] = float(np.mean(own)) if own else None
    circumstances = _circumstances({**summary.get("circumstances", {}), **record})
    return found | circumstances | {"command": trial.command, "error": seen.error}


def write_rows(rows: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Writes rows as CSV, numbers with five digits, columns in order of first appearance."""
    text = io.StringIO()
    table = csv.DictWriter(text, list(dict.fromkeys(key for row in rows for key in row)), lineterminator="\n")
    table.writeheader()
    table.writerows({key: _short(value) for key, value in row.items()} for row in rows)
    write(path, text.getvalue().encode())


def _circumstances(record: Mapping[str, Any]) -> dict[str, Any]:
    versions, hardware = record.get("versions", {}), record.get("hardware", {})
    return {
        "commit": record.get("commit"),
        "torch": versions.get("torch"),
        "dm_meltingpot": versions.get("dm-meltingpot"),
        "host": record.get("host"),
        **{name: hardware.get(name) for name in ("processor", "cores", "gpu")},
    }


def _mean(lines: Sequence[Mapping[str, Any]], name: str) -> float | None:
    values = [line[name] for line in lines if line.get(name) is not None]
    return float(np.mean(values)) if values else None


def _short(value: Any) -> Any:
    if isinstance(value, float):
        return "" if math.isnan(value) else f"{value:.5g}"
    return "" if value is None else value
