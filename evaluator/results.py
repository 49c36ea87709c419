"""The rows that an evaluation writes, one per episode, and how to read them back."""

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from common.errors import ConfigError
from common.files import read_lines

# Appended to a checkpoint's name where its running average of theta was played.
AVERAGED = "-average"

KEYS = ("run", "checkpoint", "weights", "scenario", "episode", "evaluation_seed", "reference")
NEEDED = {*KEYS, "method", "seed", "updates", "player_steps", "substrate", "focal_return"} - {"weights"}

Rows = Sequence[Mapping[str, Any]]


def episode_key(row: Mapping[str, Any]) -> tuple[Any, ...]:
    """Returns what identifies a row's episode."""
    return tuple(row[name] for name in KEYS)


def lock_of(out: Path) -> Path:
    """Returns the lock file that an evaluation holds while it writes to a results file."""
    return out.with_name(f".{out.name}.lock")


def rows_of(path: Path) -> list[dict[str, Any]]:
    """Reads one file of results.

    Raises:
      ConfigError: if it cannot be read or holds something else.
    """
    try:
        rows = read_lines(path)
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from None
    for row in rows:
        if missing := NEEDED - row.keys():
            raise ConfigError(
                f"{path}: not a results file of bidist evaluate: a line lacks {', '.join(sorted(missing))}"
            )
        if not re.search(r"_\d+$", str(row["scenario"])):
            raise ConfigError(f"{path}: {row['scenario']!r} is not a scenario; their names end in a number")
        row.setdefault("weights", "")  # older versions did not write it
    return rows


def read_results(paths: Iterable[Path]) -> list[dict[str, Any]]:
    """Reads results files, given directly or by folder; an episode that is in two files counts once.

    Raises:
      ConfigError: if a path holds no results, or two runs have the same name.
    """
    rows: dict[tuple[Any, ...], dict[str, Any]] = {}
    for path in paths:
        files = sorted(path.rglob("evaluation.jsonl")) if path.is_dir() else [path]
        found = [row for file in files for row in rows_of(file)]
        if not found:
            raise ConfigError(f"{path}: no results; bidist evaluate writes them")
        for row in found:
            rows[episode_key(row)] = row
    who: dict[tuple[Any, ...], set[tuple[Any, ...]]] = defaultdict(set)
    for row in rows.values():
        who[row["run"],].add((row["method"], row["seed"], row["substrate"]))
        who[row["run"], row["checkpoint"]].add((row["weights"],))
    for (run, *_), kinds in who.items():
        if len(kinds - {("",)}) > 1:
            raise ConfigError(f"two runs are called {run!r}: rename one, its folder and its run.name, or leave it out")
    return list(rows.values())


def number_of(scenario: str) -> int:
    """Returns the number in a scenario's name."""
    return int(scenario.rpartition("_")[2])


def game_of(scenario: str) -> str:
    """Returns the substrate of a scenario."""
    return scenario.rpartition("_")[0]
