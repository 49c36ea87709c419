"""GAE and V-trace against their definitions, summed term by term."""

import math
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from learner.returns import explained_variance, gae, vtrace

T, S, GAMMA, LAMBDA = 9, 6, 0.9, 0.8


@dataclass(frozen=True)
class Case:
    """Unrolls of several lengths; some terminate midway, where their discount is 0."""

    reward: Tensor
    discount: Tensor
    values: Tensor
    valid: Tensor
    log_ratio: Tensor
    lengths: list[int]


@pytest.fixture
def case() -> Case:
    torch.manual_seed(0)
    lengths = [T, T, 1, 5, 8, T]
    valid = torch.arange(T)[:, None] < torch.tensor(lengths)
    discount = GAMMA * (torch.rand(T, S) > 0.2).double()
    shape = (T, S)
    reward, values, log_ratio = (torch.randn(size).double() for size in (shape, (T + 1, S), shape))
    return Case(reward, discount, values, valid, log_ratio, lengths)


def delta(case: Case, s: int, t: int) -> float:
    return float(case.reward[t, s] + case.discount[t, s] * case.values[t + 1, s] - case.values[t, s])


def product(factors: list[float]) -> float:
    result = 1.0
    for factor in factors:
        result *= factor
    return result


@pytest.mark.parametrize("trace", [0.0, LAMBDA, 1.0])
def test_gae_is_the_discounted_sum_of_temporal_differences(case: Case, trace: float) -> None:
    targets = gae(case.reward, case.discount, case.values, case.valid, trace)
    for s, length in enumerate(case.lengths):
        for t in range(length):
            expected = sum(
                product([trace * float(case.discount[i, s]) for i in range(t, k)]) * delta(case, s, k)
                for k in range(t, length)
            )
            assert float(targets.advantages[t, s]) == pytest.approx(expected, abs=1e-12)
            assert float(targets.returns[t, s]) == pytest.approx(expected + float(case.values[t, s]), abs=1e-12)


@pytest.mark.parametrize("trace", [0.0, LAMBDA, 1.0])
def test_vtrace_is_the_sum_in_its_paper(case: Case, trace: float) -> None:
    targets = vtrace(case.reward, case.discount, case.values, case.valid, trace, case.log_ratio)
    rho = case.log_ratio.exp().clamp(max=1.0)
    for s, length in enumerate(case.lengths):

        def vs(t: int, s: int = s, length: int = length) -> float:
            total = float(case.values[t, s])
            for k in range(t, length):
                traces = [float(case.discount[i, s]) * trace * float(rho[i, s]) for i in range(t, k)]
                total += product(traces) * float(rho[k, s]) * delta(case, s, k)
            return total

        for t in range(length):
            assert float(targets.returns[t, s]) == pytest.approx(vs(t), abs=1e-12)
            ahead = vs(t + 1) if t + 1 < length else float(case.values[length, s])
            expected = float(case.reward[t, s] + case.discount[t, s] * ahead - case.values[t, s])
            assert float(targets.advantages[t, s]) == pytest.approx(expected, abs=1e-12)


def test_on_policy_vtrace_has_the_returns_of_gae(case: Case) -> None:
    on_policy = vtrace(case.reward, case.discount, case.values, case.valid, LAMBDA, torch.zeros(T, S).double())
    torch.testing.assert_close(
        on_policy.returns, gae(case.reward, case.discount, case.values, case.valid, LAMBDA).returns
    )


@pytest.mark.parametrize("name", ["gae", "vtrace"])
def test_nothing_flows_back_from_after_an_unroll(case: Case, name: str) -> None:
    def targets(reward: Tensor, values: Tensor) -> list[Tensor]:
        if name == "gae":
            found = gae(reward, case.discount, values, case.valid, LAMBDA)
        else:
            found = vtrace(reward, case.discount, values, case.valid, LAMBDA, case.log_ratio)
        return [x[case.valid] for x in found]

    behind = torch.arange(T + 1)[:, None] > torch.tensor(case.lengths)
    reward = torch.where(case.valid, case.reward, 1e6)
    values = torch.where(behind, -1e6, case.values)
    for x, y in zip(targets(case.reward, case.values), targets(reward, values), strict=True):
        assert torch.equal(x, y)


def test_rows_after_an_unroll_have_their_values_as_returns_and_no_advantage(case: Case) -> None:
    arguments = (case.reward, case.discount, case.values, case.valid, LAMBDA)
    for targets in (gae(*arguments), vtrace(*arguments, case.log_ratio)):
        assert not targets.advantages[~case.valid].any()
        assert torch.equal(targets.returns[~case.valid], case.values[:-1][~case.valid])


def test_unrolls_of_one_step() -> None:
    one, values = torch.ones(1, 1), torch.tensor([[2.0], [4.0]])
    expected = 1 + GAMMA * 4
    for targets in (
        gae(one, GAMMA * one, values, one.bool(), LAMBDA),
        vtrace(one, GAMMA * one, values, one.bool(), LAMBDA, 0 * one),
    ):
        assert targets.returns.item() == pytest.approx(expected)
        assert targets.advantages.item() == pytest.approx(expected - 2)


def test_explained_variance() -> None:
    returns, mask = torch.tensor([1.0, 2.0, 3.0, 6.0, 99.0]), torch.tensor([True] * 4 + [False])
    assert explained_variance(returns + 5, returns, mask) == pytest.approx(1), "an offset explains as much"
    assert explained_variance(0 * returns, returns, mask) == 0
    half = torch.where(mask, 0.5 * returns, 7.0)
    assert explained_variance(half, returns, mask) == pytest.approx(0.75)
    constant, single = torch.ones(5), torch.tensor([True] + [False] * 4)
    assert math.isnan(explained_variance(returns, constant, mask))
    assert math.isnan(explained_variance(returns, returns, single))
    assert explained_variance(constant, returns, torch.tensor([True, True] + [False] * 3)) == 0


def test_truncated_steps_bootstrap_and_terminated_ones_do_not() -> None:
    reward, valid = torch.tensor([[1.0]]), torch.tensor([[True]])
    values = torch.tensor([[0.0], [10.0]])
    terminated = gae(reward, torch.tensor([[0.0]]), values, valid, LAMBDA)
    truncated = gae(reward, torch.tensor([[GAMMA]]), values, valid, LAMBDA)
    assert terminated.returns.item() == 1.0
    assert truncated.returns.item() == pytest.approx(1.0 + GAMMA * 10.0)
