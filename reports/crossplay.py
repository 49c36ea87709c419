"""The report of a cross-play: `crossplay.md`, `crossplay.json`, and heat maps in `crossplay.png`."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from rich.console import Console
from rich.table import Table

from common.files import write
from evaluator.crossplay import HALF, ONE
from evaluator.evaluate import EvaluatedPopulation
from reports.standings import Rows, Standing, by_method, cells, standings
from reports.statistics import Interval
from reports.style import STYLE

WORDS = {ONE: "one focal player among the others", HALF: "half of the players focal"}


def rows_among(
    rows: Rows, populations: Sequence[EvaluatedPopulation], episodes: int, seed: int
) -> list[Mapping[str, Any]]:
    """Returns the rows of each pair of these populations, with these weights, for its first `episodes` episodes."""
    known = {(p.run, p.checkpoint, p.weights) for p in populations}

    def of(row: Mapping[str, Any], prefix: str) -> tuple[Any, ...]:
        return tuple(row[f"{prefix}{key}"] for key in ("run", "checkpoint", "weights"))

    wanted = [row for row in rows if row["evaluation_seed"] == seed and row["episode"] < episodes]
    return [row for row in wanted if of(row, "") in known and of(row, "background_") in known]


def write_report(rows: Rows, out: Path, command: str) -> list[Standing]:
    """Writes the report into a folder; returns the standings, which are empty if no two populations have met yet.

    Args:
      rows: of the populations to compare.
      out: the folder.
      command: the command that produced the rows.
    """
    found = standings(rows)
    if not found:
        return []
    names = [standing.population for standing in found]
    splits = [split for split in (ONE, HALF) if any(row["split"] == split for row in rows)]
    matrices = {split: cells(rows, split) for split in splits}
    document = {
        "command": command,
        "substrate": rows[0]["substrate"],
        "standings": [asdict(standing) for standing in found],
        "returns": {
            split: [{"focal": a, "background": b, **asdict(x)} for (a, b), x in matrix.items()]
            for split, matrix in matrices.items()
        },
    }
    write(out / "crossplay.json", json.dumps(document, indent=1).encode())
    draw_matrices(names, matrices, out / "crossplay.png")
    head = HEAD.format(substrate=rows[0]["substrate"], command=command, standings="\n".join(map(_line, found)))
    parts = [head]
    for split, matrix in matrices.items():
        title = f"## {WORDS[split][0].upper()}{WORDS[split][1:]}"
        parts += [title, "Rows are focal, columns are background.", _matrix(names, matrix)]
    methods = list(dict.fromkeys(standing.method for standing in found))
    if len(methods) < len(found):  # some methods have several runs
        parts += ["## By method", BY_METHOD, _matrix(methods, by_method(rows))]
    write(out / "crossplay.md", ("\n\n".join(parts) + "\n").encode())
    return found


HEAD = """\
# Cross-play in {substrate}

Mean return per focal player, with 95% bootstrap intervals over episodes. A stranger is a population of another run.
Intervals do not cover variation between training seeds. Produced by

```
{command}
```

![Returns of focal players](crossplay.png)

| population | against itself | among strangers | worst stranger | with | rating |
|---|---|---|---|---|---|
{standings}

Ratings are those of the Plackett-Luce model (openskill): populations that met the same strangers, in the same game and
seats, are ranked by their returns; a new population has 25 ± 8.3."""
BY_METHOD = """\
Mean focal return over pairs of different runs, all splits weighted equally. Intervals are over focal runs: a bootstrap
for three runs or more, otherwise the range."""


def _matrix(names: Sequence[str], cells: Mapping[tuple[str, str], Interval]) -> str:
    lines = [f"| | {' | '.join(names)} |", "|---" * (len(names) + 1) + "|"]
    lines += [f"| {a} | {' | '.join(_text(cells.get((a, b))) for b in names)} |" for a in names]
    return "\n".join(lines)


def show(found: Sequence[Standing], out: Path) -> None:
    """Prints the standings without their intervals, which are in the report."""
    table = Table("population", "itself", "strangers", "worst", "rating", box=None)
    for s in found:
        itself = "" if s.among_itself is None else f"{s.among_itself.mean:.2f}"
        table.add_row(s.population, itself, f"{s.strangers.mean:.2f}", f"{s.worst.mean:.2f}", _rating(s))
    console = Console()
    console.print(table)
    console.print(f"written: {out}/crossplay.md, .json, .png, .jsonl", soft_wrap=True, highlight=False)


def _line(s: Standing) -> str:
    parts = (s.population, _text(s.among_itself), f"**{_text(s.strangers)}**", _text(s.worst), s.worst_with, _rating(s))
    return f"| {' | '.join(parts)} |"


def _text(found: Interval | None) -> str:
    if found is None:
        return ""
    return f"{found.mean:.2f} ({found.low:.2f} to {found.high:.2f})" if found.episodes > 1 else f"{found.mean:.2f}"


def _rating(standing: Standing) -> str:
    return "" if standing.rating is None else f"{standing.rating:.1f} ± {standing.uncertainty:.1f}"


def draw_matrices(
    names: Sequence[str], matrices: Mapping[str, Mapping[tuple[str, str], Interval]], path: Path
) -> Figure:
    """Draws and saves a heat map per split: rows are focal, columns background, and the diagonal is self-play."""
    size = max(2.6, 0.55 * len(names))
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(2.2 + (size + 0.4) * len(matrices) + 0.8, size + 1.9))
        panels = figure.subplots(1, len(matrices), squeeze=False, sharey=True)[0]
        grids = {
            split: np.array([[m[a, b].mean if (a, b) in m else np.nan for b in names] for a in names])
            for split, m in matrices.items()
        }
        low, high = min(map(np.nanmin, grids.values())), max(map(np.nanmax, grids.values()))
        for axes, (split, grid) in zip(panels, grids.items(), strict=True):
            image = axes.imshow(grid, vmin=low, vmax=high, cmap="viridis")
            for (i, j), value in np.ndenumerate(grid):
                if not np.isnan(value):
                    dark = value < (low + high) / 2
                    axes.text(j, i, f"{value:.1f}", ha="center", va="center", fontsize=7, color="w" if dark else "k")
            axes.set_xticks(range(len(names)), names, rotation=90)
            axes.set_yticks(range(len(names)), names)
            axes.grid(False)
            axes.set_title(WORDS[split])
            axes.set_xlabel("background")
        panels[0].set_ylabel("focal")
        figure.colorbar(image, ax=panels.tolist(), label="return per focal player", shrink=0.8)
        figure.savefig(path)
    return figure
