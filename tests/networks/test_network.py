"""Stacked layers against single ones of torch, the recurrent cores, and the arrangement of rows."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from common.config import NetworkConfig
from common.spec import EnvironmentSpec
from networks.arrangement import arrange
from networks.images import MIN_IMAGES
from networks.layers import StackedCore
from networks.network import PIECE, Network
from networks.recurrence import gru

SEEING = EnvironmentSpec("seeing", 3, 5, (11, 9, 3), 4)
BLIND = EnvironmentSpec("blind", 2, 3, (0, 0, 3), 6)
CONFIG = NetworkConfig(channels=(4, 6), dense=10, core_size=8)
P, T, S = 3, 6, 4


def network(spec: EnvironmentSpec, policies: int, core: str = "gru", precision: str = "auto") -> Network:
    torch.manual_seed(0)
    made = Network(spec, CONFIG.model_copy(update={"core": core, "precision": precision}), policies)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return made


def observed(spec: EnvironmentSpec, steps: int = T, sequences: int = S) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    rgb = torch.randint(0, 256, (P, steps, sequences, *spec.rgb_shape), dtype=torch.uint8, generator=generator)
    return rgb, 5 * torch.randn(P, steps, sequences, spec.features, generator=generator)


@pytest.mark.parametrize("core", ["gru", "lstm"])
@pytest.mark.parametrize("spec", [SEEING, BLIND])
def test_stacked_policies_compute_what_each_would_alone(spec: EnvironmentSpec, core: str) -> None:
    stack, single = network(spec, P, core), network(spec, 1, core)
    rgb, features = observed(spec)
    state, version = torch.randn(P, S, stack.state_size), torch.zeros(P, S, dtype=torch.long)
    others = torch.randn(P, T, S, CONFIG.dense)
    embedding = stack.embed(rgb, features, version)
    acts, after = stack.act(rgb, features, state, version)
    outputs = stack.evaluate(embedding, state, others)
    assert acts.shape == (P, T, S, spec.actions)
    assert outputs.values.shape == (P, T, S)
    assert torch.equal(outputs.log_probs, acts)
    torch.testing.assert_close(acts.exp().sum(-1), torch.ones(P, T, S))
    for p in range(P):
        single.load_state_dict({name: x[p : p + 1] for name, x in stack.state_dict().items()})
        mine = slice(p, p + 1)
        own = single.embed(rgb[mine], features[mine], version[mine])
        torch.testing.assert_close(own[0], embedding[p])
        own_acts, own_after = single.act(rgb[mine], features[mine], state[mine], version[mine])
        torch.testing.assert_close(own_acts[0], acts[p])
        torch.testing.assert_close(own_after[0], after[p])
        torch.testing.assert_close(single.evaluate(own, state[mine], others[mine]).values[0], outputs.values[p])


def plain_embedding(net: Network, p: int, rgb: Tensor, features: Tensor) -> Tensor:
    """Policy p's embedding of images [M, H, W, 3] and features [M, F], written out."""
    x = rgb.permute(0, 3, 1, 2).float() / 255
    x = F.relu(F.conv2d(x, net.conv_1.weight[p], net.conv_1.bias[p]))
    x = F.relu(F.conv2d(x, net.conv_2.weight[p], net.conv_2.bias[p], stride=2))
    scaled = features.sign() * torch.log(1 + features.abs())
    flat = torch.cat([x.permute(0, 2, 3, 1).flatten(1), scaled], 1)
    return F.relu(F.linear(flat, net.dense.weight[p], net.dense.bias[p]))


@pytest.mark.parametrize("black", [(), (2, 4), (0, 1, 2, 3, 4, 5, 6)])
def test_the_embedding_is_two_convolutions_and_a_dense_layer(black: tuple[int, ...]) -> None:
    # Black images are computed once; neither the embeddings nor the gradients may differ.
    net = network(SEEING, P, precision="float32")
    rgb, features = observed(SEEING, 1, MIN_IMAGES + 7)
    rgb[:, :, list(black)] = 0
    rgb[0, 0, 3] = 0  # policies may have different numbers of them
    embedding = net.embed_image(rgb, features)[:, 0]
    expected = torch.stack([plain_embedding(net, p, rgb[p, 0], features[p, 0]) for p in range(P)])
    torch.testing.assert_close(embedding, expected)
    weight = torch.randn_like(embedding) / embedding.shape[1]
    parameters = [x for name, x in net.named_parameters() if name.startswith(("conv", "dense"))]
    found, wanted = (torch.autograd.grad((x * weight).sum(), parameters) for x in (embedding, expected))
    for name, x, y in zip(("conv_1", "conv_1", "conv_2", "conv_2", "dense", "dense"), found, wanted, strict=True):
        torch.testing.assert_close(x, y, msg=name)


