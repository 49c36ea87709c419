"""The adaptation index: whether a population follows whichever convention the strangers keep."""

import numpy as np

from reports.markdown import interval_text, table
from reports.returns import RANDOM, Results
from reports.statistics import Array, limits

# In each of these a single focal player meets seven bots who keep to one colour, another one in each.
ONE_COLOUR = [f"pure_coordination_in_the_matrix__arena_{number}" for number in (6, 7, 8)]

ADAPTATION = """\
In scenarios 6, 7 and 8 of pure coordination one focal player meets seven bots who keep to one colour, another in each.
The adaptation index is the worst of a run's three returns over the best: near 1 for a population that follows any
colour, low for one that knows only its own. In DeepMind's published returns it is 0.46 for ACB, 0.99 for exploiters."""


def adaptation(results: Results) -> list[str]:
    """Returns the report's section on the three scenarios; empty if no method played all of them."""
    lines = []
    for m in results.methods:
        if m == RANDOM or (found := results.means(m, ONE_COLOUR)) is None:
            continue
        means, draws = found
        cells = [interval_text(_cell(measure(means), measure(draws))) for measure in (_mean, adaptation_index)]
        each = [f"{x:.2f}" for x in means.mean(0)]
        lines.append([m, str(len(means)), *each, *cells])
    return [ADAPTATION, table(["method", "runs", "6", "7", "8", "mean", "adaptation index"], lines)] if lines else []


def adaptation_index(returns: Array) -> Array:
    """Returns the worst return over the best: [..., scenarios] -> [...]; 0 if the worst is negative."""
    return np.asarray(returns.min(-1).clip(0) / returns.max(-1).clip(1e-9))


def _mean(returns: Array) -> Array:
    return np.asarray(returns.mean(-1))


def _cell(runs: Array, draws: Array) -> tuple[float, float, float]:
    """Returns the mean over runs and its bootstrap interval, from [runs] and [draws, runs]."""
    return float(runs.mean()), *limits(draws.mean(-1))
