"""The report of a sweep: results by variant and over seeds, from whatever has been trained so far."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from common.files import write
from experiments.sweeps.plan import read_plan
from experiments.sweeps.progress import TRIALS, Progress, progress, row, write_rows
from experiments.sweeps.trial import Trial
from reports.adaptation import adaptation_index
from reports.curves import compare_curves, write_numbers
from reports.published import Scale
from reports.statistics import interval

REPORT, CURVES = "sweep.md", "learning_curves"

Row = Mapping[str, Any]

_scale = cache(Scale)  # reads a file


def write_sweep_report(sweep: Path, out: Path) -> Path:
    """Writes `sweep.md`, `trials.csv`, and the learning curves as a figure and as CSV; returns the report's path.

    Args:
      sweep: the sweep's folder.
      out: the folder to write to; created if missing.
    """
    out.mkdir(parents=True, exist_ok=True)
    trials = read_plan(sweep, {}).trials()
    states = {trial: progress(sweep, trial) for trial in trials}
    begun = [trial for trial in trials if states[trial].state != "waiting"]
    rows = {trial: row(sweep, trial) for trial in begun}
    write_rows(list(rows.values()), out / TRIALS)
    lines = [f"# Sweep {sweep.resolve().name}", "", *_state(states), ""]
    if drawn := [trial for trial in begun if states[trial].player_steps]:
        folders = [trial.folder(sweep) for trial in drawn]
        compare_curves(folders, out / f"{CURVES}.png", [trial.label for trial in drawn])
        write_numbers(folders, out / f"{CURVES}.csv")
        caption = "Means over seeds, with bands from the lowest to the highest seed; each seed is a thin line."
        lines += [caption, "", f"![Learning curves]({CURVES}.png)", ""]
    trained = [trial for trial in begun if states[trial].trained]
    for substrate in dict.fromkeys(trial.substrate for trial in trained):
        lines += _table(substrate, [trial for trial in trained if trial.substrate == substrate], rows)
    lines += ["## Commands", "", f"One row per trial, with its command: [`{TRIALS}`]({TRIALS}).", ""]
    write(out / REPORT, "\n".join(lines).encode())
    return out / REPORT


def _state(states: Mapping[Trial, Progress]) -> list[str]:
    done = sum(seen.state == "done" for seen in states.values())
    lines = [f"{done} of {len(states)} trials are done."]
    if done < len(states):
        lines += [
            "The curves include the others as far as they have come; the tables include only trained ones.",
            "",
        ]
    for trial, seen in states.items():
        if seen.state not in ("done", "waiting"):
            share = f"{min(1.0, seen.player_steps / trial.steps):.0%} trained"
            lines.append(f"- {trial.name}: {seen.state}, {share}{f'; {seen.error}' if seen.error else ''}")
    return lines


def _table(substrate: str, trials: Sequence[Trial], begun: Mapping[Trial, Row]) -> list[str]:
    """Means over seeds, with a bootstrap interval where there are at least three."""
    groups: dict[str, list[Row]] = defaultdict(list)
    for trial in trials:
        groups[trial.label].append(begun[trial])
    numbers = sorted({name for t in trials for name in t.scenarios}, key=lambda name: int(name.rpartition("_")[2]))
    columns = {
        "return_auc": "mean return in training",
        "return_end": "at the end",
        "return_others_end": "others at the end",
        "among_itself": "self-play",
        "explained_variance_end": "explained variance",
        "entropy_nats_end": "entropy (nats)",
        **{f"focal_{name.rpartition('_')[2]}": f"scenario {name.rpartition('_')[2]}" for name in numbers},
    }
    shown = [key for key in columns if any(found.get(key) is not None for own in groups.values() for found in own)]
    heads = [columns[key] for key in shown] + (["scaled mean", "worst / best"] if numbers else [])
    lines = [f"## {substrate}", "", f"| | seeds | player steps | {' | '.join(heads)} | player steps/s |"]
    lines += ["|---" * (len(heads) + 4) + "|"]
    for label, found in groups.items():
        parts = [_over_seeds([r.get(key) for r in found]) for key in shown]
        if numbers:
            parts += [_over_seeds([measure(r, numbers) for r in found]) for measure in (scaled, evenness)]
        steps = round(float(np.mean([r["player_steps"] for r in found])) / 1e6, 2)
        rate = _over_seeds([r["player_steps_per_s"] for r in found], digits=0)
        lines.append(f"| {label} | {len(found)} | {steps:g} M | {' | '.join(parts)} | {rate} |")
    return [*lines, ""]


def scaled(found: Row, scenarios: Sequence[str]) -> float | None:
    """Returns the mean over scenarios of (x - random) / (ACB - random), as published; None if one is missing."""
    scale = _scale()
    values = [scale(name, found.get(f"focal_{name.rpartition('_')[2]}")) for name in scenarios]
    return None if any(value is None for value in values) else float(np.mean(values))


def evenness(found: Row, scenarios: Sequence[str]) -> float | None:
    """Returns how even the returns are: the worst scenario's return over the best's; None if one is missing."""
    values = [found.get(f"focal_{name.rpartition('_')[2]}") for name in scenarios]
    return None if None in values else float(adaptation_index(np.array(values, float)))


def _over_seeds(values: Sequence[float | None], digits: int = 2) -> str:
    present = [value for value in values if value is not None and np.isfinite(value)]
    if not present:
        return ""
    if len(present) < 3:
        return f"{np.mean(present):.{digits}f}"
    found = interval(present)
    return f"{found.mean:.{digits}f} ({found.low:.{digits}f} to {found.high:.{digits}f})"
