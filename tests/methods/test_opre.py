"""What defines OPRE: options that are guessed to act and chosen in training, and what trains them."""

import numpy as np
import pytest
import torch
from method_cases import GAME, P, S, T, made, sequences, shaken

from methods.opre import OPRE, OptionNetwork, OptionOutputs
from networks.network import Network
from networks.sequences import StepSum


def options() -> tuple[OPRE, OptionNetwork]:
    chosen = made("opre")
    return chosen, shaken(chosen.network(GAME, P))


def test_opre_acts_on_guessed_options_and_trains_on_options_chosen_from_all_players() -> None:
    _, network = options()
    part, others = sequences(), torch.randn(P, T + 1, S, 10)
    embedding = network.embed(part.rgb, part.features, part.version)
    acts, _ = network.act(part.rgb, part.features, part.state, part.version)
    outputs = network.evaluate(embedding, part.state, others)
    hidden, _ = network.remember(embedding, part.state)
    for p, t, s in [(0, 0, 0), (1, 3, 2), (1, 5, 5)]:
        h, everyone = hidden[p, t, s], embedding[p, t, s] + 2 * others[p, t, s]
        guessed = (network.guess.weight[p] @ h + network.guess.bias[p]).softmax(-1)
        chosen = (network.choose.weight[p] @ everyone + network.choose.bias[p]).softmax(-1)
        each = (network.policy.weight[p] @ h + network.policy.bias[p]).reshape(8, GAME.actions).softmax(-1)
        values = network.value.weight[p] @ h + network.value.bias[p]
        torch.testing.assert_close(acts[p, t, s].exp(), guessed @ each)
        torch.testing.assert_close(outputs.log_probs[p, t, s].exp(), chosen @ each)
        torch.testing.assert_close(outputs.values[p, t, s], chosen @ values)
    assert float((acts - outputs.log_probs).detach().abs().max()) > 0.05


def test_opre_sees_other_players_only_in_training() -> None:
    _, network = options()
    part = sequences()
    embedding = network.embed(part.rgb, part.features, part.version)
    seen, seen_otherwise = (network.evaluate(embedding, part.state, torch.randn(P, T + 1, S, 10)) for _ in range(2))
    assert not torch.equal(seen.log_probs, seen_otherwise.log_probs)
    assert not torch.equal(seen.values, seen_otherwise.values)
    assert torch.equal(seen.guessed, seen_otherwise.guessed), "p depends on the player's own observations alone"


def test_opre_learns_the_choice_from_values_and_the_guess_from_the_choice() -> None:
    chosen, network = options()
    part = sequences()

    def gradients(what: str) -> set[str]:
        embedding = network.embed(part.rgb, part.features, part.version).detach()
        outputs = network.evaluate(embedding, part.state, torch.ones(P, T + 1, S, 10))
        kl = chosen.penalties(network, part, embedding, outputs, StepSum.mean)["option_kl_nats"][1].sum()
        network.zero_grad()
        {"policy": outputs.log_probs[..., 0].sum(), "value": outputs.values.sum(), "kl": kl}[what].backward()
        heads = ("policy", "value", "guess", "choose")
        return {n for n in heads if any(p.grad is not None and p.grad.any() for p in getattr(network, n).parameters())}

    assert gradients("policy") == {"policy"}
    assert gradients("value") == {"value", "choose"}
    assert gradients("kl") == {"guess", "choose"}


def test_the_penalties_of_opre_are_a_kl_and_an_information() -> None:
    chosen, _ = options()
    part = sequences()
    q, p = (torch.randn(P, T + 1, S, 8).log_softmax(-1) for _ in range(2))
    penalties = chosen.penalties(
        Network(GAME, chosen.config.network, P), part, q, OptionOutputs(q, q, q, p), StepSum.mean
    )
    for policy in range(P):
        steps = [(t, s) for t in range(T) for s in range(S) if part.mask[policy, t, s]]
        here = [torch.distributions.Categorical(logits=q[policy, t, s]) for t, s in steps]
        there = [torch.distributions.Categorical(logits=p[policy, t, s]) for t, s in steps]
        kl = np.mean([float(torch.distributions.kl_divergence(x, y)) for x, y in zip(here, there, strict=True)])
        usage = torch.distributions.Categorical(torch.stack([x.probs for x in here]).mean(0)).entropy()
        information = float(usage) - np.mean([float(x.entropy()) for x in here])
        assert float(penalties["option_kl_nats"][1][policy]) == pytest.approx(kl, rel=1e-4)
        assert float(penalties["option_information_nats"][1][policy]) == pytest.approx(information, rel=1e-3)
    assert penalties["option_kl_nats"][0] == 0.01
    assert penalties["option_information_nats"][0] == -0.01, "a negative weight maximises it"


def test_opre_handles_a_policy_without_steps_in_a_minibatch() -> None:
    chosen, network = options()
    part = sequences()
    part.mask[0] = False
    embedding = network.embed(part.rgb, part.features, part.version)
    outputs = network.evaluate(embedding, part.state, torch.ones(P, T + 1, S, 10))
    penalties = chosen.penalties(network, part, embedding, outputs, StepSum.mean).values()
    torch.stack([weight * x.sum() for weight, x in penalties]).sum().backward()
    gradient = network.choose.weight.grad
    assert gradient is not None and gradient.isfinite().all()
    assert not gradient[0].any() and gradient[1].any()
