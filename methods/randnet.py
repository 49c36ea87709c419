"""RandNet, network randomisation: a random convolution before the network, redrawn for every version of theta.

Lee et al. 2020. The draw depends on the run's seed and on theta's version, so the learner applies the same filter as
the actor did when it chose.
"""

import logging
import math
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from common.config import NetworkConfig, Section
from common.spec import EnvironmentSpec
from methods.base import Method
from networks.network import Network, Outputs
from networks.sequences import Mean, Sequences, sum_steps

COLOURS, EDGE = 3, 3
UNSEEN = 1 << 40
"""No theta has a version this high: draws from here on were never trained with."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Filters:
    """What the filters of a run are drawn from: its seed, and the probability that a version has none."""

    seed: int
    identity_probability: float


def random_filter(filters: Filters, version: int) -> Tensor:
    """Returns a version's convolution [3, 3, 3, 3] (out, in, height, width): Glorot normal, or the identity."""
    rng = np.random.default_rng([filters.seed, version])
    if rng.random() < filters.identity_probability:
        identity = torch.zeros(COLOURS, COLOURS, EDGE, EDGE)
        identity[range(COLOURS), range(COLOURS), EDGE // 2, EDGE // 2] = 1
        return identity
    deviation = math.sqrt(2 / (2 * COLOURS * EDGE * EDGE))
    return torch.from_numpy(rng.normal(0, deviation, (COLOURS, COLOURS, EDGE, EDGE)).astype(np.float32))


class RandomisedNetwork(Network):
    """Applies the filter of theta's version to the image."""

    def __init__(self, spec: EnvironmentSpec, config: NetworkConfig, policies: int, filters: Filters) -> None:
        super().__init__(spec, config, policies)
        self._filters = filters

    def embed(self, rgb: Tensor, features: Tensor, version: Tensor) -> Tensor:
        """See `Network.embed`."""
        return self.embed_image(self.randomise(rgb, version) if self.has_image else rgb, features)

    def randomise(self, rgb: Tensor, version: Tensor) -> Tensor:
        """Filters each sequence by its version's draw: rgb [P, T, S, H, W, 3], version [P, S] -> floats, same shape."""
        versions, which = version.cpu().unique(return_inverse=True)
        drawn = [random_filter(self._filters, v) for v in versions.tolist()]
        weight = torch.stack(drawn)[which].flatten(0, 2).to(rgb.device)  # [P * S * 3, 3, 3, 3]
        p, t, s, height, width, _ = rgb.shape
        x = rgb.permute(1, 0, 2, 5, 3, 4).reshape(t, p * s * COLOURS, height, width).to(torch.float32).div_(255)
        x = F.conv2d(x, weight, padding=EDGE // 2, groups=p * s)
        return x.reshape(t, p, s, COLOURS, height, width).permute(1, 0, 2, 4, 5, 3)


class AveragedNetwork(RandomisedNetwork):
    """Acts by the mean of its policies under several draws, each with its own recurrent state."""

    def __init__(
        self, spec: EnvironmentSpec, config: NetworkConfig, policies: int, filters: Filters, draws: int
    ) -> None:
        super().__init__(spec, config, policies, filters)
        self._draws = draws

    @property
    def state_size(self) -> int:
        """The recurrent states of all draws, concatenated."""
        return self._draws * self.core.state_size

    def act(self, rgb: Tensor, features: Tensor, state: Tensor, version: Tensor) -> tuple[Tensor, Tensor]:
        """See `Network.act`; the filters differ from those used in training."""
        acts = [
            super(AveragedNetwork, self).act(rgb, features, memory.contiguous(), torch.full_like(version, draw))
            for draw, memory in enumerate(state.chunk(self._draws, -1), start=UNSEEN)
        ]
        log_probs, memories = zip(*acts, strict=True)
        return torch.stack(log_probs).logsumexp(0) - math.log(self._draws), torch.cat(memories, -1)


class RandNet(Method):
    """PPO through random filters, and a loss that keeps the features close to those without a filter."""

    class Settings(Section):
        """RandNet's own settings."""

        identity_probability: float = Field(0.1, ge=0, le=1)
        """Probability that a version has no filter."""
        feature_coef: float = Field(0.002, ge=0, le=1000)
        """Weight of the mean squared difference between features with and without the filter."""
        evaluation_draws: int = Field(10, ge=1, le=1000)
        """Filters over which the policy is averaged in evaluation."""

    settings: Settings

    @property
    def _filters(self) -> Filters:
        return Filters(self.config.run.seed, self.settings.identity_probability)

    def network(self, spec: EnvironmentSpec, policies: int) -> RandomisedNetwork:
        """Returns a network with a filter for each version."""
        if 0 in spec.rgb_shape:
            log.warning("%s has no images to filter: randnet is the same as mappo here", spec.name)
        return RandomisedNetwork(spec, self.config.network, policies, self._filters)

    def evaluation_network(self, spec: EnvironmentSpec, policies: int) -> AveragedNetwork:
        """Returns a network that averages over several draws."""
        return AveragedNetwork(spec, self.config.network, policies, self._filters, self.settings.evaluation_draws)

    def penalties(
        self, network: Network, sequences: Sequences, embedding: Tensor, outputs: Outputs, mean: Mean
    ) -> dict[str, tuple[float, Tensor]]:
        """Compares the features, the last layer before the core, with those without a filter, which are held fixed."""
        with torch.no_grad():
            clean = network.embed_image(sequences.rgb, sequences.features)
        difference = (embedding - clean).square().mean(-1)
        return {"feature_loss": (self.settings.feature_coef, mean(sum_steps(difference[:, :-1], sequences.mask)))}
