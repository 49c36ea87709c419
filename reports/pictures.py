"""The figures of the report on scenarios."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from evaluator.results import Rows, number_of
from reports.published import Scale
from reports.returns import RANDOM, Results
from reports.style import COLOURS, GREY, STYLE, emphasis

Interval = tuple[float, float, float]
"""A mean and the ends of its interval."""

LEVELS = {"random": (0, (1, 3)), "acb": (0, (4, 2))}
"""The dashes of DeepMind's published returns."""
PUBLISHED = {"random": "random players, published", "acb": "ACB, published"}


def draw_returns(results: Results, scale: Scale, path: Path) -> Figure:
    """Draws and saves the intervals of all methods, a panel for each scenario, beside DeepMind's published returns."""
    columns = max(len(scenarios) for scenarios in results.games.values())
    height = 0.7 + 0.2 * len(results.methods)
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(1.4 + 1.7 * columns, 0.3 + height * len(results.games)))
        rows = figure.subfigures(len(results.games), 1, squeeze=False)[:, 0]
        for row, (game, scenarios) in zip(rows, results.games.items(), strict=True):
            row.suptitle(f"{game}: focal returns", x=0.01, ha="left", fontsize=10)
            panels = row.subplots(1, columns, squeeze=False, sharey=True)[0]
            for axes, s in zip(panels, scenarios, strict=False):
                cells = {m: cell for m in results.methods if (cell := results.cell(m, s)) is not None}
                _draw_intervals(axes, results.methods, cells)
                for name, dashes in LEVELS.items():
                    if s in scale.returns:
                        axes.axvline(np.mean(scale.returns[s][name]), color="#202020", linestyle=dashes, linewidth=1.2)
                axes.set_title(f"scenario {number_of(s)}", fontsize=9)
            for axes in panels[len(scenarios) :]:
                axes.set_axis_off()
        handles = [Line2D([], [], color="#202020", linestyle=d, label=PUBLISHED[name]) for name, d in LEVELS.items()]
        figure.legend(handles=handles, ncols=2, loc="outside lower right")
        figure.savefig(path)
    return figure


def draw_bars(bars: dict[str, Interval], label: str, path: Path) -> Figure:
    """Draws and saves intervals, (mean, low, high) by name, one below another."""
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(7, 0.8 + 0.25 * len(bars)))
        axes = figure.subplots()
        _draw_intervals(axes, list(bars), bars)
        axes.set_xlabel(label)
        figure.savefig(path)
    return figure


def _draw_intervals(axes: Any, names: Sequence[str], bars: Mapping[str, Interval]) -> None:
    """Draws each interval as a bar with a line at its mean, in the order of the names; some may have none."""
    axes.use_sticky_edges = False
    for k, name in enumerate(names):
        if name in bars:
            mean, low, high = bars[name]
            colour = GREY if name == RANDOM else emphasis(name)
            axes.barh(k, high - low, left=low, height=0.5, color=colour, alpha=0.4)
            axes.vlines(mean, k - 0.25, k + 0.25, color="#202020", linewidth=2)
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.5, -0.5)


def draw_over_training(rows: Rows, path: Path) -> Figure | None:
    """Draws and saves focal returns over player steps for runs with several evaluated checkpoints.

    There is a panel for each scenario, a colour for each method and a line for each run.

    Returns: the figure; None if there was nothing to draw.
    """
    curves: dict[str, dict[tuple[str, str], dict[int, list[float]]]] = defaultdict(lambda: defaultdict(dict))
    for row in rows:
        if not row["reference"]:
            points = curves[row["scenario"]][row["method"], row["run"]]
            points.setdefault(row["player_steps"], []).append(row["focal_return"])
    shown = {s: {k: p for k, p in own.items() if len(p) > 1} for s, own in sorted(curves.items())}
    shown = {scenario: own for scenario, own in shown.items() if own}
    if not shown:
        return None
    methods = sorted({m for own in shown.values() for m, _ in own})
    colours = {m: COLOURS[k % len(COLOURS)] for k, m in enumerate(methods)}
    columns = min(3, len(shown))
    with matplotlib.rc_context(STYLE):
        lines = -(-len(shown) // columns)
        figure = Figure(figsize=(3.6 * columns, 0.6 + 2.4 * lines))
        panels = figure.subplots(lines, columns, squeeze=False).ravel()
        for axes, (scenario, own) in zip(panels, shown.items(), strict=False):
            for (m, _), points in own.items():
                steps = sorted(points)
                means = [float(np.mean(points[step])) for step in steps]
                axes.plot(steps, means, marker="o", markersize=3, color=colours[m])
            axes.set_title(scenario, fontsize=8)
            axes.set_xlabel("player steps")
            axes.set_ylabel("focal return")
        for axes in panels[len(shown) :]:
            axes.set_axis_off()
        handles = [Line2D([], [], color=colour, label=m) for m, colour in colours.items()]
        figure.legend(handles=handles, ncols=4, loc="outside upper left")
        figure.savefig(path)
    return figure
