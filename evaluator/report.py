"""From rows of results to a report: what was measured, how sure it is, and how it stands to what was published.

A cell that was not played stays empty. Of each run its newest evaluated checkpoint counts; others are drawn in the
picture over training alone. Episodes that went through Melting Pot's own API stand beside the others in a table of
their own.
"""

import csv
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import yaml
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from common.errors import ConfigError
from common.files import read_lines, write
from evaluator.statistics import Array, improvement, interval, iqm, limits, permutation_test, resample
from evaluator.style import COLOURS, GREY, STYLE

PUBLISHED = Path(__file__).with_name("published.yaml")
RANDOM = "random"
ORDER = ("mappo", "randnet", "opre", "pp", "rpm", "bidist")
ABLATIONS = ("bidist", "bidist-forward-only", "bidist-no-distillation", "bidist-no-fictitious", "bidist-all-fictitious")
# Where random players and ACB's differ by less than this share, a scaled return is mostly noise.
LEAST_SPAN = 0.1

Rows = Sequence[Mapping[str, Any]]
Cell = tuple[float, float, float] | None
"""A mean and its 95% interval, or nothing if it was not played."""


def published() -> dict[str, Any]:
    """`returns`, DeepMind's by scenario, and `table_1`, the paper's by method and game."""
    found: dict[str, Any] = yaml.safe_load(PUBLISHED.read_text())
    return found


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
            key = ("run", "checkpoint", "scenario", "episode", "evaluation_seed", "reference")
            rows[tuple(row[name] for name in key)] = row
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
        self.games = {name: sorted(games[name], key=_number) for name in sorted(games)}
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


def write_report(rows: Rows, folder: Path, curves: Path | None = None) -> Path:
    """Writes `report.md`, `returns.csv` and pictures.

    Args:
      rows: results.
      folder: where; made if missing.
      curves: a picture of the runs' learning curves in the folder, if there is one.

    Returns: the path of `report.md`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    results, scale = Results(rows), Scale()
    _write_numbers(results, scale, folder / "returns.csv")
    parts = ["# Returns among strangers", _who(results)]
    _draw_returns(results, scale, folder / "returns.png")
    parts += ["## Returns", RETURNS, "![Returns](returns.png)", *_tables(results, _raw(results, scale))]
    parts += ["## Scaled by published returns", SCALED, *_tables(results, _scaled(results, scale))]
    parts += ["## Table 1: min-max over methods", TABLE_1, _beside_the_paper(results)]
    parts += ["## Across games", *_across(results, scale, folder / "across.png")]
    parts += ["## Figure 1: ablations", _ablations(results, folder / "ablations.png")]
    if curves is not None:
        parts += ["## Learning curves", f"![Learning curves]({curves.name})"]
    if _draw_over_training(rows, folder / "over_training.png"):
        parts += ["## Over training", "Focal returns of several checkpoints.", "![Over training](over_training.png)"]
    if (both := _beside_the_original(rows)) is not None:
        parts += ["## Beside Melting Pot's own loop", ORIGINAL, both]
    path = folder / "report.md"
    write(path, ("\n\n".join(part for part in parts if part) + "\n").encode())
    return path


RETURNS = """\
Focal return per capita: mean over focal players, episodes and runs, with the 95% interval of a bootstrap over runs
(drawn together for the scenarios of a game) and episodes. With one run the interval knows nothing of other seeds.
`published` are DeepMind's returns of random players and of ACB, trained for about 1e9 steps."""
SCALED = """\
(x - random) / (ACB - random), by DeepMind's published returns, so that a number does not hang on which methods were
run. Empty where nothing was published, or where the two hardly differ (`coop_mining_2`)."""
TABLE_1 = """\
As the paper has it: within a scenario the worst method is 0 and the best 1, so a number says nothing without the others
beside it. Ours / the paper's; ours is empty where not at least two methods were run."""
ACROSS = """\
Interquartile mean of the scaled returns over runs and scenarios. Methods that played different games are not to be
compared."""
ORIGINAL = """\
The same populations, played by our evaluator and through Melting Pot's own API; p is of a permutation test of the
difference of the means."""
IMPROVEMENT = "Probability that a run of X does better than one of Y in a scenario."


def _who(results: Results) -> str:
    runs: dict[tuple[Any, ...], int] = defaultdict(int)
    for row in results.rows:
        runs[tuple(row[k] for k in ("run", "method", "seed", "substrate", "checkpoint", "player_steps"))] += 1
    lines = [
        [run, method, str(seed), substrate, checkpoint, f"{steps:,}" if steps else "", f"{n:,}"]
        for (run, method, seed, substrate, checkpoint, steps), n in sorted(runs.items(), key=lambda item: item[0][3:4])
    ]
    return _table(["run", "method", "seed", "game", "checkpoint", "player steps", "episodes"], lines)


