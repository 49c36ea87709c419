"""The running normaliser against the weighted sums that define it."""

import pytest
import torch

from learner.value_norm import VARIANCE_FLOOR, ValueNorm


def test_moments_are_the_weighted_means_of_all_batches() -> None:
    torch.manual_seed(0)
    beta = 0.9
    norm = ValueNorm(2, beta)
    batches = [(3 + 5 * torch.randn(2, 4, 3), torch.rand(2, 4, 3) > 0.4) for _ in range(7)]
    for returns, mask in batches:
        norm.update(returns, mask)
    mean, deviation = norm.moments()
    for p in range(2):
        weights = [(1 - beta) * beta ** (len(batches) - 1 - k) for k in range(len(batches))]
        firsts = [float(returns[p][mask[p]].double().mean()) for returns, mask in batches]
        seconds = [float(returns[p][mask[p]].double().square().mean()) for returns, mask in batches]
        expected = sum(w * x for w, x in zip(weights, firsts, strict=True)) / sum(weights)
        square = sum(w * x for w, x in zip(weights, seconds, strict=True)) / sum(weights)
        assert float(mean[p]) == pytest.approx(expected, rel=1e-5)
        assert float(deviation[p]) == pytest.approx((square - expected**2) ** 0.5, rel=1e-5)


def test_the_first_update_counts_in_full_even_with_a_slow_decay() -> None:
    norm = ValueNorm(1, 0.99999)
    returns = torch.tensor([[[100.0, 300.0]]])
    norm.update(returns, torch.ones_like(returns, dtype=torch.bool))
    mean, deviation = norm.moments()
    assert float(mean) == pytest.approx(200, rel=1e-6)
    assert float(deviation) == pytest.approx(100, rel=1e-6)
    torch.testing.assert_close(norm.normalise(returns), torch.tensor([[[-1.0, 1.0]]]))


def test_normalise_and_denormalise_are_inverses() -> None:
    torch.manual_seed(0)
    norm = ValueNorm(3, 0.9)
    x = torch.randn(3, 5, 2) * torch.tensor([0.5, 3.0, 40.0])[:, None, None]
    norm.update(x, torch.ones_like(x, dtype=torch.bool))
    torch.testing.assert_close(norm.denormalise(norm.normalise(x)), x)


def test_nothing_changes_before_the_first_update_and_for_policies_without_steps() -> None:
    norm = ValueNorm(2, 0.9)
    x = torch.full((2, 3, 2), 7.0)
    assert torch.equal(norm.normalise(x), x)
    mask = torch.zeros(2, 3, 2, dtype=torch.bool)
    mask[0] = True
    norm.update(x, mask)
    assert float(norm.moments()[0][0]) == pytest.approx(7)
    assert torch.equal(norm.normalise(x)[1], x[1])


def test_constant_returns_do_not_blow_up() -> None:
    norm = ValueNorm(1, 0.9)
    x = torch.zeros(1, 4, 1)
    norm.update(x, torch.ones_like(x, dtype=torch.bool))
    assert float(norm.moments()[1]) == pytest.approx(VARIANCE_FLOOR**0.5)


def test_its_state_is_saved_and_loaded() -> None:
    first, second = ValueNorm(1, 0.9), ValueNorm(1, 0.9)
    x = torch.randn(1, 4, 2)
    first.update(x, torch.ones_like(x, dtype=torch.bool))
    second.load_state_dict(first.state_dict())
    for norm in (first, second):
        norm.update(2 * x, torch.ones_like(x, dtype=torch.bool))
    assert torch.equal(first.normalise(x), second.normalise(x))
