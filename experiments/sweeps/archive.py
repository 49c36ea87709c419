"""A sweep's measurements without its checkpoints: one small file per trial, to commit and to resume from.

A sweep of several days should survive the loss of its machine: a trial in the archive counts as done wherever the sweep
continues.
"""

import gzip
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from yaml import YAMLError

from common.errors import ConfigError
from common.files import read_lines, write
from common.settings import differences, load_yaml, validate
from experiments.sweeps.progress import ACTIVE, Notes, progress
from experiments.sweeps.trial import Trial

Columns = dict[str, list[Any]]


def path_of(trial: Trial, archive: Path) -> Path:
    """Returns a trial's file in an archive, whether it exists or not."""
    return archive / f"{trial.name}.json.gz"


def keep(sweep: Path, trial: Trial, archive: Path) -> Path:
    """Archives a finished trial: configuration, metrics to five digits, summary, evaluation.

    Returns: the trial's file.
    """
    folder = trial.folder(sweep)
    kept = {
        "record": Notes.of(sweep, trial).read(),
        "config": folder.config.read_text(),
        "summary": json.loads(folder.summary.read_text()),
        "metrics": _columns(folder.updates()),
        "distillation": _columns(read_lines(folder.distillation)),
        "evaluation": _columns(read_lines(folder.evaluation)),
    }
    path = path_of(trial, archive)
    archive.mkdir(parents=True, exist_ok=True)
    # Without a timestamp, equal content gives an equal file.
    write(path, gzip.compress(json.dumps(kept, separators=(",", ":")).encode(), mtime=0))
    return path


def restore(sweep: Path, trials: Iterable[Trial], archive: Path) -> int:
    """Restores trials that a sweep's folder lacks from an archive.

    Returns: how many.

    Raises:
      ConfigError: if a file of the archive is damaged, or holds a trial of other settings than the plan's.
    """
    restored = 0
    for trial in trials:
        path, folder, notes = path_of(trial, archive), trial.folder(sweep), Notes.of(sweep, trial)
        if not path.exists() or progress(sweep, trial).state in ("done", *ACTIVE):
            continue
        try:
            kept = json.loads(gzip.decompress(path.read_bytes()))
            command, config = kept["record"]["command"], validate(load_yaml(kept["config"]))
        except (OSError, EOFError, ValueError, KeyError, ConfigError, YAMLError) as error:
            raise ConfigError(f"{path} is damaged ({error}): delete it to run the trial again") from None
        if command != trial.command:
            raise ConfigError(
                f"{path} was made by `{command}`, which is not this plan's `{trial.command}`: name a new variant, or "
                "take another archive"
            )
        found = differences(config, trial.config()).items()
        if changed := [f"{name}={old}, now {new}" for name, (old, new) in found if not name.startswith("run.")]:
            raise ConfigError(
                f"{path} was made when the same command meant other settings: {', '.join(changed)}; delete it to run "
                "the trial again, or name the old values in the plan, as a new variant"
            )
        folder.path.mkdir(parents=True, exist_ok=True)
        notes.record.parent.mkdir(parents=True, exist_ok=True)
        write(folder.config, kept["config"].encode())
        for path, columns in (
            (folder.metrics, "metrics"),
            (folder.distillation, "distillation"),
            (folder.evaluation, "evaluation"),
        ):
            _write_lines(path, kept[columns])
        write(folder.summary, json.dumps(kept["summary"], indent=1).encode())
        write(notes.record, json.dumps(kept["record"], indent=1).encode())
        restored += 1
    return restored


def _columns(lines: list[dict[str, Any]]) -> Columns:
    """Turns records into columns, which compress better, with floats to five digits."""
    names = dict.fromkeys(name for line in lines for name in line)
    return {name: [_rounded(line.get(name)) for line in lines] for name in names}


def _write_lines(path: Path, columns: Columns) -> None:
    if not columns:
        return
    lines = [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]
    write(path, "".join(json.dumps(line) + "\n" for line in lines).encode())


def _rounded(value: Any) -> Any:
    return float(f"{value:.5g}") if isinstance(value, float) else value
