"""The loss of a minibatch: PPO's, and the penalties of a method that asks for all it is given."""

from typing import Any

import pytest
import torch
from method_cases import GAME, P, S, T, made, sequences, shaken
from torch import Tensor

from learner.objective import Objective, Prepared
from learner.ppo import ppo_loss, ppo_sums
from networks.sequences import StepSum


def doubled(total: StepSum) -> Tensor:
    """A mean as if another rank had contributed as much again."""
    return 2 * total.mean()


def prepared() -> Prepared:
    g = torch.Generator().manual_seed(6)
    shape = (P, T, S)
    log_prob, returns, advantages = (torch.randn(shape, generator=g) for _ in range(3))
    others, values = torch.randn(P, T + 1, S, 10, generator=g), torch.randn(P, T + 1, S, generator=g)
    return Prepared(sequences(), others, log_prob, values, returns, advantages)


@pytest.mark.parametrize("mean", [StepSum.mean, doubled])
@pytest.mark.parametrize("name", ["mappo", "randnet", "opre"])
def test_the_loss_is_ppos_and_the_weighted_penalties(name: str, mean: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    method, part = made(name), prepared()
    network = shaken(method.network(GAME, P))
    given: list[Any] = []

    def penalties(*arguments: Any) -> dict[str, tuple[float, Tensor]]:
        given.extend(arguments)
        return {"first": (0.5, torch.tensor([1.0, 4.0])), "second": (-3.0, torch.tensor([0.25, 2.0]))}

    monkeypatch.setattr(method, "penalties", penalties)
    loss, metrics = Objective(network, method, method.config.learner, mean)(part, 0.02)

    s = part.sequences
    embedding = network.embed(s.rgb, s.features, s.version)
    outputs = network.evaluate(embedding, s.state, part.others)
    sums = ppo_sums(outputs.log_probs[:, :-1], outputs.values[:, :-1], part.fixed, method.config.learner)
    means = {term: mean(total) for term, total in sums.items()}
    expected = ppo_loss(means, method.config.learner.value_coef, 0.02) + 0.5 * (1 + 4) - 3 * (0.25 + 2)
    torch.testing.assert_close(loss, expected)
    assert metrics.keys() == {*sums, "first", "second"}
    for term, values in means.items():
        torch.testing.assert_close(metrics[term], values.detach().mean())
    assert (float(metrics["first"]), float(metrics["second"])) == (2.5, 1.125)
    assert not any(value.requires_grad for value in metrics.values()) and loss.requires_grad

    assert given[0] is network and given[1] is s and given[4] is mean
    torch.testing.assert_close(given[2], embedding)
    torch.testing.assert_close(given[3].log_probs, outputs.log_probs)


@pytest.mark.parametrize("name", ["randnet", "opre"])
def test_a_methods_own_penalties_are_part_of_the_loss(name: str) -> None:
    method, part = made(name), prepared()
    network = shaken(method.network(GAME, P))
    loss, metrics = Objective(network, method, method.config.learner)(part, 0.0)
    s = part.sequences
    embedding = network.embed(s.rgb, s.features, s.version)
    outputs = network.evaluate(embedding, s.state, part.others)
    own = method.penalties(network, s, embedding, outputs, StepSum.mean)
    terms = {term: P * metrics[term] for term in ("policy_loss", "value_loss", "entropy_nats")}
    expected = ppo_loss(terms, method.config.learner.value_coef, 0.0)
    expected = expected + sum(weight * penalty.sum() for weight, penalty in own.values())
    assert own and metrics.keys() > own.keys()
    torch.testing.assert_close(loss, expected, rtol=1e-4, atol=1e-5)


def test_a_minibatch_is_the_same_columns_of_everything() -> None:
    part, which = prepared(), torch.tensor([4, 1])
    some = part.columns(which)
    for name in ("others", "log_prob", "values", "returns", "advantages"):
        assert torch.equal(getattr(some, name), getattr(part, name)[:, :, which])
    assert torch.equal(some.sequences.action, part.sequences.action[:, :, which])
    assert torch.equal(some.sequences.state, part.sequences.state[:, which])
    fixed = part.fixed
    assert torch.equal(fixed.values, part.values[:, :-1])
    assert torch.equal(fixed.log_prob, part.log_prob), "theta's before the update, not the actor's"
