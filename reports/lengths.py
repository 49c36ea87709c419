"""Removes the luck of an episode's length from its return: a control variate, because the length's mean is known."""

from collections import defaultdict
from collections.abc import Mapping
from typing import Any

import numpy as np

from environments.lengths import expected_length
from evaluator.results import Rows


def adjusted(rows: Rows) -> list[dict[str, Any]]:
    """Adjusts focal returns to the expected length of an episode: x - r (L - E[L]).

    An episode's length L is drawn by the game, whatever the players do, and most of the differences between the returns
    of a run's episodes come from it. r is the return per step of the method in the scenario.

    Args:
      rows: results. Those without a length, and those of games whose expected length is unknown, stay as they are.

    Returns: copies of the rows.
    """
    totals: dict[tuple[str, str], list[tuple[float, float]]] = defaultdict(list)
    for row in rows:
        if _expected(row) is not None:
            totals[_cell(row)].append((row["focal_return"], row["env_steps"]))
    rates = {cell: float(np.divide(*np.sum(pairs, 0))) for cell, pairs in totals.items()}
    found = []
    for row in rows:
        if (expected := _expected(row)) is None:
            found.append(dict(row))
        else:
            luck = rates[_cell(row)] * (row["env_steps"] - expected)
            found.append({**row, "focal_return": row["focal_return"] - luck})
    return found


def saving(before: Rows, after: Rows) -> float:
    """Returns the share of the variance between a run's episodes in a scenario that the adjustment removed."""
    was, now = _variance(before), _variance(after)
    return 1 - now / was if was else 0.0


def _variance(rows: Rows) -> float:
    groups: dict[tuple[str, ...], list[float]] = defaultdict(list)
    for row in rows:
        groups[row["run"], row["scenario"]].append(row["focal_return"])
    variances = [float(np.var(values, ddof=1)) for values in groups.values() if len(values) > 1]
    return float(np.mean(variances)) if variances else 0.0


def _expected(row: Mapping[str, Any]) -> float | None:
    return expected_length(row["substrate"]) if "env_steps" in row else None


def _cell(row: Mapping[str, Any]) -> tuple[str, str]:
    return row["method"], row["scenario"]
