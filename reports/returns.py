"""Returns by game, method and run, from rows of results."""

import zlib
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from evaluator.results import Rows, game_of, number_of
from methods.registry import METHODS
from reports.lengths import adjusted, saving
from reports.statistics import Array, limits, resample

RANDOM = "random"
ORDER = ("mappo", "randnet", "opre", "pp", "rpm", "bidist")

Cell = tuple[float, float, float] | None
"""A mean and its 95% interval; None if it was not played."""


def in_order(names: Iterable[str]) -> list[str]:
    """Returns the paper's methods in its order, then other methods, then other names: figures share colours by this."""
    found = list(dict.fromkeys(names))
    known = [m for m in dict.fromkeys((*ORDER, *METHODS)) if m in found]
    return [*known, *(n for n in found if n not in known)]


@dataclass
class Results:
    """Returns by game, method and run.

    Attributes:
      rows: those of our evaluator, for one checkpoint per run: the newest of those with the most scenarios; their
        returns are adjusted to the expected length of an episode.
      length_saving: the share of the variance between a run's episodes that this has removed.
      games: the scenarios of each substrate.
      methods: in the paper's order, then others, then random players.
    """

    rows: Rows
    length_saving: float = field(init=False)
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
        # If theta and its average were both evaluated at an update, theta counts: its name is shorter.
        best: dict[str, tuple[int, int, int, str]] = {}
        for (run, name), scenarios in played.items():
            found = len(scenarios), updates[run, name], -len(name), name
            best[run] = max(best.get(run, found), found)
        played_rows = [row for row in ours if row["checkpoint"] == best[row["run"]][-1]]
        self.rows = adjusted(played_rows)
        self.length_saving = saving(played_rows, self.rows)
        games: dict[str, set[str]] = defaultdict(set)
        for row in self.rows:
            games[row["substrate"]].add(row["scenario"])
        self.games = {name: sorted(games[name], key=number_of) for name in sorted(games)}
        known = {row["method"] for row in self.rows}
        self.methods = [*in_order(sorted(known - {RANDOM})), *(known & {RANDOM})]

    @cached_property
    def returns(self) -> dict[tuple[str, str], dict[str, dict[str, list[float]]]]:
        """The returns of episodes, by method and game, then by run and scenario."""
        found: dict[tuple[str, str], dict[str, dict[str, list[float]]]] = {}
        for row in self.rows:
            runs = found.setdefault((row["method"], row["substrate"]), {})
            runs.setdefault(row["run"], {}).setdefault(row["scenario"], []).append(row["focal_return"])
        return found

    def runs(self, method: str, scenario: str) -> list[list[float]]:
        """Collects the returns of a method's episodes in a scenario, one list per run that played it."""
        runs = self.returns.get((method, game_of(scenario)), {})
        return [run[scenario] for run in runs.values() if scenario in run]

    def means(self, method: str, scenarios: Sequence[str]) -> tuple[Array, Array] | None:
        """Averages over episodes, for the runs of a method that played all of these scenarios of one game.

        Returns: the means, [runs, scenarios], and draws of them, [draws, runs, scenarios]; None if no run did.
        """
        runs = self.returns.get((method, game_of(scenarios[0])), {})
        values = [[run[s] for s in scenarios] for run in runs.values() if run.keys() >= set(scenarios)]
        if not values:
            return None
        # A method's draws do not depend on what else is in the report.
        rng = np.random.default_rng(zlib.crc32(f"{method} {' '.join(scenarios)}".encode()))
        return np.array([[np.mean(episodes) for episodes in run] for run in values]), resample(values, rng)

    def cell(self, method: str, scenario: str) -> Cell:
        """Returns the mean return over the runs of a method that played a scenario."""
        found = self.means(method, [scenario])
        return None if found is None else (float(found[0].mean()), *limits(found[1].mean((1, 2))))

    def normalised(self, scenario: str) -> dict[str, float]:
        """Returns min-max scores over the methods of the paper's Table 1; empty unless two of them differ."""
        cells = {m: cell[0] for m in ORDER if (cell := self.cell(m, scenario)) is not None}
        low, high = min(cells.values(), default=0.0), max(cells.values(), default=0.0)
        return {m: (x - low) / (high - low) for m, x in cells.items()} if len(cells) > 1 and high > low else {}

    def warnings(self) -> list[str]:
        """Returns reasons why the runs of a method may not be repetitions of one experiment."""
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
