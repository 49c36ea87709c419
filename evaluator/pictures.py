"""The report's pictures."""

from collections import defaultdict
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from evaluator.results import RANDOM, Results, Rows, Scale, number_of
from evaluator.style import COLOURS, GREY, STYLE


def draw_returns(results: Results, scale: Scale, path: Path) -> None:
    """Draws the returns of all methods in all scenarios: a panel for each game."""
    games = list(results.games)
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(9, 0.6 + 2.4 * len(games)))
        panels = figure.subplots(len(games), 1, squeeze=False)[:, 0]
        width = 0.8 / len(results.methods)
        colours = {m: GREY if m == RANDOM else COLOURS[k % len(COLOURS)] for k, m in enumerate(results.methods)}
        for axes, game in zip(panels, games, strict=True):
            for k, m in enumerate(results.methods):
                cells = [results.cell(m, game, s) for s in results.games[game]]
                places = [i + (k + 0.5) * width - 0.4 for i, c in enumerate(cells) if c is not None]
                present = np.array([c for c in cells if c is not None]).reshape(-1, 3)
                axes.bar(places, present[:, 0], width * 0.9, color=colours[m])
                errors = np.abs(present[:, 1:].T - present[:, 0])
                axes.errorbar(places, present[:, 0], errors, fmt="none", ecolor="#202020", elinewidth=1)
            for i, s in enumerate(results.games[game]):
                if s in scale.returns:
                    level = np.mean(scale.returns[s]["acb"])
                    axes.hlines(level, i - 0.42, i + 0.42, color="#202020", linestyle=":", linewidth=1.2)
            axes.set_xticks(range(len(results.games[game])), [f"scenario {number_of(s)}" for s in results.games[game]])
            axes.set_title(game)
            axes.set_ylabel("focal return")
        bars = [Patch(color=colour, label=m) for m, colour in colours.items()]
        handles = [*bars, Line2D([], [], color="#202020", linestyle=":", label="ACB, published")]
        panels[0].legend(handles=handles, ncols=len(handles), loc="lower left", bbox_to_anchor=(0, 1.12))
        figure.savefig(path)


def draw_bars(bars: dict[str, tuple[float, float, float]], label: str, path: Path) -> None:
    """Draws intervals, (mean, low, high) by name, one below the other."""
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(7, 0.8 + 0.4 * len(bars)))
        axes = figure.subplots()
        for k, (name, (mean, low, high)) in enumerate(reversed(bars.items())):
            axes.barh(k, high - low, left=low, height=0.5, color=GREY if name == RANDOM else COLOURS[0], alpha=0.4)
            axes.vlines(mean, k - 0.25, k + 0.25, color="#202020", linewidth=2)
        axes.set_yticks(range(len(bars)), list(reversed(bars)))
        axes.set_xlabel(label)
        figure.savefig(path)


def draw_over_training(rows: Rows, path: Path) -> bool:
    """Draws focal returns over player steps where a run has several evaluated checkpoints; says whether any has."""
    all_curves: dict[tuple[str, str, str], dict[int, list[float]]] = defaultdict(lambda: defaultdict(list))
    for row in rows:
        all_curves[row["substrate"], row["scenario"], row["run"]][row["player_steps"]].append(row["focal_return"])
    curves = {key: points for key, points in all_curves.items() if len(points) > 1}
    if not curves:
        return False
    games = sorted({game for game, _, _ in curves})
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(9, 0.6 + 2.8 * len(games)))
        panels = figure.subplots(len(games), 1, squeeze=False)[:, 0]
        for axes, game in zip(panels, games, strict=True):
            own = sorted((key, points) for key, points in curves.items() if key[0] == game)
            for k, ((_, scenario, run), points) in enumerate(own):
                steps = sorted(points)
                means = [float(np.mean(points[step])) for step in steps]
                label = f"{run}, scenario {number_of(scenario)}"
                axes.plot(steps, means, marker="o", color=COLOURS[k % len(COLOURS)], label=label)
            axes.set_title(game)
            axes.set_xlabel("player steps")
            axes.set_ylabel("focal return")
            axes.legend()
        figure.savefig(path)
    return True
