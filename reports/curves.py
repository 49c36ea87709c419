"""Learning curves: figures, and the numbers in them."""

import csv
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter

from common.config import Config
from common.errors import ConfigError
from common.files import read_lines
from common.run_folder import RunFolder, training_return
from reports.returns import in_order
from reports.style import BLUE, COLOURS, GREY, LIGHT_GREY, ORANGE, STYLE, VERMILLION, emphasis

GRID = 400
MAX_TOGETHER = 4
"""Labels in one panel; of more, none can be told from the others."""
COLUMNS = 4

Lines = Sequence[dict[str, Any]]


def draw_run(folder: RunFolder, path: Path) -> Figure:
    """Draws one run: returns over player steps and, if it distils, the KL before and after each event below.

    If the run's summary has it, the random population's return is drawn too.

    Args:
      folder: the run's.
      path: where to save the figure.

    Returns: the figure.

    Raises:
      ConfigError: if the folder holds no run.
    """
    config, lines, events = folder.read_config(), folder.updates(), read_lines(folder.distillation)
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(8, 5.2 if events else 3.8))
        ratios = [3, 1.1] if events else [1]
        axes = figure.subplots(len(ratios), 1, height_ratios=ratios, sharex=True, squeeze=False)[:, 0]
        _random(axes[0], _summarised(folder))
        others = "others (phi)" if config.method.name.startswith("bidist") else "others (past policies)"
        _curve(axes[0], lines, "return_others", ORANGE, others, linestyle="--")
        _curve(axes[0], lines, "return_learning", BLUE, "learning players (theta)")
        axes[0].set_title(f"{_game(config)}, {config.method.name}, seed {config.run.seed}")
        _finish(axes[0], "return per player")
        if events:
            _distillation(axes[1], lines, events)
        _steps(axes[-1])
        figure.savefig(path)
    return figure


def compare_curves(folders: Sequence[RunFolder], path: Path, labels: Sequence[str] = ()) -> Figure:
    """Draws the training returns of several runs: a panel for each game, a colour for each label.

    Runs of the same label and game are seeds of one experiment: each is drawn thinly, and their mean, with a band from
    the lowest to the highest, as far as all of them have come. If a run's summary has it, the random population's
    return is drawn too. More than four labels get a panel each, with the means of the others in grey.

    Args:
      folders: the runs'.
      path: where to save the figure.
      labels: one per run; the methods' names by default.

    Returns: the figure.

    Raises:
      ConfigError: if a folder holds no run.
    """
    configs = [folder.read_config() for folder in folders]
    named = labels or [config.method.name for config in configs]
    runs = [_Curve(f, c, f.updates(), n) for f, c, n in zip(folders, configs, named, strict=True)]
    for run in runs:
        if not run.lines:
            raise ConfigError(f"{run.folder.metrics}: no updates to draw")
    games: dict[str, dict[str, _Seeds]] = {run.config.environment.substrate: {} for run in runs}
    for game, own in games.items():
        here = [run for run in runs if run.config.environment.substrate == game]
        for name in in_order(run.label for run in here):
            own[name] = _Seeds([run for run in here if run.label == name])
    known = in_order(named)
    with matplotlib.rc_context(STYLE):
        figure = _together(games, known) if len(known) <= MAX_TOGETHER else _apart(games, known)
        figure.savefig(path)
    return figure


@dataclass(frozen=True)
class _Curve:
    folder: RunFolder
    config: Config
    lines: Lines
    label: str


class _Seeds:
    """The runs of one label in one game: `points`, one [2, updates] per run, and their mean and extremes over steps."""

    def __init__(self, runs: Sequence[_Curve]) -> None:
        shown = training_return([line for run in runs for line in run.lines])
        found = [
            [(line["player_steps"], line[shown]) for line in run.lines if line.get(shown) is not None] for run in runs
        ]
        self.points = [np.array(points, float).T for points in found if points]
        self.game = _game(runs[0].config)
        self.random = next(filter(None, (_summarised(run.folder) for run in runs)), None)
        count, name = len(self.points), runs[0].label
        self.text = f"{name}, seed {runs[0].config.run.seed}" if count == 1 else f"{name}, {count} seeds"
        self.text += "" if shown == "return_learning" else ", phi's"
        self.grid, self.values = np.empty(0), np.empty((max(1, count), 0))
        first, last = (f((x[i] for x, _ in self.points), default=0.0) for f, i in ((max, 0), (min, -1)))
        if first < last:  # otherwise one run has only just begun
            self.grid = np.linspace(first, last, GRID)
            self.values = np.array([np.interp(self.grid, x, y) for x, y in self.points])

    def draw(self, axis: Any, colour: str) -> None:
        """Draws each run thinly, and their mean with a band where all runs have data; a single run as it is."""
        if len(self.points) == 1:
            axis.plot(*self.points[0], color=colour, lw=1.8, label=self.text)
        elif self.points:
            for x, y in self.points:
                axis.plot(x, y, color=colour, lw=0.6, alpha=0.35)
            axis.fill_between(self.grid, self.values.min(0), self.values.max(0), color=colour, alpha=0.15, lw=0)
            axis.plot(self.grid, self.values.mean(0), color=colour, lw=1.8, label=self.text)


