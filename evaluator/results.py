"""What was measured, read from rows of results: by game, method and run; and what was published, to hold it against."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from common.errors import ConfigError
from common.files import read_lines
from evaluator.statistics import Array, limits, resample

PUBLISHED = Path(__file__).with_name("published.yaml")
RANDOM = "random"
ORDER = ("mappo", "randnet", "opre", "pp", "rpm", "bidist")
# Where random players and ACB's differ by less than this share, a scaled return is mostly noise.
LEAST_SPAN = 0.1

Rows = Sequence[Mapping[str, Any]]
Cell = tuple[float, float, float] | None
"""A mean and its 95% interval, or nothing if it was not played."""


def published() -> dict[str, Any]:
    """`returns`, DeepMind's by scenario, and `table_1`, the paper's by method and game."""
    found: dict[str, Any] = yaml.safe_load(PUBLISHED.read_text())
    return found


def episode_key(row: Mapping[str, Any]) -> tuple[Any, ...]:
    """What makes two rows the same episode."""
    return tuple(row[name] for name in ("run", "checkpoint", "scenario", "episode", "evaluation_seed", "reference"))


def read_results(paths: Iterable[Path]) -> list[dict[str, Any]]:
    """Reads files of results, or those in folders; an episode that stands in two of them counts once.

    Raises:
      ConfigError: if a path holds no results.
    """
    rows: dict[tuple[Any, ...], dict[str, Any]] = {}
    for path in paths:
        files = sorted(path.rglob("evaluation.jsonl")) if path.is_dir() else [path]
        found = [row for file in files for row in read_lines(file)]
        if not found:
            raise ConfigError(f"{path}: no results; bidist evaluate writes them")
        for row in found:
            rows[episode_key(row)] = row
    return list(rows.values())


@dataclass
class Results:
    """What was measured, by game, method and run.

    Attributes:
      rows: of the newest evaluated checkpoint of each run, by our evaluator.
      games: names of the substrates, each with its scenarios.
      methods: in the paper's order, then others, then random players.
    """

    rows: Rows
    games: dict[str, list[str]] = field(init=False)
    methods: list[str] = field(init=False)

    def __post_init__(self) -> None:
        newest: dict[str, int] = defaultdict(int)
        for row in self.rows:
            newest[row["run"]] = max(newest[row["run"]], row["updates"])
        self.rows = [row for row in self.rows if row["updates"] == newest[row["run"]] and not row["reference"]]
        games: dict[str, set[str]] = defaultdict(set)
        for row in self.rows:
            games[row["substrate"]].add(row["scenario"])
        self.games = {name: sorted(games[name], key=number_of) for name in sorted(games)}
        known = {row["method"] for row in self.rows}
        rest = sorted(known - {*ORDER, RANDOM})
        self.methods = [m for m in (*ORDER, *rest, RANDOM) if m in known]

    def runs(self, method: str, game: str) -> dict[str, dict[str, list[float]]]:
        """Returns of the episodes of a method's runs: run, then scenario."""
        found: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
        for row in self.rows:
            if (row["method"], row["substrate"]) == (method, game):
                found[row["run"]][row["scenario"]].append(row["focal_return"])
        return found

    @cached_property
    def means(self) -> dict[tuple[str, str], tuple[list[str], Array, Array]]:
        """By method and game: the scenarios that all its runs played, their means [runs, scenarios], and draws of them
        [draws, runs, scenarios]."""
        rng = np.random.default_rng(0)
        found = {}
        for game, scenarios in self.games.items():
            for method in self.methods:
                runs = self.runs(method, game)
                common = [s for s in scenarios if runs and all(s in run for run in runs.values())]
                if common:
                    values = [[run[s] for s in common] for run in runs.values()]
                    means = np.array([[np.mean(episodes) for episodes in run] for run in values])
                    found[method, game] = common, means, resample(values, rng)
        return found

    def cell(self, method: str, game: str, scenario: str) -> Cell:
        """The mean return over a method's runs."""
        if (method, game) not in self.means or scenario not in self.means[method, game][0]:
            return None
        scenarios, means, draws = self.means[method, game]
        s = scenarios.index(scenario)
        return (float(means[:, s].mean()), *limits(draws[:, :, s].mean(1)))

    def normalised(self, game: str, scenario: str) -> dict[str, float]:
        """Min-max over the methods that learn, as in the paper's Table 1; nothing if there are not two of them."""
        cells = {m: cell[0] for m in self.methods if m != RANDOM and (cell := self.cell(m, game, scenario)) is not None}
        low, high = min(cells.values(), default=0.0), max(cells.values(), default=0.0)
        return {m: (x - low) / (high - low) for m, x in cells.items()} if len(cells) > 1 and high > low else {}


class Scale:
    """DeepMind's published returns of random players (0) and of ACB's (1)."""

    def __init__(self) -> None:
        self.returns: dict[str, dict[str, Any]] = published()["returns"]

    def span(self, scenario: str) -> tuple[float, float] | None:
        """What 0 and 1 stand for; None if nothing was published or the two hardly differ."""
        if scenario not in self.returns:
            return None
        low, high = self.returns[scenario]["random"], float(np.mean(self.returns[scenario]["acb"]))
        return (low, high) if abs(high - low) > LEAST_SPAN * max(abs(low), abs(high)) else None

    def __call__(self, scenario: str, x: Any) -> Any:
        """A return, or an array of them, on that scale; None where there is none."""
        span = self.span(scenario)
        return None if span is None or x is None else (x - span[0]) / (span[1] - span[0])


def number_of(scenario: str) -> int:
    """The number in a scenario's name."""
    return int(scenario.rpartition("_")[2])
