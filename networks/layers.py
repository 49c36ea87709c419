"""Layers for P policies at once: every parameter has a leading axis P."""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from networks.recurrence import gru


class StackedLinear(nn.Module):
    """P dense layers: [P, ..., in] -> [P, ..., out]."""

    def __init__(self, policies: int, inputs: int, outputs: int, gain: float) -> None:
        super().__init__()
        self.weight = _orthogonal(policies, (outputs, inputs), gain)
        self.bias = nn.Parameter(torch.zeros(policies, outputs))

    def forward(self, x: Tensor) -> Tensor:
        if len(self.weight) == 1:
            return F.linear(x[0], self.weight[0], self.bias[0])[None]
        made = torch.baddbmm(self.bias[:, None], x.flatten(1, -2), self.weight.transpose(1, 2))
        return made.reshape(*x.shape[:-1], -1)

    def first(self, p: int, x: Tensor) -> Tensor:
        """Returns the contribution of policy p's first inputs, at the precision of x: [M, first] -> [M, out]."""
        return F.linear(x, self.weight[p, :, : x.shape[-1]].to(x.dtype))

    def last(self, x: Tensor) -> Tensor:
        """Returns the contribution of the last inputs, bias included: [P, M, last] -> [P, M, out]."""
        return torch.baddbmm(self.bias[:, None], x, self.weight[..., self.weight.shape[-1] - x.shape[-1] :].mT)


class StackedConv2d(nn.Module):
    """P 3x3 convolutions without padding, in channels-last memory format."""

    def __init__(self, policies: int, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.weight = _orthogonal(policies, (outputs, inputs, 3, 3), math.sqrt(2))
        self.bias = nn.Parameter(torch.zeros(policies, outputs))
        self.stride = stride

    def forward(self, p: int, x: Tensor) -> Tensor:
        """Convolves with policy p's kernel, at the precision of x: [M, in, H, W] -> [M, out, H', W']."""
        weight = self.weight[p].to(x.dtype).contiguous(memory_format=torch.channels_last)
        return F.conv2d(x, weight, self.bias[p].to(x.dtype), self.stride)


class StackedCore(nn.Module):
    """P recurrent cores: inputs [P, T, S, in] and state [P, S, state_size] -> outputs [P, T, S, out] and state.

    An LSTM's state is its hidden state and its cell state, concatenated.
    """

    def __init__(self, policies: int, kind: str, inputs: int, size: int) -> None:
        super().__init__()
        gates = {"gru": 3, "lstm": 4}[kind]
        self.kind, self.size = kind, size
        self.state_size = size if kind == "gru" else 2 * size
        self.input_weight = _orthogonal(policies, (gates * size, inputs), 1.0)
        self.hidden_weight = _orthogonal(policies, (gates * size, size), 1.0)
        self.input_bias = nn.Parameter(torch.zeros(policies, gates * size))
        self.hidden_bias = nn.Parameter(torch.zeros(policies, gates * size))

    def forward(self, x: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        if self.kind == "gru" and not x.is_cuda:
            inputs = torch.baddbmm(self.input_bias[:, None], x.flatten(1, 2), self.input_weight.transpose(1, 2))
            hidden = gru(inputs.unflatten(1, x.shape[1:3]), state, self.hidden_weight, self.hidden_bias)
            return hidden, hidden[:, -1]
        return self.one_by_one(x, state)

    def one_by_one(self, x: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """As `forward`, with torch's own kernels, which compute one policy at a time."""
        outputs, states = zip(*(self._one(p, x[p], state[p][None]) for p in range(len(x))), strict=True)
        return stack(outputs), stack(states)

    def _one(self, p: int, x: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        weights = [self.input_weight[p], self.hidden_weight[p], self.input_bias[p], self.hidden_bias[p]]
        if self.kind == "gru":
            output, state = torch.gru(x, state, weights, True, 1, 0.0, self.training, False, False)
            return output, state[0]
        hidden, cell = (part.contiguous() for part in state.split(self.size, -1))
        output, hidden, cell = torch.lstm(x, (hidden, cell), weights, True, 1, 0.0, self.training, False, False)
        return output, torch.cat([hidden[0], cell[0]], -1)


def stack(parts: Sequence[Tensor]) -> Tensor:
    """Stacks the policies' parts along a leading axis P; a single one is not copied."""
    return parts[0][None] if len(parts) == 1 else torch.stack(list(parts))


def _orthogonal(policies: int, shape: tuple[int, ...], gain: float) -> nn.Parameter:
    weight = torch.empty(policies, *shape)
    for one in weight:
        nn.init.orthogonal_(one, gain)
    return nn.Parameter(weight)
