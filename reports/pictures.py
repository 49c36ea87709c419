"""The figures of the report on scenarios."""

from collections import defaultdict
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from evaluator.results import Rows, number_of
from reports.published import Scale
from reports.returns import RANDOM, Results
from reports.style import COLOURS, GREY, STYLE


def draw_returns(results: Results, scale: Scale, path: Path) -> Figure:
    """Draws and saves the returns of all methods in all scenarios, a panel for each game."""
    games = list(results.games)
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(9, 0.6 + 0.25 * (len(results.methods) // 4 + 1) + 2.4 * len(games)))
        panels = figure.subplots(len(games), 1, squeeze=False)[:, 0]
        width = 0.8 / len(results.methods)
        colours = {m: GREY if m == RANDOM else COLOURS[k % len(COLOURS)] for k, m in enumerate(results.methods)}
        for axes, game in zip(panels, games, strict=True):
            for k, m in enumerate(results.methods):
                cells = [results.cell(m, s) for s in results.games[game]]
                positions = [i + (k + 0.5) * width - 0.4 for i, c in enumerate(cells) if c is not None]
                present = np.array([c for c in cells if c is not None]).reshape(-1, 3)
                axes.bar(positions, present[:, 0], width * 0.9, color=colours[m])
                errors = np.abs(present[:, 1:].T - present[:, 0])
                axes.errorbar(positions, present[:, 0], errors, fmt="none", ecolor="#202020", elinewidth=1)
            for i, s in enumerate(results.games[game]):
                if s in scale.returns:
                    level = np.mean(scale.returns[s]["acb"])
                    axes.hlines(level, i - 0.42, i + 0.42, color="#202020", linestyle=":", linewidth=1.2)
            axes.set_xticks(range(len(results.games[game])), [f"scenario {number_of(s)}" for s in results.games[game]])
            axes.set_title(game)
            axes.set_ylabel("focal return")
        bars = [Patch(color=colour, label=m) for m, colour in colours.items()]
        handles = [*bars, Line2D([], [], color="#202020", linestyle=":", label="ACB, published")]
        figure.legend(handles=handles, ncols=4, loc="outside upper left")
        figure.savefig(path)
    return figure


def draw_bars(bars: dict[str, tuple[float, float, float]], label: str, path: Path) -> Figure:
    """Draws and saves intervals, (mean, low, high) by name, one below another."""
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(7, 0.8 + 0.4 * len(bars)))
        axes = figure.subplots()
        axes.use_sticky_edges = False
        for k, (name, (mean, low, high)) in enumerate(reversed(bars.items())):
            axes.barh(k, high - low, left=low, height=0.5, color=GREY if name == RANDOM else COLOURS[0], alpha=0.4)
            axes.vlines(mean, k - 0.25, k + 0.25, color="#202020", linewidth=2)
        axes.set_yticks(range(len(bars)), list(reversed(bars)))
        axes.set_xlabel(label)
        figure.savefig(path)
    return figure


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
