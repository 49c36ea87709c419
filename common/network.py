"""The agent's network, for P policies at once.

Every parameter has a leading axis P. With parameters of their own for each player P is N; with shared ones P is 1; an
actor that plays learning and distilled policies puts both behind one another. Inputs are arranged `[P, M, ...]`: M
rows for each policy. Where rows come from, see `Arrangement`.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from common.config import NetworkConfig
from common.environments import EnvironmentSpec
from common.recurrence import gru

# A CPU computes rows in pieces whose activations stay in its cache: 8192 rows at once take twice as long a row.
PIECE = 1024


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


class StackedConv2d(nn.Module):
    """P 3x3 convolutions without padding: [P, M, in, H, W] -> [P, M, out, H', W'], channels last in memory."""

    def __init__(self, policies: int, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.weight = _orthogonal(policies, (outputs, inputs, 3, 3), math.sqrt(2))
        self.bias = nn.Parameter(torch.zeros(policies, outputs))
        self.stride = stride

    def forward(self, x: Tensor) -> Tensor:
        parts = zip(x, self.weight, self.bias, strict=True)
        return _stack([F.conv2d(x_p, w.contiguous(memory_format=torch.channels_last), b, self.stride)
                       for x_p, w, b in parts])  # fmt: skip


class StackedCore(nn.Module):
    """P recurrent cores: inputs [P, T, S, in] and state [P, S, state_size] -> outputs [P, T, S, out] and state.

    An LSTM's state is its hidden and its cell state, one behind the other.
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
        outputs, states = zip(*(self._one(p, x[p], state[p][None]) for p in range(len(x))), strict=True)
        return _stack(outputs), _stack(states)

    def _one(self, p: int, x: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        weights = [self.input_weight[p], self.hidden_weight[p], self.input_bias[p], self.hidden_bias[p]]
        if self.kind == "gru":
            output, state = torch.gru(x, state, weights, True, 1, 0.0, self.training, False, False)
            return output, state[0]
        hidden, cell = (part.contiguous() for part in state.split(self.size, -1))
        output, hidden, cell = torch.lstm(x, (hidden, cell), weights, True, 1, 0.0, self.training, False, False)
        return output, torch.cat([hidden[0], cell[0]], -1)


@dataclass(frozen=True)
class Outputs:
    """What the learner needs of a network.

    Attributes:
      log_probs: [P, T, S, A], of every action.
      values: [P, T, S], in normalised units.
    """

    log_probs: Tensor
    values: Tensor


class Network(nn.Module):
    """Two convolutions, a dense layer, a recurrent core, a policy head and a value head, P times.

    Actors and the distiller call `act`, the learner `embed` and then `evaluate`. A method's own network is a subclass
    that changes one of their parts.

    Args:
      spec: the game.
      config: the widths.
      policies: P.
    """

    def __init__(self, spec: EnvironmentSpec, config: NetworkConfig, policies: int) -> None:
        super().__init__()
        first, second = config.channels
        height, width, colours = spec.rgb_shape
        self.has_image = height > 0
        flat = spec.features
        if self.has_image:
            self.conv_1 = StackedConv2d(policies, colours, first, stride=1)
            self.conv_2 = StackedConv2d(policies, first, second, stride=2)
            flat += second * ((height - 3) // 2) * ((width - 3) // 2)
        self.dense = StackedLinear(policies, flat, config.dense, math.sqrt(2))
        self.core = StackedCore(policies, config.core, config.dense, config.core_size)
        self.policy = StackedLinear(policies, config.core_size, spec.actions, 0.01)
        self.value = StackedLinear(policies, config.core_size + config.dense, 1, 1.0)

    @property
    def state_size(self) -> int:
        """Length of a player's recurrent state; it starts as zeros."""
        return self.core.state_size

    def act(self, rgb: Tensor, features: Tensor, state: Tensor, version: Tensor) -> tuple[Tensor, Tensor]:
        """What players would do who see nothing but their own observations.

        Args:
          rgb: [P, T, S, H, W, 3] uint8.
          features: [P, T, S, F].
          state: [P, S, state_size], before the first step.
          version: [P, S] int64, of theta; of use to networks that change from version to version by themselves.

        Returns: log-probabilities [P, T, S, A], and the state behind the last step.
        """
        hidden, state = self.remember(self.embed(rgb, features, version), state)
        return self.log_probs(hidden), state

    def evaluate(self, embedding: Tensor, state: Tensor, others: Tensor) -> Outputs:
        """What the learner needs, for which it may look at everybody.

        Args:
          embedding: [P, T, S, dense], of the players' own observations.
          state: [P, S, state_size], before the first step.
          others: [P, T, S, dense], for each player the mean of the other players' embeddings.
        """
        hidden, _ = self.remember(embedding, state)
        return Outputs(self.log_probs(hidden), self.values(hidden, others))

    def embed(self, rgb: Tensor, features: Tensor, version: Tensor) -> Tensor:
        """What players see, without memory: arguments as for `act`, -> [P, T, S, dense]."""
        del version
        return self.embed_image(rgb, features)

    def embed_image(self, rgb: Tensor, features: Tensor) -> Tensor:
        """The convolutions and the dense layer: rgb as for `act`, or as floats from 0 to 1, -> [P, T, S, dense]."""
        steps = features.shape[1:3]
        rgb, features = rgb.flatten(1, 2), features.flatten(1, 2)
        piece = features.shape[1] if features.is_cuda else PIECE
        pieces = zip(rgb.split(piece, 1), features.split(piece, 1), strict=True)
        embedding = torch.cat([self._embed(*part) for part in pieces], 1)
        return embedding.reshape(len(embedding), *steps, -1)

    def _embed(self, rgb: Tensor, features: Tensor) -> Tensor:
        flat = features.sign() * features.abs().log1p()
        if self.has_image:
            x = rgb.movedim(-1, -3)
            x = x if x.is_floating_point() else x.to(torch.float32).div_(255)
            x = F.relu(self.conv_2(F.relu(self.conv_1(x))))
            flat = torch.cat([x.movedim(-3, -1).flatten(2), flat], -1)
        return F.relu(self.dense(flat))

    def remember(self, embedding: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """Runs the core: embedding [P, T, S, dense], state [P, S, state_size] -> hidden [P, T, S, core], state."""
        hidden, state = self.core(embedding, state)
        return hidden, state

    def log_probs(self, hidden: Tensor) -> Tensor:
        """The policy: hidden [P, ..., core] -> log-probabilities [P, ..., A]."""
        logits: Tensor = self.policy(hidden)
        return logits.log_softmax(-1)

    def values(self, hidden: Tensor, others: Tensor) -> Tensor:
        """The centralised critic, in normalised units.

        Args:
          hidden: [P, ..., core], the player's own.
          others: [P, ..., dense], the mean of the other players' embeddings.

        Returns: [P, ...].
        """
        values: Tensor = self.value(torch.cat([hidden, others], -1))
        return values.squeeze(-1)


@dataclass(frozen=True)
class Arrangement:
    """Which rows go to which policy.

    Policies have different numbers of rows; the shorter ones are filled up with rows that do not count.

    Attributes:
      index: [P, S] int64, numbers of rows.
      valid: [P, S] bool, false where a place is only filled up.
    """

    index: Tensor
    valid: Tensor

    def to(self, device: torch.device) -> "Arrangement":
        """The same on another device."""
        return Arrangement(self.index.to(device), self.valid.to(device))

    def gather(self, x: Tensor, axis: int = 0) -> Tensor:
        """Takes rows along an axis: [..., R, ...] -> [P, ..., S, ...]."""
        taken = x.index_select(axis, self.index.flatten())
        return taken.reshape(*x.shape[:axis], *self.index.shape, *x.shape[axis + 1 :]).movedim(axis, 0)

    def scatter(self, x: Tensor, rows: int) -> Tensor:
        """The way back, for rows in front: [P, S, ...] -> [R, ...], zeros where no place pointed to a row."""
        out = x.new_zeros(rows, *x.shape[2:])
        out[self.index[self.valid]] = x[self.valid]
        return out


def arrange(policy: NDArray[np.int64], policies: int) -> Arrangement:
    """Sorts rows by their policy.

    Args:
      policy: [R], each row's policy; negative leaves the row out.
      policies: P.
    """
    groups = [np.flatnonzero(policy == p) for p in range(policies)]
    longest = max(1, max(map(len, groups)))
    index = np.zeros((policies, longest), np.int64)
    valid = np.zeros((policies, longest), bool)
    for p, rows in enumerate(groups):
        index[p, : len(rows)] = rows
        valid[p, : len(rows)] = True
    return Arrangement(torch.from_numpy(index), torch.from_numpy(valid))


def _stack(parts: Sequence[Tensor]) -> Tensor:
    return parts[0][None] if len(parts) == 1 else torch.stack(list(parts))


def _orthogonal(policies: int, shape: tuple[int, ...], gain: float) -> nn.Parameter:
    weight = torch.empty(policies, *shape)
    for one in weight:
        nn.init.orthogonal_(one, gain)
    return nn.Parameter(weight)
