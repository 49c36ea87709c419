"""Compares methods across games, and the ablations of BiDist within each game."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from evaluator.results import number_of
from reports.markdown import interval_text, table
from reports.pictures import draw_bars
from reports.published import Scale
from reports.returns import RANDOM, Results
from reports.statistics import Array, improvement, iqm, limits

ABLATIONS = ("bidist", "bidist-forward-only", "bidist-no-distillation", "bidist-no-fictitious", "bidist-all-fictitious")

ACROSS = """\
Interquartile mean of the scaled returns over runs and over the scenarios that all of these methods played."""
FEW_RUNS = """\
**Fewer than two runs of a method: no interval is given, because it could not cover variation between seeds.**"""
SOME_RUNS = """\
**Fewer than five runs of a method: a bootstrap over so few runs is too narrow. Nominal 95% intervals cover the true
value about 70% of the time with two runs, 80% with three and 90% with five.**"""
IMPROVEMENT = "Probability that a run of X beats a run of Y in a scenario that both methods played."


def across(results: Results, scale: Scale, picture: Path) -> list[str]:
    """Returns the section on all games, interquartile means and probabilities of improvement; saves a figure."""
    learnt = [m for m in results.methods if m != RANDOM]
    shared = _shared(results, scale, learnt)
    if len(learnt) < 2 or not shared:
        return ["Empty: no two methods have scaled returns in the same scenarios."]
    lines: list[list[str]] = []
    bars: dict[str, tuple[float, float, float]] = {}
    counts: set[int] = set()
    for m in results.methods:
        if (scores := _scores(results, scale, m, shared)) is not None:
            runs = sorted({len(means) for means, _ in scores})
            counts.update(runs if m != RANDOM else ())
            means = np.concatenate([means.ravel() for means, _ in scores])
            draws = np.concatenate([draws.reshape(len(draws), -1) for _, draws in scores], 1)
            bars[m] = _with_limits(float(iqm(means)), iqm(draws), runs[0])
            lines.append([m, "/".join(map(str, runs)), interval_text(bars[m])])
    draw_bars(bars, "interquartile mean of scaled returns", picture)
    where = ", ".join(f"{game} {'/'.join(str(number_of(s)) for s in names)}" for game, names in shared.items())
    parts = [ACROSS, f"Scenarios: {where}.", table(["method", "runs a game", "IQM"], lines)]
    parts += ["![Interquartile means](across.png)"]
    pairs = [(x, y) for k, x in enumerate(learnt) for y in learnt[:k]]
    compared = [[f"{x} over {y}", *found] for x, y in pairs if (found := compare(results, scale, x, y))]
    if compared:
        parts += [IMPROVEMENT, table(["X over Y", "scenarios", "P"], compared)]
    parts += [FEW_RUNS] if min(counts) < 2 else [SOME_RUNS] if min(counts) < 5 else []
    return parts


def _shared(results: Results, scale: Scale | None, methods: Sequence[str]) -> dict[str, list[str]]:
    """Returns the scenarios, by game, that some run of each of these methods played and that have a scale."""
    found = {}
    for game, scenarios in results.games.items():
        names = [s for s in scenarios if scale is None or scale.span(s) is not None]
        names = [s for s in names if all(results.runs(m, s) for m in methods)]
        if names and all(results.means(m, names) is not None for m in methods):
            found[game] = names
    return found


def _scores(
    results: Results, scale: Scale, method: str, shared: Mapping[str, list[str]]
) -> list[tuple[Array, Array]] | None:
    """Scales means [runs, scenarios] and draws of them [draws, runs, scenarios], game by game; None if one has none."""
    found = []
    for names in shared.values():
        if (measured := results.means(method, names)) is None:
            return None
        parts = [np.stack([scale(s, x[..., i]) for i, s in enumerate(names)], -1) for x in measured]
        found.append((parts[0], parts[1]))
    return found


def compare(results: Results, scale: Scale, x: str, y: str) -> list[str]:
    """Returns the number of scenarios both played and the probability of improvement there; empty if there are none."""
    shared = _shared(results, scale, [x, y])
    mine, theirs = _scores(results, scale, x, shared), _scores(results, scale, y, shared)
    if not mine or not theirs:
        return []
    weights = [len(names) for names in shared.values()]
    pairs = list(zip(mine, theirs, strict=True))
    at = np.average([improvement(a, b) for (a, _), (b, _) in pairs], axis=0, weights=weights)
    draws = np.average([improvement(a, b) for (_, a), (_, b) in pairs], axis=0, weights=weights)
    runs = min(len(means) for means, _ in (*mine, *theirs))
    return [str(sum(weights)), interval_text(_with_limits(float(at), draws, runs))]


def _with_limits(at: float, draws: Array, runs: int) -> tuple[float, float, float]:
    """Returns a value with its interval, which is the value itself for a single run."""
    return (at, *limits(draws)) if runs > 1 else (at, at, at)


def ablations(results: Results, folder: Path) -> list[str]:
    """Returns the report's section on ablations, mean focal returns by game; saves a figure for each."""
    present = [m for m in ABLATIONS if m in results.methods]
    shared = _shared(results, None, present) if len(present) > 1 else {}
    if not shared:
        return ["Empty: there are no ablations among the results, or no scenario that all of them played."]
    parts = []
    for game, names in shared.items():
        bars = {}
        for m in present:
            if (found := results.means(m, names)) is not None:
                bars[m] = _with_limits(float(found[0].mean()), found[1].mean((1, 2)), len(found[0]))
        picture = f"ablations-{game}.png"
        draw_bars(bars, f"focal return, mean over {len(names)} scenarios of {game}", folder / picture)
        numbers = table(["method", "focal return"], [[m, interval_text(bar)] for m, bar in bars.items()])
        parts += [
            f"`{game}`, scenarios {', '.join(str(number_of(s)) for s in names)}",
            numbers,
            f"![Ablations]({picture})",
        ]
    return parts
