"""Counts the scenarios in which each of the paper's methods comes first, and those in which it beats all others."""

from collections.abc import Sequence

import numpy as np

from reports.markdown import table
from reports.returns import ORDER, Results
from reports.statistics import holm, permutation_test

LEVEL = 0.05
FIRSTS = f"""\
First: the highest mean return of these methods. Beats all others: one-sided permutation tests of its runs against those
of each other method all give p of at most {LEVEL:g}, after Holm's correction. With five runs each, p before the
correction is at least 0.004."""


def firsts(results: Results) -> list[str]:
    """Returns the report's paragraph on firsts; empty unless two of the paper's methods share a scenario."""
    methods = [m for m in results.methods if m in ORDER]
    played = [s for names in results.games.values() for s in names if all(results.runs(m, s) for m in methods)]
    if len(methods) < 2 or not played:
        return []
    first, won = dict.fromkeys(methods, 0), dict.fromkeys(methods, 0)
    for scenario in played:
        runs = {m: [float(np.mean(episodes)) for episodes in results.runs(m, scenario)] for m in methods}
        first[max(methods, key=lambda m: float(np.mean(runs[m])))] += 1
        for m in methods:
            won[m] += _beats(runs[m], [runs[other] for other in methods if other != m])
    lines = [[m, f"{first[m]} of {len(played)}", f"{won[m]} of {len(played)}"] for m in methods]
    return [FIRSTS, table(["method", "first", "beats all others"], lines)]


def _beats(runs: Sequence[float], others: Sequence[Sequence[float]]) -> bool:
    return max(holm([permutation_test(runs, other, one_sided=True) for other in others])) <= LEVEL