def _together(games: Mapping[str, Mapping[str, _Seeds]], known: Sequence[str]) -> Figure:
    """Draws a panel for each game, with a colour for each label."""
    colours = dict(zip(known, COLOURS, strict=False))
    figure = Figure(figsize=(max(6.0, 4.6 * len(games)), 3.8))
    for axis, own in zip(figure.subplots(1, len(games), squeeze=False)[0], games.values(), strict=True):
        _random(axis, next((seeds.random for seeds in own.values() if seeds.random), None))
        for name, seeds in own.items():
            seeds.draw(axis, colours[name])
            axis.set_title(seeds.game)
        _finish(axis, "return per learning player")
        _steps(axis)
    return figure


def _apart(games: Mapping[str, Mapping[str, _Seeds]], known: Sequence[str]) -> Figure:
    """Draws a panel for each label in each game, with the means of the game's other labels in grey."""
    rows = -(-len(known) // COLUMNS)
    figure = Figure(figsize=(9.0, (0.5 + 1.7 * rows) * len(games)))
    parts = figure.subfigures(len(games), 1, squeeze=False)[:, 0]
    for part, own in zip(parts, games.values(), strict=True):
        game = next(iter(own.values())).game
        part.suptitle(f"{game}: return per learning player over player steps", x=0.01, ha="left", fontsize=10)
        panels = part.subplots(rows, COLUMNS, squeeze=False, sharex=True, sharey=True).ravel()
        for axis, seeds in zip(panels, own.values(), strict=False):
            for other in own.values():
                axis.plot(other.grid, other.values.mean(0), color=LIGHT_GREY, lw=0.8)
            _random(axis, seeds.random)
            seeds.draw(axis, emphasis(seeds.text))
            axis.set_title(seeds.text, fontsize=8)
            axis.xaxis.set_major_formatter(EngFormatter(sep=" "))
            axis.set_xlim(left=0)
        for axis in panels[len(own) :]:
            axis.set_axis_off()
    return figure


def write_numbers(folders: Sequence[RunFolder], path: Path, points: int = 100) -> None:
    """Writes the curves as CSV: about `points` evenly spaced updates per run, the last one included.

    Args:
      folders: the runs'.
      path: the file.
      points: rows per run.
    """
    columns = ("player_steps", "return_learning", "return_others", "policy_lag_mean", "entropy_nats")
    with path.open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["run", "method", "substrate", "seed", *columns])
        for folder in folders:
            config, lines = folder.read_config(), folder.updates()
            kept = lines[:: -max(1, -(-len(lines) // points))][::-1]
            for line in kept:
                of_run = [config.run.name, config.method.name, config.environment.substrate, config.run.seed]
                rows.writerow(of_run + [_rounded(line.get(name)) for name in columns])


def _rounded(value: float | None) -> float | str:
    return "" if value is None else round(value, 4)


def _curve(axis: Any, lines: Lines, name: str, colour: str, label: str, **style: Any) -> None:
    points = [(line["player_steps"], line[name]) for line in lines if line.get(name) is not None]
    if points:
        axis.plot(*zip(*points, strict=True), color=colour, lw=1.8, label=label or None, **style)


def _random(axis: Any, random: tuple[float, float, float] | None) -> None:
    if random is not None:
        mean, low, high = random
        axis.axhspan(low, high, color=GREY, alpha=0.18, lw=0)
        axis.axhline(mean, color=GREY, lw=1.2, label="random population, with 95% interval")


def _distillation(axis: Any, lines: Lines, events: Lines) -> None:
    """Draws a line for each event, from eq. 2 before it to eq. 2 after it; the marker is at the latter."""
    steps = {line["updates"]: line["player_steps"] for line in lines}
    for direction, colour, marker in (("forward", BLUE, "v"), ("reverse", VERMILLION, "^")):
        found = [e for e in events if e["direction"] == direction and e["update"] in steps]
        x = [steps[e["update"]] for e in found]
        before, after = ([e[f"kl_{when}_nats"] for e in found] for when in ("before", "after"))
        axis.vlines(x, before, after, color=colour, lw=1.2, alpha=0.6)
        axis.plot(x, after, marker=marker, color=colour, ms=4.5, mew=0, ls="", label=direction)
    _finish(axis, "KL, nats", columns=2)


def _finish(axis: Any, label: str, columns: int = 1) -> None:
    axis.set_ylabel(label)
    axis.margins(x=0.01)
    axis.set_xlim(left=0)
    if axis.dataLim.ymin >= 0:
        axis.set_ylim(bottom=0)
    if axis.get_legend_handles_labels()[0]:
        low, high = axis.get_ylim()
        axis.set_ylim(top=low + 1.3 * (high - low))  # room for the legend above the curves
        axis.legend(loc="upper left", ncols=columns)


def _steps(axis: Any) -> None:
    axis.set_xlabel("player steps")
    axis.xaxis.set_major_formatter(EngFormatter(sep=" "))


def _summarised(folder: RunFolder) -> tuple[float, float, float] | None:
    path = folder.summary
    if not path.exists():
        return None
    random = json.loads(path.read_text())["random"]
    if random is None:
        return None
    return random["mean"], random["low"], random["high"]


def _game(config: Config) -> str:
    return config.environment.substrate.replace("_in_the_matrix", "").replace("__", " ").replace("_", " ")
