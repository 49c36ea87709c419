"""From rows of results to a report: what was measured, how sure it is, and how it stands to what was published.

A cell that was not played stays empty. Of each run its newest evaluated checkpoint counts; others are drawn in the
picture over training alone. Episodes that went through Melting Pot's own API stand beside the others in a table of
their own.
"""

import csv
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from common.files import write
from evaluator.pictures import draw_bars, draw_over_training, draw_returns
from evaluator.results import ORDER, RANDOM, Results, Rows, Scale, number_of, published
from evaluator.statistics import Array, improvement, interval, iqm, limits, permutation_test

ABLATIONS = ("bidist", "bidist-forward-only", "bidist-no-distillation", "bidist-no-fictitious", "bidist-all-fictitious")


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
    draw_returns(results, scale, folder / "returns.png")
    parts += ["## Returns", RETURNS, "![Returns](returns.png)", *_tables(results, _raw(results, scale))]
    parts += ["## Scaled by published returns", SCALED, *_tables(results, _scaled(results, scale))]
    parts += ["## Table 1: min-max over methods", TABLE_1, _beside_the_paper(results)]
    parts += ["## Across games", *_across(results, scale, folder / "across.png")]
    parts += ["## Figure 1: ablations", _ablations(results, folder / "ablations.png")]
    if curves is not None:
        parts += ["## Learning curves", f"![Learning curves]({curves.name})"]
    if draw_over_training(rows, folder / "over_training.png"):
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
            lines.append([f"{number_of(s)}", *(_interval(results.cell(m, game, s)) for m in results.methods), *theirs])
        return [*results.methods, "random, published", "ACB, published"], lines

    return cells


def _scaled(results: Results, scale: Scale) -> Any:
    def cells(game: str, scenarios: list[str]) -> tuple[list[str], list[list[str]]]:
        lines = []
        for s in scenarios:
            found = [results.cell(m, game, s) for m in results.methods]
            scaled = [None if c is None or scale.span(s) is None else tuple(scale(s, x) for x in c) for c in found]
            lines.append([f"{number_of(s)}", *(_interval(c) for c in scaled)])
        return results.methods, lines

    return cells


def _beside_the_paper(results: Results) -> str:
    theirs = published()["table_1"]
    methods = [m for m in results.methods if m != RANDOM]
    shown = [*ORDER, *(m for m in methods if m not in ORDER)]
    lines = []
    games = list(dict.fromkeys([*theirs["bidist"], *results.games]))
    for game in games:
        numbers = sorted({*range(len(theirs["bidist"].get(game, []))), *map(number_of, results.games.get(game, []))})
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
    draw_bars(bars, "interquartile mean of scaled returns", picture)
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
    draw_bars(bars, f"focal return, mean over the scenarios of {game}", picture)
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
                        paper[number_of(s)] if number_of(s) < len(paper) else "",
                    ])  # fmt: skip


def _table(head: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    rows = [head, ["---"] * len(head), *lines]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _interval(cell: Any) -> str:
    return "" if cell is None else f"{cell[0]:.2f} ({min(cell[1:]):.2f} to {max(cell[1:]):.2f})"
