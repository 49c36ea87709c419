"""What defines RandNet: a filter for each version, a feature loss, an average over filters in evaluation."""

from typing import Any

import pytest
import torch
from method_cases import GAME, P, S, T, made, sequences, shaken

from methods.randnet import UNSEEN, Filters, RandNet, random_filter
from networks.sequences import StepSum


def test_each_version_has_its_own_filter() -> None:
    sometimes, always = Filters(1, 0.1), Filters(1, 0.0)
    assert torch.equal(random_filter(sometimes, 5), random_filter(sometimes, 5))
    assert not torch.equal(random_filter(always, 5), random_filter(always, 6))
    assert not torch.equal(random_filter(always, 5), random_filter(Filters(2, 0.0), 5))


def test_filters_are_glorot_normal_or_sometimes_the_identity() -> None:
    filters = torch.stack([random_filter(Filters(0, 0.1), version) for version in range(4000)])
    # The identity is mostly zeros.
    identity = (filters == 0).flatten(1).sum(1) > 70
    assert float(identity.float().mean()) == pytest.approx(0.1, abs=0.025)
    image = torch.rand(1, 3, 5, 5)
    torch.testing.assert_close(torch.nn.functional.conv2d(image, filters[identity][0], padding=1), image)
    weights = filters[~identity]
    # Glorot: variance 2 / (fan in + fan out), both 3 * 3 * 3.
    assert float(weights.var()) == pytest.approx(2 / 54, rel=0.02)
    assert float(weights.mean()) == pytest.approx(0, abs=0.002)


def randomised(*overrides: str) -> tuple[RandNet, Any]:
    chosen = made("randnet", *overrides)
    return chosen, shaken(chosen.network(GAME, P))


def test_each_sequence_is_filtered_by_the_draw_of_its_version() -> None:
    _, network = randomised("run.seed=3")
    part = sequences()
    seen = network.randomise(part.rgb, part.version)
    for p, s in [(0, 0), (0, 1), (1, 4), (1, 5)]:
        image = part.rgb[p, :, s].permute(0, 3, 1, 2).float() / 255
        drawn_here = random_filter(Filters(3, 0.1), int(part.version[p, s]))
        expected = torch.nn.functional.conv2d(image, drawn_here, padding=1).permute(0, 2, 3, 1)
        torch.testing.assert_close(seen[p, :, s], expected)
    embedding = network.embed(part.rgb, part.features, part.version)
    assert torch.equal(embedding, network.embed_image(seen, part.features))


def test_the_feature_loss_is_zero_only_at_the_identity() -> None:
    part = sequences()
    for probability, zero in [(1.0, True), (0.0, False)]:
        chosen, network = randomised(f"method.identity_probability={probability}")
        embedding = network.embed(part.rgb, part.features, part.version)
        outputs = network.evaluate(embedding, part.state, torch.zeros(P, T + 1, S, 10))
        weight, loss = chosen.penalties(network, part, embedding, outputs, StepSum.mean)["feature_loss"]
        assert weight == 0.002
        assert torch.allclose(loss, torch.zeros(P), atol=1e-9) is zero
    clean = network.embed_image(part.rgb, part.features)
    expected = (embedding - clean)[0, :-1].square().mean(-1)[part.mask[0]].mean()
    torch.testing.assert_close(loss[0], expected)


def test_the_feature_loss_moves_the_filtered_features_towards_the_clean_ones() -> None:
    chosen, network = randomised("method.identity_probability=0")
    part = sequences()
    seen = network.embed(part.rgb, part.features, part.version)
    embedding = seen.detach().requires_grad_()
    outputs = network.evaluate(embedding, part.state, torch.zeros(P, T + 1, S, 10))
    chosen.penalties(network, part, embedding, outputs, StepSum.mean)["feature_loss"][1].sum().backward()
    assert embedding.grad is not None and embedding.grad.any()
    assert all(p.grad is None or not p.grad.any() for p in network.parameters()), "the clean features are held fixed"


def test_randnet_averages_over_draws_in_evaluation() -> None:
    chosen, network = randomised("method.evaluation_draws=3")
    averaged = chosen.evaluation_network(GAME, P)
    averaged.load_state_dict(network.state_dict())
    part = sequences()
    state = torch.zeros(P, S, averaged.state_size)
    first, middle = averaged.act(part.rgb[:, :2], part.features[:, :2], state, part.version)
    second, _ = averaged.act(part.rgb[:, 2:], part.features[:, 2:], middle, part.version)
    single = torch.zeros(P, S, network.state_size)
    each = [network.act(part.rgb, part.features, single, torch.full((P, S), UNSEEN + n))[0].exp() for n in range(3)]
    torch.testing.assert_close(torch.cat([first, second], 1).exp(), torch.stack(each).mean(0))
    assert float((each[0] - each[1]).detach().abs().max()) > 0.01
