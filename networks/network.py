"""The agent's network, for P policies at once.

Every parameter has a leading axis P. P is 1 if players share parameters and N if each player has its own; an actor that
plays learning and distilled policies concatenates both along P. Inputs are `[P, M, ...]`, M rows for each policy; see
`Arrangement`.
"""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from common.config import NetworkConfig
from common.spec import EnvironmentSpec
from networks.images import MIN_IMAGES, distinct, image_dtype
from networks.layers import StackedConv2d, StackedCore, StackedLinear, stack

# A CPU computes rows in pieces whose activations fit its cache: with 8192 rows at once, each takes twice as long.
PIECE = 1024


@dataclass(frozen=True)
class Outputs:
    """What the learner needs from a network.

    Attributes:
      log_probs: [P, T, S, A], log-probabilities of all actions.
      values: [P, T, S], in normalised units.
    """

    log_probs: Tensor
    values: Tensor


class Network(nn.Module):
    """Two convolutions, a dense layer, a recurrent core, a policy head and a value head, P times.

    Actors and the distiller call `act`, the learner `embed` and then `evaluate`. A method's own network is a subclass
    that replaces one of their parts.

    Args:
      spec: the game.
      config: widths, kind of core, precision.
      policies: P.
    """

    def __init__(self, spec: EnvironmentSpec, config: NetworkConfig, policies: int) -> None:
        super().__init__()
        first, second = config.channels
        height, width, colours = spec.rgb_shape
        self.has_image = height > 0
        self._precision = config.precision
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
        """Returns what players do who see only their own observations.

        Args:
          rgb: [P, T, S, H, W, 3] uint8.
          features: [P, T, S, F].
          state: [P, S, state_size], before the first step.
          version: [P, S] int64, of theta; for networks that depend on it beyond their parameters.

        Returns: log-probabilities [P, T, S, A], and the state after the last step.
        """
        hidden, state = self.remember(self.embed(rgb, features, version), state)
        return self.log_probs(hidden), state

    def evaluate(self, embedding: Tensor, state: Tensor, others: Tensor) -> Outputs:
        """Returns policies and values; the values see all players.

        Args:
          embedding: [P, T, S, dense], of each player's own observations.
          state: [P, S, state_size], before the first step.
          others: [P, T, S, dense], for each player the mean of the other players' embeddings.
        """
        hidden, _ = self.remember(embedding, state)
        return Outputs(self.log_probs(hidden), self.values(hidden, others))

    def embed(self, rgb: Tensor, features: Tensor, version: Tensor) -> Tensor:
        """Embeds observations, without memory: arguments as for `act`, -> [P, T, S, dense]."""
        del version
        return self.embed_image(rgb, features)

    def embed_image(self, rgb: Tensor, features: Tensor) -> Tensor:
        """Applies convolutions and dense layer: rgb as for `act`, or floats from 0 to 1, -> [P, T, S, dense]."""
        steps = features.shape[1:3]
        rgb, features = rgb.flatten(1, 2), features.flatten(1, 2)
        piece = features.shape[1] if features.is_cuda else PIECE
        pieces = zip(rgb.split(piece, 1), features.split(piece, 1), strict=True)
        embedding = torch.cat([self._embed(*part) for part in pieces], 1)
        return embedding.reshape(len(embedding), *steps, -1)

    def _embed(self, rgb: Tensor, features: Tensor) -> Tensor:
        scaled = features.sign() * features.abs().log1p()
        if not self.has_image:
            return F.relu(self.dense(scaled))
        seen = stack([self._see(p, images) for p, images in enumerate(rgb)])
        return F.relu(seen + self.dense.last(scaled))

    def _see(self, p: int, images: Tensor) -> Tensor:
        """Returns the contribution of policy p's convolutions to its dense layer: [M, H, W, 3] -> [M, dense]."""
        rows = None if images.is_cuda or len(images) < MIN_IMAGES else distinct(images)
        x = (
            (images if rows is None else images[rows[0]])
            .movedim(-1, -3)
            .to(image_dtype(self._precision, images.device))
        )
        x = x if images.is_floating_point() else x.div_(255)
        x = F.relu(self.conv_2(p, F.relu(self.conv_1(p, x))))
        x = self.dense.first(p, x.movedim(-3, -1).flatten(1)).to(torch.float32)
        return x if rows is None else x.index_select(0, rows[1])

    def remember(self, embedding: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """Runs the core: embedding [P, T, S, dense], state [P, S, state_size] -> hidden [P, T, S, core], state."""
        hidden, state = self.core(embedding, state)
        return hidden, state

    def log_probs(self, hidden: Tensor) -> Tensor:
        """Applies the policy head: hidden [P, ..., core] -> log-probabilities [P, ..., A]."""
        logits: Tensor = self.policy(hidden)
        return logits.log_softmax(-1)

    def values(self, hidden: Tensor, others: Tensor) -> Tensor:
        """Applies the centralised critic; values are in normalised units.

        Args:
          hidden: [P, ..., core], the player's own.
          others: [P, ..., dense], the mean of the other players' embeddings.

        Returns: [P, ...].
        """
        values: Tensor = self.value(torch.cat([hidden, others], -1))
        return values.squeeze(-1)
