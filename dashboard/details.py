"""One run's folder in detail: settings, curves, scenarios, films, logs."""

import shlex
from collections import defaultdict
from pathlib import Path
from statistics import fmean
from typing import Any

from common.errors import BidistError
from dashboard import source
from dashboard.catalogue import FILMS
from dashboard.history import averaged
from dashboard.state import Row, number

CURVES = (
    "player_steps",
    "return_learning",
    "return_others",
    "explained_variance",
    "entropy_nats",
    "policy_kl_nats",
    "policy_lag_mean",
    "player_steps_per_s",
)
POINTS = 600
TAIL_BYTES = 32_768


def curves(folder: Path) -> Row:
    """Returns a run's curves over player steps, at most `POINTS` points each, and the KL of its distillation events."""
    lines = [{name: number(line.get(name)) for name in CURVES} for line in source.metrics(folder)]
    return averaged(lines, CURVES, POINTS)


def details(name: str, folder: Path) -> Row:
    """Returns what the page shows when a run is opened."""
    try:
        settings: dict[str, Any] = source.settings(folder)
        error = ""
    except BidistError as found:
        settings, error = {}, str(found)
    return {
        "id": name,
        "error": error,
        "settings": [[key, str(value)] for key, value in _flat(settings)],
        "scenarios": scenarios(source.evaluation(folder)),
        "record": shlex.join(["bidist", "record", str(folder)]),
        "films": sorted(path.name for path in folder.iterdir() if path.suffix in FILMS),
        "logs": list(source.logs(folder)),
        "ledger": str(source.summary(folder).get("ledger", "")),
    }


def scenarios(rows: list[dict[str, Any]]) -> list[Row]:
    """Returns the mean focal return per capita in each scenario, by checkpoint."""
    found: dict[tuple[str, str], list[float]] = defaultdict(list)
    for row in rows:
        found[str(row["scenario"]), str(row["checkpoint"])].append(float(row["focal_return"]))
    return [
        {"scenario": scenario, "checkpoint": checkpoint, "episodes": len(returns), "mean": number(fmean(returns))}
        for (scenario, checkpoint), returns in sorted(found.items())
    ]


def log_tail(path: Path) -> str:
    """Returns the end of a log, starting with a whole line."""
    with path.open("rb") as file:
        size = file.seek(0, 2)
        file.seek(max(0, size - TAIL_BYTES))
        text = file.read().decode(errors="replace")
    return text if size <= TAIL_BYTES else text.partition("\n")[2]


def _flat(tree: dict[str, Any], head: str = "") -> list[tuple[str, Any]]:
    pairs: list[tuple[str, Any]] = []
    for key, value in tree.items():
        pairs += _flat(value, f"{head}{key}.") if isinstance(value, dict) and value else [(f"{head}{key}", value)]
    return pairs
