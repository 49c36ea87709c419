"""Means that say how sure they are: the bootstrap over episodes, and over runs and episodes (Agarwal et al. 2021)."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

DRAWS = 10_000
STRATIFIED_DRAWS = 2_000

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Interval:
    """A mean over episodes, and its 95% interval by the bootstrap."""

    mean: float
    low: float
    high: float
    episodes: int


def interval(values: Sequence[float]) -> Interval:
    """The mean of episodes' returns and the bootstrap's 95% interval, by the percentiles of resampled means."""
    draws = np.random.default_rng(0).choice(values, (DRAWS, len(values))).mean(1)
    low, high = limits(draws)
    return Interval(float(np.mean(values)), low, high, len(values))


def limits(draws: Array) -> tuple[float, float]:
    """The middle 95% of a statistic's draws."""
    low, high = np.percentile(draws, [2.5, 97.5])
    return float(low), float(high)


def resample(runs: Sequence[Sequence[Sequence[float]]], rng: np.random.Generator) -> Array:
    """Draws what the mean returns of a game's runs might have been.

    Runs are drawn with replacement, each together with all its scenarios, for how well a run has learnt shows in all of
    them; then episodes are drawn within each run and scenario.

    Args:
      runs: for each run, for each scenario, the returns of its episodes.
      rng: where to draw from.

    Returns: [draws, runs, scenarios], means over episodes.
    """
    count, scenarios = len(runs), len(runs[0])
    drawn = rng.integers(0, count, (STRATIFIED_DRAWS, count))
    means = np.empty((STRATIFIED_DRAWS, count, scenarios))
    for r, run in enumerate(runs):
        draw, place = np.nonzero(drawn == r)
        for s, values in enumerate(run):
            means[draw, place, s] = rng.choice(values, (len(draw), len(values))).mean(1)
    return means


def iqm(scores: Array) -> Array:
    """The interquartile mean over the last axis: the mean of the middle half."""
    ordered = np.sort(scores, axis=-1)
    cut = ordered.shape[-1] // 4
    return np.asarray(ordered[..., cut : ordered.shape[-1] - cut].mean(-1))


def improvement(x: Array, y: Array) -> Array:
    """The probability that a run of X does better than one of Y in a scenario, mean over scenarios; ties count half.

    Args:
      x: [..., runs of X, scenarios].
      y: [..., runs of Y, scenarios].

    Returns: [...].
    """
    difference = x[..., :, None, :] - y[..., None, :, :]
    return np.asarray(((difference > 0) + 0.5 * (difference == 0)).mean((-3, -2, -1)))


def permutation_test(x: Sequence[float], y: Sequence[float]) -> float:
    """How often two samples that were dealt anew at random have means at least as far apart as these: a p-value."""
    rng = np.random.default_rng(0)
    both, n = np.concatenate([x, y]), len(x)
    dealt = rng.permuted(np.tile(both, (DRAWS, 1)), axis=1)
    apart = np.abs(dealt[:, :n].mean(1) - dealt[:, n:].mean(1))
    return float((1 + np.sum(apart >= abs(np.mean(x) - np.mean(y)) - 1e-12)) / (1 + DRAWS))
