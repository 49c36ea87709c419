"""Means that say how sure they are."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

DRAWS = 10_000


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
    low, high = np.percentile(draws, [2.5, 97.5])
    return Interval(float(np.mean(values)), float(low), float(high), len(values))
