"""The report of a sweep: what its trials came to, by variant and over seeds; drawn from what is there at any moment."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from common.files import write
from deploy.curves import compare_curves, write_numbers
from evaluator.results import Scale
from evaluator.statistics import interval
from experiments.plan import Trial, read_plan
from experiments.trials import TRIALS, row, write_rows

REPORT, CURVES = "sweep.md", "learning_curves"

Row = Mapping[str, Any]


def write_sweep_report(sweep: Path, out: Path) -> Path:
    """Writes `sweep.md`, `trials.csv`, and the learning curves as a picture and as numbers; returns the report's path.

    Args:
      sweep: the sweep's folder.
      out: where to; made if missing.
    """
    out.mkdir(parents=True, exist_ok=True)
    trials = read_plan(sweep, {}).trials()
    begun = {trial: row(sweep, trial) for trial in trials if trial.folder(sweep).config.exists()}
    write_rows(list(begun.values()), out / TRIALS)
    drawn = [trial for trial, found in begun.items() if found["player_steps"] and np.isfinite(found["return_auc"])]
    lines = [f"# Sweep {sweep.resolve().name}", "", *_state(trials, begun), ""]
    if drawn:
        folders = [trial.folder(sweep) for trial in drawn]
        compare_curves(folders, out / f"{CURVES}.png", [trial.label for trial in drawn])
        write_numbers(folders, out / f"{CURVES}.csv")
        lines += ["Curves are means over seeds, bands reach from the lowest to the highest.", "",
                  f"![Learning curves]({CURVES}.png)", ""]  # fmt: skip
    for substrate in dict.fromkeys(trial.substrate for trial in drawn):
        lines += _table(substrate, [trial for trial in drawn if trial.substrate == substrate], begun)
    lines += ["## Commands", "", f"One row a trial, with its command: [`{TRIALS}`]({TRIALS}).", ""]
    write(out / REPORT, "\n".join(lines).encode())
    return out / REPORT


def _state(trials: Sequence[Trial], begun: Mapping[Trial, Row]) -> list[str]:
    done = sum(found["state"] == "done" for found in begun.values())
    lines = [f"{done} of {len(trials)} trials are done; those that run or failed are shown as far as they came."]
    lines += [f"- {t.name} failed: {found['error']}" for t, found in begun.items() if found["state"] == "failed"]
    return lines if done < len(trials) else [f"All {len(trials)} trials are done."]


def _table(substrate: str, trials: Sequence[Trial], begun: Mapping[Trial, Row]) -> list[str]:
    """Means over seeds with the interval of a bootstrap over them, where there are at least three."""
    groups: dict[str, list[tuple[Trial, Row]]] = defaultdict(list)
    for trial in trials:
        groups[trial.label].append((trial, begun[trial]))
    numbers = sorted({name for t in trials for name in t.scenarios}, key=lambda name: int(name.rpartition("_")[2]))
    columns = ["return_auc", "return_end", "explained_variance_end", "entropy_end"]
    columns += [f"focal_{name.rpartition('_')[2]}" for name in numbers]
    heads = ["mean return in training", "at the end", "explained variance", "entropy (nats)"]
    heads += [f"scenario {name.rpartition('_')[2]}" for name in numbers]
    heads += ["scaled mean", "worst / best"] if numbers else []
    lines = [f"## {substrate}", "", f"| | seeds | player steps | {' | '.join(heads)} | player steps/s |"]
    lines += ["|---" * (len(heads) + 4) + "|"]
    for label, rows in groups.items():
        found = [r for _, r in rows]
        parts = [_over_seeds([r.get(column) for r in found]) for column in columns]
        if numbers:
            parts += [_over_seeds([measure(r, numbers) for r in found]) for measure in (scaled, evenness)]
        steps = round(float(np.mean([r["player_steps"] for r in found])) / 1e6, 2)
        rate = _over_seeds([r["player_steps_per_s"] for r in found], digits=0)
        lines.append(f"| {label} | {len(found)} | {steps:g} M | {' | '.join(parts)} | {rate} |")
    return [*lines, ""]


def scaled(found: Row, scenarios: Sequence[str]) -> float | None:
    """Mean over scenarios of (x - random) / (ACB - random), by DeepMind's published returns; None if one is missing."""
    scale = Scale()
    values = [scale(name, found.get(f"focal_{name.rpartition('_')[2]}")) for name in scenarios]
    return None if any(value is None for value in values) else float(np.mean(values))


def evenness(found: Row, scenarios: Sequence[str]) -> float | None:
    """The worst scenario's return over the best's, the adaptation index; None if one is missing."""
    values = [found.get(f"focal_{name.rpartition('_')[2]}") for name in scenarios]
    present = [value for value in values if value is not None]
    return min(present) / max(present) if len(present) == len(values) and max(present) > 0 else None


def _over_seeds(values: Sequence[float | None], digits: int = 2) -> str:
    present = [value for value in values if value is not None and np.isfinite(value)]
    if not present:
        return ""
    if len(present) < 3:
        return f"{np.mean(present):.{digits}f}"
    found = interval(present)
    return f"{found.mean:.{digits}f} ({found.low:.{digits}f} to {found.high:.{digits}f})"