def test_embeddings_in_bfloat16_are_nearly_the_same() -> None:
    rgb, features = observed(SEEING)
    exact, rounded = (
        network(SEEING, P, precision=p).embed_image(rgb, features).detach() for p in ("float32", "bfloat16")
    )
    assert exact.dtype == rounded.dtype == torch.float32
    assert 0 < float((exact - rounded).norm()) < 0.01 * float(exact.norm())


@pytest.mark.parametrize("kind", ["gru", "lstm"])
def test_cores_and_their_gradients_match_torch(kind: str) -> None:
    torch.manual_seed(0)
    core = StackedCore(P, kind, 5, 8)
    with torch.no_grad():
        for parameter in core.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    x = torch.randn(P, T, S, 5, requires_grad=True)
    state = torch.randn(P, S, core.state_size, requires_grad=True)
    outputs, after = core(x, state)
    weight = torch.randn_like(outputs)
    gradients = torch.autograd.grad((outputs * weight).sum() + after.square().sum(), [x, state, *core.parameters()])
    for p in range(P):
        reference: nn.GRU | nn.LSTM = {"gru": nn.GRU, "lstm": nn.LSTM}[kind](5, 8)
        names = ("weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0")
        ours = (core.input_weight, core.hidden_weight, core.input_bias, core.hidden_bias)
        reference.load_state_dict({name: parameter[p] for name, parameter in zip(names, ours, strict=True)})
        own_x, own_state = x[p].detach().requires_grad_(), state[p].detach().requires_grad_()
        parts = tuple(part[None].contiguous() for part in own_state.split(8, -1))
        expected, final = reference(own_x, parts[0] if kind == "gru" else parts)
        last = final[0] if kind == "gru" else torch.cat([part[0] for part in final], -1)
        torch.testing.assert_close(outputs[p], expected)
        torch.testing.assert_close(after[p], last)
        loss = (expected * weight[p]).sum() + last.square().sum()
        wanted = torch.autograd.grad(loss, [own_x, own_state, *(getattr(reference, name) for name in names)])
        found = dict(zip(["x", "state", *(name for name, _ in core.named_parameters())], gradients, strict=True))
        order = ["x", "state", "input_weight", "hidden_weight", "input_bias", "hidden_bias"]
        for name, gradient in zip(order, wanted, strict=True):
            torch.testing.assert_close(found[name][p], gradient, msg=name)


def test_the_hand_written_gradient_of_the_gru_is_the_numerical_one() -> None:
    torch.manual_seed(0)
    shapes = ((2, 4, 3, 9), (2, 3, 3), (2, 9, 3), (2, 9))
    arguments = tuple(torch.randn(shape, dtype=torch.float64, requires_grad=True) for shape in shapes)
    assert torch.autograd.gradcheck(gru, arguments)


def test_recurrent_state_carries_over_to_the_next_unroll() -> None:
    for core in ("gru", "lstm"):
        net = network(BLIND, P, core)
        embedding = torch.randn(P, T, S, CONFIG.dense)
        start = torch.zeros(P, S, net.state_size)
        whole, _ = net.remember(embedding, start)
        first, middle = net.remember(embedding[:, :2], start)
        second, _ = net.remember(embedding[:, 2:], middle)
        torch.testing.assert_close(torch.cat([first, second], 1), whole)


def test_rows_are_the_same_when_computed_in_pieces() -> None:
    net = network(SEEING, P)
    rgb, features = observed(SEEING, PIECE // 4 + 3, 4)
    last = net.embed_image(rgb[:, -5:], features[:, -5:])
    torch.testing.assert_close(net.embed_image(rgb, features)[:, -5:], last)


def test_weights_start_orthogonal_and_policies_nearly_uniform() -> None:
    torch.manual_seed(0)
    net = Network(SEEING, CONFIG, 2)
    for p in range(2):
        weight = net.core.hidden_weight[p]
        torch.testing.assert_close(weight.T @ weight, torch.eye(CONFIG.core_size))
    assert not torch.equal(net.dense.weight[0], net.dense.weight[1])
    probabilities = net.log_probs(torch.randn(2, 50, CONFIG.core_size)).exp().detach()
    assert float((probabilities - 1 / SEEING.actions).abs().max()) < 0.02


@pytest.mark.parametrize("policy", [[0, 1, 0, 2, 0], [2, 2, 2, 2, 2], [0, -1, 1, -1, -1], [-1, -1, -1, -1, -1]])
def test_an_arrangement_sorts_rows_by_policy_and_scatters_them_back(policy: list[int]) -> None:
    arrangement = arrange(np.array(policy), 3)
    rows = torch.arange(10.0).reshape(5, 2) + 1
    gathered = arrangement.gather(rows)
    for p in range(3):
        own = gathered[p][arrangement.valid[p]]
        assert torch.equal(own, rows[torch.tensor(policy) == p])
    kept = (torch.tensor(policy) >= 0)[:, None]
    assert torch.equal(arrangement.scatter(gathered, 5), torch.where(kept, rows, 0.0))
    # Policies lead whichever axis is gathered along.
    assert torch.equal(arrangement.gather(rows.T.contiguous(), 1).transpose(1, 2), gathered)
