"""Turns rows of results into a report: returns, their uncertainty, and how they compare with published ones.

Cells that were not played stay empty. Each run counts with the checkpoint that was evaluated in the most scenarios, the
newest of several; other checkpoints appear only in the figure over training. Episodes played through Melting Pot's own
API have a table of their own.
"""

import csv
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np

from common.errors import ConfigError
from common.files import write
from evaluator.results import AVERAGED, Rows, number_of
from reports.adaptation import adaptation
from reports.comparison import ablations, across
from reports.firsts import firsts
from reports.markdown import interval_text, table
from reports.pictures import draw_over_training, draw_returns
from reports.published import Scale, published
from reports.returns import ORDER, Results
from reports.statistics import interval, permutation_test


def write_report(rows: Rows, folder: Path, curves: Path | None = None, validation: Rows = ()) -> Path:
    """Writes `report.md`, `returns.csv` and figures.

    Args:
      rows: results.
      folder: where to write; created if missing.
      curves: a figure of the runs' learning curves in the folder, if there is one.
      validation: results of the same runs in other scenarios, for the adaptation index alone.

    Returns: the path of `report.md`.

    Raises:
      ConfigError: if all rows were played through Melting Pot's own API.
    """
    results, scale = Results(rows), Scale()
    if not results.rows:
        raise ConfigError(
            "all of these episodes were played with --reference; a report needs episodes of the evaluator itself"
        )
    folder.mkdir(parents=True, exist_ok=True)
    for stale in (*folder.glob("ablations*.png"), folder / "across.png", folder / "over_training.png"):
        stale.unlink(missing_ok=True)
    _write_numbers(results, scale, folder / "returns.csv")
    parts = ["# Returns among strangers", _who(results)]
    draw_returns(results, scale, folder / "returns.png")
    parts += [
        "## Returns",
        RETURNS,
        _lengths(results),
        "![Returns](returns.png)",
        *_tables(results, _raw(results, scale)),
    ]
    parts += ["## Scaled by published returns", SCALED, *_tables(results, _scaled(results, scale))]
    parts += ["## Table 1: min-max over methods", TABLE_1, _beside_the_paper(results), *firsts(results)]
    if found := adaptation(Results(validation) if validation else results):
        parts += ["## Strangers of one colour", *found]
    parts += ["## Across games", *across(results, scale, folder / "across.png")]
    parts += ["## Figure 1: ablations", *ablations(results, folder)]
    if curves is not None:
        parts += ["## Learning curves", f"![Learning curves]({curves.name})"]
    by_theta = [row for row in rows if not row["checkpoint"].endswith(AVERAGED)]
    if draw_over_training(by_theta, folder / "over_training.png") is not None:
        parts += ["## Over training", "Focal returns of several checkpoints.", "![Over training](over_training.png)"]
    if (both := _beside_the_reference(rows)) is not None:
        parts += ["## Beside Melting Pot's own loop", REFERENCE, both]
    path = folder / "report.md"
    write(path, ("\n\n".join(part for part in parts if part) + "\n").encode())
    return path


RETURNS = """\
Focal return per capita: mean over focal players, episodes and the runs that played the scenario, with a 95% bootstrap
interval over runs (drawn together for all scenarios of a game) and episodes. With a single run, the interval does not
cover variation between seeds. `published` are DeepMind's returns of random players and of ACB, trained for about 1e9
steps."""
SCALED = """\
(x - random) / (ACB - random), with DeepMind's published returns, so that a score does not depend on which methods were
run. Empty where nothing was published, or where the two hardly differ (`coop_mining_2`)."""
LENGTHS = """\
The game draws an episode's length L, so returns are adjusted to its expectation: x - r (L - E[L]), r being the method's
return per step in the scenario. This removes {saving:.0%} of the variance between the episodes of a run."""
TABLE_1 = """\
As in the paper, the worst of its six methods in a scenario scores 0 and the best scores 1, so a score means nothing
without the others, and with fewer than six methods it is not comparable with the paper's. Ours / the paper's; ours is
empty if fewer than two of the six were run, or all earned the same."""
REFERENCE = """\
The same populations, played by our evaluator and through Melting Pot's own API; p is from a permutation test of the
difference of means."""