def _tables(results: Results, cells: Any) -> list[str]:
    parts = []
    for game, scenarios in results.games.items():
        head, lines = cells(game, scenarios)
        parts.append(f"`{game}`\n\n" + _table(["scenario", *head], lines))
    return parts


def _raw(results: Results, scale: Scale) -> Any:
    def cells(game: str, scenarios: list[str]) -> tuple[list[str], list[list[str]]]:
        lines = []
        for s in scenarios:
            known = scale.returns.get(s)
            theirs = [f"{known['random']:.2f}", f"{np.mean(known['acb']):.2f}"] if known else ["", ""]
            lines.append([f"{_number(s)}", *(_interval(results.cell(m, game, s)) for m in results.methods), *theirs])
        return [*results.methods, "random, published", "ACB, published"], lines

    return cells


def _scaled(results: Results, scale: Scale) -> Any:
    def cells(game: str, scenarios: list[str]) -> tuple[list[str], list[list[str]]]:
        lines = []
        for s in scenarios:
            found = [results.cell(m, game, s) for m in results.methods]
            scaled = [None if c is None or scale.span(s) is None else tuple(scale(s, x) for x in c) for c in found]
            lines.append([f"{_number(s)}", *(_interval(c) for c in scaled)])
        return results.methods, lines

    return cells


def _beside_the_paper(results: Results) -> str:
    theirs = published()["table_1"]
    methods = [m for m in results.methods if m != RANDOM]
    shown = [*ORDER, *(m for m in methods if m not in ORDER)]
    lines = []
    games = list(dict.fromkeys([*theirs["bidist"], *results.games]))
    for game in games:
        numbers = sorted({*range(len(theirs["bidist"].get(game, []))), *map(_number, results.games.get(game, []))})
        for number in numbers:
            ours = results.normalised(game, f"{game}_{number}")
            line = [f"{game} {number}"]
            for m in shown:
                paper = theirs.get(m, {}).get(game, [])
                pair = (f"{ours[m]:.2f}" if m in ours else "", f"{paper[number]:.2f}" if number < len(paper) else "")
                line.append(" / ".join(pair) if any(pair) else "")
            lines.append(line)
    return _table(["scenario", *shown], lines)


def _across(results: Results, scale: Scale, picture: Path) -> list[str]:
    scored = {m: found for m in results.methods if (found := _scores(results, scale, m))}
    if len(scored) < 2:
        return ["Empty: not two methods with scaled returns."]
    lines = []
    bars: dict[str, tuple[float, float, float]] = {}
    for m, games in scored.items():
        means = np.concatenate([means.ravel() for means, _ in games.values()])
        draws = np.concatenate([draws.reshape(len(draws), -1) for _, draws in games.values()], 1)
        bars[m] = (float(iqm(means)), *limits(iqm(draws)))
        runs = "/".join(str(n) for n in sorted({len(means) for means, _ in games.values()}))
        lines.append([m, str(len(games)), runs, _interval(bars[m])])
    _draw_bars(bars, "interquartile mean of scaled returns", picture)
    parts = [ACROSS, _table(["method", "games", "runs a game", "IQM"], lines), "![Interquartile means](across.png)"]
    learnt = [m for m in scored if m != RANDOM]
    pairs = [(x, y) for x in learnt for y in learnt if x != y and scored[x].keys() == scored[y].keys()]
    if pairs:
        table = [[f"{x} over {y}", _interval(_improvement(scored[x], scored[y]))] for x, y in pairs]
        parts += [IMPROVEMENT, _table(["X over Y", "P"], table)]
    return parts


Scores = Mapping[str, tuple[Array, Array]]
"""By game: scaled means [runs, scenarios], and draws of them [draws, runs, scenarios]."""


def _scores(results: Results, scale: Scale, method: str) -> Scores:
    found = {}
    for game in results.games:
        if (method, game) in results.means:
            scenarios, means, draws = results.means[method, game]
            keep = [i for i, s in enumerate(scenarios) if scale.span(s) is not None]
            if keep:
                scaled = [(scale(scenarios[i], means[:, i]), scale(scenarios[i], draws[:, :, i])) for i in keep]
                found[game] = np.stack([m for m, _ in scaled], 1), np.stack([d for _, d in scaled], 2)
    return found


def _improvement(x: Scores, y: Scores) -> tuple[float, float, float]:
    weights = [min(x[game][0].shape[1], y[game][0].shape[1]) for game in x]
    at = np.average([improvement(x[game][0], y[game][0]) for game in x], axis=0, weights=weights)
    draws = np.average([improvement(x[game][1], y[game][1]) for game in x], axis=0, weights=weights)
    return (float(at), *limits(draws))


