"""What the experiment on conventions measures in a run, and its statistics, table and figure."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from rich.table import Column, Table

from environments.matrix_game import PAYOFFS
from reports.statistics import holm, interval, permutation_test
from reports.style import BLUE, GREY, ORANGE, STYLE

GAME = "matrix_conventions"
CONVENTIONS = len(PAYOFFS[GAME])
BASELINE = "mappo"
MET = 0.01
"""Share of training episodes in which a partner must keep a convention for it to count as met."""


@dataclass(frozen=True)
class Outcome:
    """The outcome of one run.

    Attributes:
      what, seed: the run, by its label.
      convention: what theta mostly does in self-play.
      alone: reward per step in self-play.
      same: reward per step with strangers who keep that convention.
      other: reward per step with strangers who keep another, averaged over the others.
      with_each: reward per step with strangers who keep each convention.
      kept_by_learning: share of training episodes in which a partner driven by theta kept each convention.
      kept_by_others: share of training episodes in which a partner driven by phi or a past policy kept each convention.
      away: share of such partners' actions, in the second half of training, that were not theta's convention; None if
        there were no such partners.
    """

    what: str
    seed: int
    convention: int
    alone: float
    same: float
    other: float
    with_each: list[float]
    kept_by_learning: list[float]
    kept_by_others: list[float]
    away: float | None

    @property
    def left(self) -> list[int]:
        """Conventions other than theta's that partners not driven by theta kept."""
        return [i for i, share in enumerate(self.kept_by_others) if i != self.convention and share >= MET]

    @property
    def never_kept(self) -> list[int]:
        """Conventions other than theta's that no partner kept."""
        both = np.add(self.kept_by_learning, self.kept_by_others)
        return [i for i, share in enumerate(both) if i != self.convention and share < MET]


def summarise(names: Sequence[str], outcomes: Sequence[Outcome]) -> list[dict[str, Any]]:
    """Means over seeds, with the bootstrap's 95% interval over seeds.

    p comes from a permutation test of a method's seeds against MAPPO's, corrected by Holm's method for the number of
    comparisons; None without MAPPO.
    """
    rows = [_summary(name, [o for o in outcomes if o.what == name]) for name in names]
    base = [o.other for o in outcomes if o.what == BASELINE]
    compared = [row for row in rows if base and row["what"] != BASELINE]
    raw = [permutation_test([o.other for o in outcomes if o.what == row["what"]], base) for row in compared]
    for row, p in zip(compared, holm(raw), strict=True):
        row["p"] = p
    return rows


def table(summary: Sequence[dict[str, Any]]) -> Table:
    """The summary, for the terminal."""
    heads = (
        *("method", "self-play", "own convention", "another (95%)", "p", "kept", "with those", "with the rest"),
        "away",
    )
    shown = Table(*(Column(head, no_wrap=True) for head in heads), box=None)
    for row in summary:
        low, high = row["other_interval"]
        shown.add_row(
            row["what"],
            f"{row['alone']:.2f}",
            f"{row['same']:.2f}",
            f"{row['other']:.3f} ({low:.3f} to {high:.3f})",
            _text(row["p"]),
            f"{row['left']:.1f}",
            *(_text(row[name]) for name in ("with_left", "with_never_kept", "away")),
        )
    return shown


def draw(names: Sequence[str], outcomes: Sequence[Outcome], path: Path) -> None:
    """Draws the reward with strangers of another convention, and how many other conventions partners kept."""
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(9, 0.42 * len(names) + 1.4))
        axes, left = figure.subplots(1, 2, sharey=True, width_ratios=[2, 1])
        rng = np.random.default_rng(0)
        for y, name in enumerate(names):
            own = [o for o in outcomes if o.what == name]
            jitter = y + rng.uniform(-0.18, 0.18, len(own))
            axes.plot([o.other for o in own], jitter, "o", markersize=3, color=GREY, alpha=0.6)
            other = interval([o.other for o in own])
            error = [[other.mean - other.low], [other.high - other.mean]]
            axes.errorbar(other.mean, y, xerr=error, fmt="o", color=BLUE, capsize=3)
            left.barh(y, np.mean([len(o.left) for o in own]), 0.6, color=ORANGE)
        axes.set_yticks(range(len(names)), names)
        axes.invert_yaxis()
        axes.set_xlim(0, 1)
        axes.axvline(1 / CONVENTIONS, color=GREY, linestyle=":")
        axes.set_xlabel("reward per step with strangers of another convention (dotted: random)")
        left.set_xlim(0, CONVENTIONS - 1)
        left.set_xlabel("other conventions that partners driven by\nphi or a past policy kept")
        figure.savefig(path)


def _summary(name: str, own: Sequence[Outcome]) -> dict[str, Any]:
    other = interval([o.other for o in own])
    return {
        "what": name,
        "runs": len(own),
        "alone": float(np.mean([o.alone for o in own])),
        "same": float(np.mean([o.same for o in own])),
        "other": other.mean,
        "other_interval": [other.low, other.high],
        "left": float(np.mean([len(o.left) for o in own])),
        "with_left": _mean(o.with_each[i] for o in own for i in o.left),
        "with_never_kept": _mean(o.with_each[i] for o in own for i in o.never_kept),
        "away": _mean(o.away for o in own if o.away is not None),
        "p": None,
    }


def _text(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"


def _mean(values: Iterable[float]) -> float | None:
    given = list(values)
    return float(np.mean(given)) if given else None
