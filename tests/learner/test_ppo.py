"""The PPO objective, term by term, against a loop over single steps."""

import itertools
import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from common.config import LearnerConfig
from learner.ppo import Fixed, policy_loss, ppo_loss, ppo_sums, standardise, value_loss

P, T, S, A = 2, 5, 4, 3
CONFIG = LearnerConfig(clip=0.2, huber_delta=0.7, value_coef=0.5, entropy_coef=0.03)


def outputs() -> tuple[Tensor, Tensor]:
    """Log-probabilities and values of theta as it is now."""
    torch.manual_seed(0)
    return torch.randn(P, T, S, A).double().log_softmax(-1), torch.randn(P, T, S).double()


def inputs() -> Fixed:
    torch.manual_seed(1)
    draw = torch.rand(P, T, S)
    return Fixed(
        action=torch.randint(0, A, (P, T, S)),
        log_prob=torch.randn(P, T, S).double() * 0.3 - 1,
        advantages=torch.randn(P, T, S).double(),
        returns=torch.randn(P, T, S).double(),
        values=torch.randn(P, T, S).double(),
        mask=draw > 0.5,
        valid=draw > 0.2,
    )


def means(log_probs: Tensor, values: Tensor, fixed: Fixed) -> dict[str, Tensor]:
    return {name: term.mean() for name, term in ppo_sums(log_probs, values, fixed, CONFIG).items()}


def huber(error: float, delta: float) -> float:
    return 0.5 * error**2 if abs(error) <= delta else delta * (abs(error) - 0.5 * delta)


def test_every_term_is_the_mean_of_its_steps() -> None:
    all_log_probs, values = outputs()
    fixed = inputs()
    terms = means(all_log_probs, values, fixed)
    for p in range(P):
        sums = dict.fromkeys(("policy_loss", "value_loss", "entropy_nats", "policy_kl_nats", "clip_fraction"), 0.0)
        for t, s in itertools.product(range(T), range(S)):
            at = {name: float(array[p, t, s]) for name, array in vars(fixed).items()}
            log_probs, value = all_log_probs[p, t, s].tolist(), float(values[p, t, s])
            ratio = math.exp(log_probs[int(at["action"])] - at["log_prob"])
            clipped = min(max(ratio, 1 - CONFIG.clip), 1 + CONFIG.clip)
            step = min(max(value - at["values"], -CONFIG.clip), CONFIG.clip)
            errors = (value - at["returns"], at["values"] + step - at["returns"])
            sums["value_loss"] += at["valid"] * max(huber(error, CONFIG.huber_delta) for error in errors)
            if not at["mask"]:
                continue
            sums["policy_loss"] -= min(ratio * at["advantages"], clipped * at["advantages"])
            sums["entropy_nats"] -= sum(math.exp(q) * q for q in log_probs)
            sums["policy_kl_nats"] += ratio - 1 - math.log(ratio)
            sums["clip_fraction"] += abs(ratio - 1) > CONFIG.clip
        for name, total in sums.items():
            steps = int((fixed.valid if name == "value_loss" else fixed.mask)[p].sum())
            assert float(terms[name][p]) == pytest.approx(total / steps, rel=1e-6), name
    expected = terms["policy_loss"] + 0.5 * terms["value_loss"] - 0.03 * terms["entropy_nats"]
    torch.testing.assert_close(ppo_loss(terms, 0.5, 0.03), expected.sum())


def gradients(log_probs: Tensor, values: Tensor, fixed: Fixed) -> tuple[Tensor, ...]:
    return torch.autograd.grad(ppo_loss(means(log_probs, values, fixed), 0.5, 0.03), [log_probs, values])


def test_steps_outside_the_mask_have_no_gradient_and_no_influence() -> None:
    """The policy counts the steps whose action mattered, the critic all steps that were played."""
    log_probs, values = (x.requires_grad_() for x in outputs())
    fixed = inputs()
    found = gradients(log_probs, values, fixed)
    for gradient, counted in zip(found, (fixed.mask, fixed.valid), strict=True):
        assert not gradient[~counted].any()
        assert gradient[counted].any()
    changed = replace(
        fixed,
        advantages=torch.where(fixed.mask, fixed.advantages, 1e3),
        returns=torch.where(fixed.valid, fixed.returns, 1e3),
    )
    assert all(torch.equal(g, h) for g, h in zip(found, gradients(log_probs, values, changed), strict=True))
    frozen = fixed.valid & ~fixed.mask
    assert found[1][frozen].any()


@pytest.mark.parametrize(
    ("ratio", "advantage", "moves"),
    [(1.3, 1.0, False), (1.3, -1.0, True), (0.7, -1.0, False), (0.7, 1.0, True), (1.1, 1.0, True), (0.9, -1.0, True)],
)
def test_beyond_the_clip_range_only_a_step_back_has_a_gradient(ratio: float, advantage: float, moves: bool) -> None:
    log_ratio = torch.full((1, 1, 1), math.log(ratio), requires_grad=True)
    mask = torch.ones(1, 1, 1, dtype=torch.bool)
    policy_loss(log_ratio, torch.full((1, 1, 1), advantage), mask, clip=0.2).mean().sum().backward()
    assert log_ratio.grad is not None
    assert bool(log_ratio.grad.any()) is moves


def test_a_policy_without_steps_has_no_loss() -> None:
    fixed = inputs()
    fixed.mask[1] = fixed.valid[1] = False
    assert all(float(term[1]) == 0 for term in means(*outputs(), fixed).values())


def test_a_value_beyond_the_clip_range_has_no_gradient_towards_its_return() -> None:
    one = torch.ones(1, 1, 1)
    values = (2.0 * one).requires_grad_()
    fixed = Fixed(one.long(), one, one, values=0 * one, returns=3 * one, mask=one.bool(), valid=one.bool())
    value_loss(values, fixed, clip=0.2, delta=10.0).mean().sum().backward()
    assert values.grad is not None
    assert float(values.grad) == 0


def test_advantages_that_are_almost_alike_are_not_blown_up() -> None:
    advantages = torch.tensor([1.0, -1.0]).double().reshape(1, 2, 1) * 1e-6
    standard = standardise(advantages, torch.ones(1, 2, 1, dtype=torch.bool))
    assert standard.flatten().tolist() == pytest.approx([1 / 11, -1 / 11])


def test_advantages_are_standardised_per_policy() -> None:
    fixed = inputs()
    fixed.advantages[1] = 5 + 100 * fixed.advantages[1]
    standard = standardise(fixed.advantages, fixed.mask)
    for p in range(P):
        own = standard[p][fixed.mask[p]]
        assert float(own.mean()) == pytest.approx(0, abs=1e-9)
        assert float(own.std(unbiased=False)) == pytest.approx(1, abs=1e-4)