def _ablations(results: Results, picture: Path) -> str:
    present = [m for m in ABLATIONS if m in results.methods]
    if len(present) < 2:
        return "Empty: no ablations among the results."
    game = max(results.games, key=lambda g: sum((m, g) in results.means for m in present))
    bars = {}
    for m in present:
        if (m, game) in results.means:
            _, means, draws = results.means[m, game]
            bars[m] = (float(means.mean()), *limits(draws.mean((1, 2))))
    _draw_bars(bars, f"focal return, mean over the scenarios of {game}", picture)
    return "![Ablations](ablations.png)"


def _beside_the_original(rows: Rows) -> str | None:
    groups: dict[tuple[str, str, str], dict[bool, list[float]]] = defaultdict(lambda: defaultdict(list))
    for row in rows:
        groups[row["run"], row["checkpoint"], row["scenario"]][row["reference"]].append(row["focal_return"])
    lines = []
    for (run, _, s), found in sorted(groups.items()):
        if len(found) == 2:
            cells = [interval(found[path]) for path in (False, True)]
            shown = [f"{c.mean:.2f} ({c.low:.2f} to {c.high:.2f}), {c.episodes} episodes" for c in cells]
            lines.append([run, s, *shown, f"{permutation_test(found[False], found[True]):.2f}"])
    return _table(["run", "scenario", "ours", "Melting Pot's", "p"], lines) if lines else None


def _write_numbers(results: Results, scale: Scale, path: Path) -> None:
    with path.open("w", newline="") as file:
        out = csv.writer(file, lineterminator="\n")
        head = ["substrate", "scenario", "method", "runs", "episodes", "focal_return", "low", "high"]
        out.writerow([*head, "scaled", "min_max", "paper_min_max"])
        theirs = published()["table_1"]
        for game, scenarios in results.games.items():
            for s in scenarios:
                normalised = results.normalised(game, s)
                for m in results.methods:
                    if (cell := results.cell(m, game, s)) is None:
                        continue
                    runs = results.runs(m, game)
                    paper = theirs.get(m, {}).get(game, [])
                    scaled = scale(s, cell[0])
                    out.writerow([
                        game, s, m, len(runs), sum(len(run[s]) for run in runs.values()), *(f"{x:.6g}" for x in cell),
                        "" if scaled is None else f"{scaled:.6g}", f"{normalised[m]:.6g}" if m in normalised else "",
                        paper[_number(s)] if _number(s) < len(paper) else "",
                    ])  # fmt: skip


def _draw_returns(results: Results, scale: Scale, path: Path) -> None:
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
            axes.set_xticks(range(len(results.games[game])), [f"scenario {_number(s)}" for s in results.games[game]])
            axes.set_title(game)
            axes.set_ylabel("focal return")
        bars = [Patch(color=colour, label=m) for m, colour in colours.items()]
        handles = [*bars, Line2D([], [], color="#202020", linestyle=":", label="ACB, published")]
        panels[0].legend(handles=handles, ncols=len(handles), loc="lower left", bbox_to_anchor=(0, 1.12))
        figure.savefig(path)


def _draw_bars(bars: dict[str, tuple[float, float, float]], label: str, path: Path) -> None:
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(7, 0.8 + 0.4 * len(bars)))
        axes = figure.subplots()
        for k, (name, (mean, low, high)) in enumerate(reversed(bars.items())):
            axes.barh(k, high - low, left=low, height=0.5, color=GREY if name == RANDOM else COLOURS[0], alpha=0.4)
            axes.vlines(mean, k - 0.25, k + 0.25, color="#202020", linewidth=2)
        axes.set_yticks(range(len(bars)), list(reversed(bars)))
        axes.set_xlabel(label)
        figure.savefig(path)


def _draw_over_training(rows: Rows, path: Path) -> bool:
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
                label = f"{run}, scenario {_number(scenario)}"
                axes.plot(steps, means, marker="o", color=COLOURS[k % len(COLOURS)], label=label)
            axes.set_title(game)
            axes.set_xlabel("player steps")
            axes.set_ylabel("focal return")
            axes.legend()
        figure.savefig(path)
    return True


def _table(head: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    rows = [head, ["---"] * len(head), *lines]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _interval(cell: Any) -> str:
    return "" if cell is None else f"{cell[0]:.2f} ({min(cell[1:]):.2f} to {max(cell[1:]):.2f})"


def _number(scenario: str) -> int:
    return int(scenario.rpartition("_")[2])
