"""Bootstraps, permutation tests and corrections against their definitions."""

from itertools import combinations

import numpy as np
import pytest

from reports.statistics import holm, improvement, interval, iqm, mean_draws, permutation_test, resample


def test_iqm_and_improvement_against_the_definition() -> None:
    rng = np.random.default_rng(1)
    x, y = rng.normal(size=(3, 4)), rng.normal(size=(5, 4))
    middle = sorted(x.ravel())[3:9]
    assert iqm(x.ravel()) == pytest.approx(np.mean(middle))
    y[0, 0] = x[0, 0]
    by_hand = [np.mean([1.0 if a > b else 0.5 if a == b else 0.0 for a in x[:, s] for b in y[:, s]]) for s in range(4)]
    assert improvement(x, y) == pytest.approx(np.mean(by_hand))
    assert improvement(x, x) == pytest.approx(0.5)


def test_runs_are_resampled_jointly_for_all_scenarios() -> None:
    runs = [[[0.0] * 4, [0.0] * 4], [[10.0] * 4, [100.0] * 4]]
    draws = resample(runs, np.random.default_rng(0))
    assert draws.shape[1:] == (2, 2)
    assert set(map(tuple, draws.reshape(-1, 2))) == {(0.0, 0.0), (10.0, 100.0)}
    assert draws[:, :, 0].mean() == pytest.approx(5, abs=0.3)
    assert draws.mean((1, 2)).std() > 0


def test_the_interval_has_its_nominal_coverage() -> None:
    rng = np.random.default_rng(2)
    found = [interval(rng.exponential(3.0, 40)) for _ in range(100)]
    covered = np.mean([i.low <= 3.0 <= i.high for i in found])
    assert 0.87 < covered <= 1.0


def test_small_samples_are_dealt_in_every_way() -> None:
    for x, y in (([1.0, 2.0, 3.0], [4.0, 5.0, 7.0]), ([1.0, 6.0], [2.0, 2.0, 9.0]), ([3.0], [4.0, 5.0, 1.0, 9.0])):
        both = np.array(x + y)
        deals = [np.isin(np.arange(len(both)), chosen) for chosen in combinations(range(len(both)), len(x))]
        apart = [abs(both[deal].mean() - both[~deal].mean()) for deal in deals]
        expected = np.mean([a >= abs(np.mean(x) - np.mean(y)) - 1e-9 for a in apart])
        assert permutation_test(x, y) == permutation_test(y, x) == pytest.approx(expected)


def test_the_bootstrap_draws_means_of_resamples() -> None:
    values = np.array([0.0, 1.0, 5.0, 9.0])
    draws = mean_draws(values, np.random.default_rng(1))
    assert draws.mean() == pytest.approx(values.mean(), abs=0.1)
    assert draws.std() == pytest.approx(values.std() / 2, rel=0.05)
    assert mean_draws([3.0], np.random.default_rng(1)).tolist() == [3.0] * len(draws)


def test_the_permutation_test_separates_different_samples_and_not_alike_ones() -> None:
    rng = np.random.default_rng(3)
    alike = [permutation_test(rng.normal(size=12), rng.normal(size=9)) for _ in range(30)]
    assert 0.3 < np.mean(alike) < 0.7
    assert permutation_test(rng.normal(size=12), rng.normal(3.0, size=12)) < 0.01


@pytest.mark.parametrize(
    ("p", "adjusted"),
    [
        ([], []),
        ([0.03], [0.03]),
        # R: p.adjust(c(0.01, 0.02, 0.03, 0.04, 0.05), "holm")
        ([0.01, 0.02, 0.03, 0.04, 0.05], [0.05, 0.08, 0.09, 0.09, 0.09]),
        # R: p.adjust(c(0.04, 0.001, 0.3, 0.02), "holm")
        ([0.04, 0.001, 0.3, 0.02], [0.08, 0.004, 0.3, 0.06]),
        ([0.6, 0.7], [1.0, 1.0]),
        ([0.01, 0.01, 0.9], [0.03, 0.03, 0.9]),
    ],
)
def test_holm(p: list[float], adjusted: list[float]) -> None:
    assert holm(p) == pytest.approx(adjusted)


def test_one_sided_permutations_know_which_sample_is_larger() -> None:
    """Of the 20 deals of six values to three and three, one puts the three largest first."""
    low, high = [1.0, 2.0, 3.0], [4.0, 5.0, 6.0]
    assert permutation_test(high, low, one_sided=True) == pytest.approx(1 / 20)
    assert permutation_test(low, high, one_sided=True) == 1.0
    assert permutation_test(high, low) == pytest.approx(2 / 20)
    assert permutation_test([9.0], [1.0, 2.0, 3.0], one_sided=True) == pytest.approx(1 / 4)
    assert permutation_test([1.0, 2.0, 3.0], [9.0], one_sided=True) == 1.0