def _who(results: Results) -> str:
    runs: dict[tuple[Any, ...], int] = defaultdict(int)
    for row in results.rows:
        runs[tuple(row[k] for k in ("run", "method", "seed", "substrate", "checkpoint", "player_steps"))] += 1
    lines = [
        [run, method, str(seed), substrate, checkpoint, f"{steps:,}" if steps else "", f"{n:,}"]
        for (run, method, seed, substrate, checkpoint, steps), n in sorted(runs.items(), key=lambda item: item[0][3:4])
    ]
    versions = {f"{name} {version}" for row in results.rows for name, version in row.get("versions", {}).items()}
    seeds = {row["evaluation_seed"] for row in results.rows}
    notes = [f"Evaluation seed {', '.join(map(str, sorted(seeds)))}; {', '.join(sorted(versions))}."]
    notes += [f"**{warning}.**" for warning in results.warnings()]
    return "\n\n".join(
        [table(["run", "method", "seed", "game", "checkpoint", "player steps", "episodes"], lines), *notes]
    )


def _lengths(results: Results) -> str:
    return LENGTHS.format(saving=results.length_saving) if results.length_saving else ""


def _tables(results: Results, cells: Any) -> list[str]:
    parts = []
    for game, scenarios in results.games.items():
        head, lines = cells(scenarios)
        parts.append(f"`{game}`\n\n" + table(["scenario", *head], lines))
    return parts


def _raw(results: Results, scale: Scale) -> Any:
    def cells(scenarios: list[str]) -> tuple[list[str], list[list[str]]]:
        lines = []
        for s in scenarios:
            known = scale.returns.get(s)
            theirs = [f"{known['random']:.2f}", f"{np.mean(known['acb']):.2f}"] if known else ["", ""]
            lines.append([f"{number_of(s)}", *(interval_text(results.cell(m, s)) for m in results.methods), *theirs])
        return [*results.methods, "random, published", "ACB, published"], lines

    return cells


def _scaled(results: Results, scale: Scale) -> Any:
    def cells(scenarios: list[str]) -> tuple[list[str], list[list[str]]]:
        lines = []
        for s in scenarios:
            found = [results.cell(m, s) for m in results.methods]
            scaled = [None if c is None or scale.span(s) is None else tuple(scale(s, x) for x in c) for c in found]
            lines.append([f"{number_of(s)}", *(interval_text(c) for c in scaled)])
        return results.methods, lines

    return cells


def _beside_the_paper(results: Results) -> str:
    theirs = published()["table_1"]
    lines = []
    games = list(dict.fromkeys([*theirs["bidist"], *results.games]))
    for game in games:
        numbers = sorted({*range(len(theirs["bidist"].get(game, []))), *map(number_of, results.games.get(game, []))})
        for number in numbers:
            ours = results.normalised(f"{game}_{number}")
            line = [f"{game} {number}", f"{len(ours)} of {len(ORDER)}" if ours else ""]
            for m in ORDER:
                paper = theirs.get(m, {}).get(game, [])
                pair = (f"{ours[m]:.2f}" if m in ours else "", f"{paper[number]:.2f}" if number < len(paper) else "")
                line.append(" / ".join(pair) if any(pair) else "")
            lines.append(line)
    return table(["scenario", "methods", *ORDER], lines)


def _beside_the_reference(rows: Rows) -> str | None:
    groups: dict[tuple[str, str, str], dict[bool, list[float]]] = defaultdict(lambda: defaultdict(list))
    for row in rows:
        groups[row["run"], row["checkpoint"], row["scenario"]][row["reference"]].append(row["focal_return"])
    lines = []
    for (run, _, s), found in sorted(groups.items()):
        if len(found) == 2:
            cells = [interval(found[path]) for path in (False, True)]
            shown = [f"{c.mean:.2f} ({c.low:.2f} to {c.high:.2f}), {c.episodes} episodes" for c in cells]
            lines.append([run, s, *shown, f"{permutation_test(found[False], found[True]):.2f}"])
    return table(["run", "scenario", "ours", "Melting Pot's", "p"], lines) if lines else None


def _write_numbers(results: Results, scale: Scale, path: Path) -> None:
    with path.open("w", newline="") as file:
        out = csv.writer(file, lineterminator="\n")
        head = ["substrate", "scenario", "method", "runs", "episodes", "focal_return", "low", "high"]
        out.writerow([*head, "scaled", "min_max", "paper_min_max"])
        theirs = published()["table_1"]
        for game, scenarios in results.games.items():
            for s in scenarios:
                normalised = results.normalised(s)
                for m in results.methods:
                    if (cell := results.cell(m, s)) is None:
                        continue
                    runs = results.runs(m, s)
                    paper = theirs.get(m, {}).get(game, [])
                    scaled = scale(s, cell[0])
                    line = [game, s, m, len(runs), sum(map(len, runs)), *map(_rounded, cell)]
                    theirs_here = paper[number_of(s)] if number_of(s) < len(paper) else ""
                    out.writerow([*line, _rounded(scaled), _rounded(normalised.get(m)), theirs_here])


def _rounded(value: float | None) -> str:
    return "" if value is None else f"{value:.6g}"
