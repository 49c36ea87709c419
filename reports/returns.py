"""What was measured, from rows of results: by game, method and run."""

import zlib
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from evaluator.results import Rows, game_of, number_of
from reports.statistics import Array, limits, resample

RANDOM = "random"
ORDER = ("mappo", "randnet", "opre", "pp", "rpm", "bidist")

Cell = tuple[float, float, float] | None
"""A mean and its 95% interval, or nothing if it was not played."""


@dataclass
class Results:
    """What was measured, by game, method and run.

    Attributes:
      rows: by our evaluator, of one checkpoint of each run: of those with the most scenarios the newest.
      games: names of the substrates, each with its scenarios.
      methods: in the paper's order, then others, then random players.
    """

    rows: Rows
    games: dict[str, list[str]] = field(init=False)
    methods: list[str] = field(init=False)

    def __post_init__(self) -> None:
        ours = [row for row in self.rows if not row["reference"]]
        played: dict[tuple[str, str], set[str]] = defaultdict(set)
        updates: dict[tuple[str, str], int] = {}
        for row in ours:
            key = row["run"], row["checkpoint"]
            played[key].add(row["scenario"])
            updates[key] = row["updates"]
        # Of theta and its average at the same update, theta counts: its name is the shorter one.
        best = {run: max((len(played[k]), updates[k], -len(k[1]), k[1]) for k in played if k[0] == run)
                for run, _ in played}  # fmt: skip
        self.rows = [row for row in ours if row["checkpoint"] == best[row["run"]][-1]]
        games: dict[str, set[str]] = defaultdict(set)
        for row in self.rows:
            games[row["substrate"]].add(row["scenario"])
        self.games = {name: sorted(games[name], key=number_of) for name in sorted(games)}
        known = {row["method"] for row in self.rows}
        rest = sorted(known - {*ORDER, RANDOM})
        self.methods = [m for m in (*ORDER, *rest, RANDOM) if m in known]

    @cached_property
    def returns(self) -> dict[tuple[str, str], dict[str, dict[str, list[float]]]]:
        """Returns of episodes: by method and game, then by run and scenario."""
        found: dict[tuple[str, str], dict[str, dict[str, list[float]]]] = {}
        for row in self.rows:
            runs = found.setdefault((row["method"], row["substrate"]), {})
            runs.setdefault(row["run"], {}).setdefault(row["scenario"], []).append(row["focal_return"])
        return found

    def runs(self, method: str, scenario: str) -> list[list[float]]:
        """Returns of the episodes of those runs of a method that played a scenario."""
        runs = self.returns.get((method, game_of(scenario)), {})
        return [run[scenario] for run in runs.values() if scenario in run]

    def means(self, method: str, scenarios: Sequence[str]) -> tuple[Array, Array] | None:
        """Means over episodes of the runs of a method that played all of some scenarios of one game, [runs, scenarios],
        and draws of them, [draws, runs, scenarios]; None if no run did."""
        runs = self.returns.get((method, game_of(scenarios[0])), {})
        values = [[run[s] for s in scenarios] for run in runs.values() if run.keys() >= set(scenarios)]
        if not values:
            return None
        # What is drawn for a method hangs on nothing else that is in the report.
        rng = np.random.default_rng(zlib.crc32(f"{method} {' '.join(scenarios)}".encode()))
        return np.array([[np.mean(episodes) for episodes in run] for run in values]), resample(values, rng)

    def cell(self, method: str, scenario: str) -> Cell:
        """The mean return over those runs of a method that played a scenario."""
        found = self.means(method, [scenario])
        return None if found is None else (float(found[0].mean()), *limits(found[1].mean((1, 2))))

    def normalised(self, scenario: str) -> dict[str, float]:
        """Min-max over the methods of the paper's Table 1; nothing if there are not two of them that differ."""
        cells = {m: cell[0] for m in ORDER if (cell := self.cell(m, scenario)) is not None}
        low, high = min(cells.values(), default=0.0), max(cells.values(), default=0.0)
        return {m: (x - low) / (high - low) for m, x in cells.items()} if len(cells) > 1 and high > low else {}

    def warnings(self) -> list[str]:
        """What speaks against taking the runs of a method for repetitions of one another."""
        found = []
        for game in self.games:
            for method in self.methods:
                runs = {
                    (row["run"], row["seed"], row["player_steps"])
                    for row in self.rows
                    if (row["method"], row["substrate"]) == (method, game)
                }
                seeds, steps = [seed for _, seed, _ in runs], [steps for *_, steps in runs]
                if len(set(seeds)) < len(seeds):
                    found.append(f"{method} in {game}: two runs have the same seed")
                if max(steps, default=0) > 1.1 * min(steps, default=0):
                    found.append(f"{method} in {game}: its runs are {min(steps):,} to {max(steps):,} player steps long")
        return found
