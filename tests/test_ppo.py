"""The PPO objective, term by term, against a loop over single steps."""

import itertools
import math

import pytest
import torch
from torch import Tensor

from common.config import LearnerConfig
from learner.ppo import policy_loss, ppo_terms, standardise, value_loss

P, T, S, A = 2, 5, 4, 3
CONFIG = LearnerConfig(clip=0.2, huber_delta=0.7, value_coef=0.5, entropy_coef=0.03)


def inputs() -> dict[str, Tensor]:
    torch.manual_seed(1)
    return {
        "log_probs": torch.randn(P, T, S, A).double().log_softmax(-1),
        "values": torch.randn(P, T, S).double(),
        "action": torch.randint(0, A, (P, T, S)),
        "old_log_prob": torch.randn(P, T, S).double() * 0.3 - 1,
        "advantage": torch.randn(P, T, S).double(),
        "returns": torch.randn(P, T, S).double(),
        "old_values": torch.randn(P, T, S).double(),
        "mask": (draw := torch.rand(P, T, S)) > 0.5,
        "valid": draw > 0.2,
    }


def huber(error: float, delta: float) -> float:
    return 0.5 * error**2 if abs(error) <= delta else delta * (abs(error) - 0.5 * delta)


def test_every_term_is_the_mean_of_its_steps() -> None:
    x = inputs()
    terms = ppo_terms(**x, config=CONFIG)
    for p in range(P):
        sums = dict.fromkeys(("policy_loss", "value_loss", "entropy_nats", "policy_kl_nats", "clip_fraction"), 0.0)
        for t, s in itertools.product(range(T), range(S)):
            at = {name: float(array[p, t, s]) for name, array in x.items() if name != "log_probs"}
            log_probs = x["log_probs"][p, t, s].tolist()
            ratio = math.exp(log_probs[int(at["action"])] - at["old_log_prob"])
            clipped = min(max(ratio, 1 - CONFIG.clip), 1 + CONFIG.clip)
            step = min(max(at["values"] - at["old_values"], -CONFIG.clip), CONFIG.clip)
            errors = (at["values"] - at["returns"], at["old_values"] + step - at["returns"])
            sums["value_loss"] += at["valid"] * max(huber(error, CONFIG.huber_delta) for error in errors)
            if not at["mask"]:
                continue
            sums["policy_loss"] -= min(ratio * at["advantage"], clipped * at["advantage"])
            sums["entropy_nats"] -= sum(math.exp(q) * q for q in log_probs)
            sums["policy_kl_nats"] += ratio - 1 - math.log(ratio)
            sums["clip_fraction"] += abs(ratio - 1) > CONFIG.clip
        for name, total in sums.items():
            steps = int(x["valid" if name == "value_loss" else "mask"][p].sum())
            assert float(getattr(terms, name)[p]) == pytest.approx(total / steps, rel=1e-6), name
    expected = terms.policy_loss + 0.5 * terms.value_loss - 0.03 * terms.entropy_nats
    torch.testing.assert_close(terms.loss(0.5, 0.03), expected.sum())


def gradients(x: dict[str, Tensor]) -> tuple[Tensor, ...]:
    return torch.autograd.grad(ppo_terms(**x, config=CONFIG).loss(0.5, 0.03), [x["log_probs"], x["values"]])


def test_steps_outside_their_mask_have_no_gradient_and_no_influence() -> None:
    """The policy counts the steps whose action mattered, the critic all that were played."""
    x = inputs()
    x["log_probs"].requires_grad_()
    x["values"].requires_grad_()
    found = gradients(x)
    for gradient, counted in zip(found, (x["mask"], x["valid"]), strict=True):
        assert not gradient[~counted].any()
        assert gradient[counted].any()
    changed = {"advantage": torch.where(x["mask"], x["advantage"], 1e3),
               "returns": torch.where(x["valid"], x["returns"], 1e3)}  # fmt: skip
    assert all(torch.equal(g, h) for g, h in zip(found, gradients(x | changed), strict=True))
    frozen = x["valid"] & ~x["mask"]
    assert found[1][frozen].any()


@pytest.mark.parametrize(
    ("ratio", "advantage", "moves"),
    [(1.3, 1.0, False), (1.3, -1.0, True), (0.7, -1.0, False), (0.7, 1.0, True), (1.1, 1.0, True), (0.9, -1.0, True)],
)
def test_beyond_the_clip_range_only_the_way_back_has_a_gradient(ratio: float, advantage: float, moves: bool) -> None:
    log_ratio = torch.full((1, 1, 1), math.log(ratio), requires_grad=True)
    mask = torch.ones(1, 1, 1, dtype=torch.bool)
    policy_loss(log_ratio, torch.full((1, 1, 1), advantage), mask, clip=0.2).sum().backward()
    assert log_ratio.grad is not None
    assert bool(log_ratio.grad.any()) is moves


def test_a_policy_without_a_single_step_has_no_loss() -> None:
    x = inputs()
    x["mask"][1] = x["valid"][1] = False
    terms = ppo_terms(**x, config=CONFIG)
    assert all(float(term[1]) == 0 for term in vars(terms).values())


def test_a_value_far_from_its_old_one_is_not_rewarded_for_coming_nearer_to_the_return() -> None:
    one = torch.ones(1, 1, 1)
    values = (2.0 * one).requires_grad_()
    value_loss(values, 0 * one, 3 * one, one.bool(), clip=0.2, delta=10.0).sum().backward()
    assert values.grad is not None
    assert float(values.grad) == 0


def test_advantages_are_standardised_for_each_policy_over_its_own_steps() -> None:
    x = inputs()
    x["advantage"][1] = 5 + 100 * x["advantage"][1]
    standard = standardise(x["advantage"], x["mask"])
    for p in range(P):
        own = standard[p][x["mask"][p]]
        assert float(own.mean()) == pytest.approx(0, abs=1e-9)
        assert float(own.std(unbiased=False)) == pytest.approx(1, abs=1e-4)
