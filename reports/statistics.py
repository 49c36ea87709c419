"""Means and how certain they are: bootstraps over episodes, and over runs and episodes (Agarwal et al. 2021)."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

DRAWS = 10_000
STRATIFIED_DRAWS = 2_000

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Interval:
    """A mean over episodes, with its 95% bootstrap interval."""

    mean: float
    low: float
    high: float
    episodes: int


def interval(values: Sequence[float] | Array) -> Interval:
    """Returns the mean of episodes' returns, with its 95% interval by the percentile bootstrap."""
    low, high = limits(mean_draws(values, np.random.default_rng(0)))
    return Interval(float(np.mean(values)), low, high, len(values))


def mean_draws(values: Sequence[float] | Array, rng: np.random.Generator) -> Array:
    """Returns bootstrap draws of the mean of some values: [DRAWS]."""
    sample = np.asarray(values, np.float64)
    if len(sample) == 1:  # scipy refuses it
        return np.repeat(sample, DRAWS)
    found = stats.bootstrap((sample,), np.mean, n_resamples=DRAWS, method="percentile", rng=rng)
    return np.asarray(found.bootstrap_distribution)


def limits(draws: Array) -> tuple[float, float]:
    """Returns the limits of the middle 95% of a statistic's draws."""
    low, high = np.percentile(draws, [2.5, 97.5])
    return float(low), float(high)


def resample(runs: Sequence[Sequence[Sequence[float]]], rng: np.random.Generator) -> Array:
    """Draws what the mean returns of a game's runs might have been.

    Runs are drawn with replacement, each together with all its scenarios, because how well a run has learnt shows in
    all of them; then episodes are drawn within each run and scenario. `scipy.stats.bootstrap` draws on one level only.

    Args:
      runs: for each run, for each scenario, the returns of its episodes.
      rng: draws.

    Returns: [draws, runs, scenarios], means over episodes.
    """
    count, scenarios = len(runs), len(runs[0])
    drawn = rng.integers(0, count, (STRATIFIED_DRAWS, count))
    means = np.empty((STRATIFIED_DRAWS, count, scenarios))
    for r, run in enumerate(runs):
        draw, position = np.nonzero(drawn == r)
        for s, values in enumerate(run):
            means[draw, position, s] = rng.choice(values, (len(draw), len(values))).mean(1)
    return means


def iqm(scores: Array) -> Array:
    """Returns the interquartile mean over the last axis: the mean of the middle half."""
    return np.asarray(stats.trim_mean(scores, 0.25, axis=-1))


def improvement(x: Array, y: Array) -> Array:
    """Returns the probability that a run of X beats a run of Y in a scenario, averaged over scenarios; ties count half.

    Args:
      x: [..., runs of X, scenarios].
      y: [..., runs of Y, scenarios].

    Returns: [...].
    """
    difference = x[..., :, None, :] - y[..., None, :, :]
    return np.asarray(((difference > 0) + 0.5 * (difference == 0)).mean((-3, -2, -1)))


def permutation_test(x: Sequence[float] | Array, y: Sequence[float] | Array, one_sided: bool = False) -> float:
    """Returns the p-value of the difference of two means: how often permuted samples differ at least as much.

    All permutations are counted if there are at most `DRAWS` of them; otherwise `DRAWS` are drawn at random.

    Args:
      x, y: two samples.
      one_sided: whether only permutations count in which x exceeds y by at least as much.
    """
    apart = _difference if one_sided else _distance
    if min(len(x), len(y)) == 1:  # scipy refuses it
        both = np.concatenate([x, y])
        alone = (1 if len(x) == 1 else -1) * (both - (both.sum() - both) / (len(both) - 1))
        seen = np.mean(x) - np.mean(y)
        differences = (alone, seen) if one_sided else (np.abs(alone), np.abs(seen))
        return float(np.mean(differences[0] >= differences[1] - 1e-12))
    found = stats.permutation_test(
        (x, y), apart, n_resamples=DRAWS, alternative="greater", rng=np.random.default_rng(0)
    )
    return float(found.pvalue)


def holm(p: Sequence[float]) -> list[float]:
    """Adjusts p-values of several comparisons by Holm's step-down method (Holm 1979)."""
    adjusted, largest = [0.0] * len(p), 0.0
    for done, i in enumerate(np.argsort(p, kind="stable")):
        largest = max(largest, min(1.0, p[i] * (len(p) - done)))
        adjusted[i] = largest
    return adjusted


def _difference(x: Array, y: Array, axis: int = -1) -> Array:
    return np.asarray(x.mean(axis) - y.mean(axis))


def _distance(x: Array, y: Array, axis: int = -1) -> Array:
    return np.abs(_difference(x, y, axis))
