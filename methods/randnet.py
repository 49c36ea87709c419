"""RandNet, network randomisation: a random convolution in front of the policy, drawn anew again and again.

Lee et al. 2020. The draw hangs on the run's seed and on theta's version, so that the learner sees through the very
filter through which an actor saw when it chose.
"""

import logging
import math

import numpy as np
import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from common.config import NetworkConfig, Section
from common.spec import EnvironmentSpec
from methods.base import Method
from networks.network import Network, Outputs
from networks.sequences import Sequences, policy_mean

COLOURS, EDGE = 3, 3
UNSEEN = 1 << 40
"""From this on no theta has a version: draws that were not trained with."""

log = logging.getLogger(__name__)


def random_filter(seed: int, version: int, identity_probability: float) -> Tensor:
    """A version's convolution [3, 3, 3, 3] (out, in, height, width): Glorot normal, or the identity."""
    rng = np.random.default_rng([seed, version])
    if rng.random() < identity_probability:
        identity = torch.zeros(COLOURS, COLOURS, EDGE, EDGE)
        identity[range(COLOURS), range(COLOURS), EDGE // 2, EDGE // 2] = 1
        return identity
    deviation = math.sqrt(2 / (2 * COLOURS * EDGE * EDGE))
    return torch.from_numpy(rng.normal(0, deviation, (COLOURS, COLOURS, EDGE, EDGE)).astype(np.float32))


class RandomisedNetwork(Network):
    """Sees the image through the filter of theta's version."""

    def __init__(
        self, spec: EnvironmentSpec, config: NetworkConfig, policies: int, seed: int, identity_probability: float
    ) -> None:
        super().__init__(spec, config, policies)
        self._seed, self._identity_probability = seed, identity_probability

    def embed(self, rgb: Tensor, features: Tensor, version: Tensor) -> Tensor:
        """See `Network.embed`."""
        return self.embed_image(self.randomise(rgb, version) if self.has_image else rgb, features)

    def randomise(self, rgb: Tensor, version: Tensor) -> Tensor:
        """Filters each sequence by its version's draw: rgb [P, T, S, H, W, 3], version [P, S] -> floats, same shape."""
        versions, which = version.cpu().unique(return_inverse=True)
        drawn = [random_filter(self._seed, v, self._identity_probability) for v in versions.tolist()]
        weight = torch.stack(drawn)[which].flatten(0, 2).to(rgb.device)  # [P * S * 3, 3, 3, 3]
        p, t, s, height, width, _ = rgb.shape
        x = rgb.permute(1, 0, 2, 5, 3, 4).reshape(t, p * s * COLOURS, height, width).to(torch.float32).div_(255)
        x = F.conv2d(x, weight, padding=EDGE // 2, groups=p * s)
        return x.reshape(t, p, s, COLOURS, height, width).permute(1, 0, 2, 4, 5, 3)


class AveragedNetwork(RandomisedNetwork):
    """Acts by the mean of its policies behind some draws; each has a memory of its own."""

    def __init__(
        self, spec: EnvironmentSpec, config: NetworkConfig, policies: int, seed: int, identity_probability: float,
        draws: int,
    ) -> None:  # fmt: skip
        super().__init__(spec, config, policies, seed, identity_probability)
        self._draws = draws

    @property
    def state_size(self) -> int:
        """The memories behind one another."""
        return self._draws * self.core.state_size

    def act(self, rgb: Tensor, features: Tensor, state: Tensor, version: Tensor) -> tuple[Tensor, Tensor]:
        """See `Network.act`; the filters are others than those of training."""
        acts = [
            super(AveragedNetwork, self).act(rgb, features, memory.contiguous(), torch.full_like(version, draw))
            for draw, memory in enumerate(state.chunk(self._draws, -1), start=UNSEEN)
        ]
        log_probs, memories = zip(*acts, strict=True)
        return torch.stack(log_probs).logsumexp(0) - math.log(self._draws), torch.cat(memories, -1)


class RandNet(Method):
    """PPO through random filters, with features that are to stay as they are without one."""

    class Settings(Section):
        """RandNet's own."""

        identity_probability: float = Field(0.1, ge=0, le=1)
        """Of a version to see without a filter."""
        feature_coef: float = Field(0.002, ge=0)
        """Weight of the mean square difference of the features with the filter from those without."""
        evaluation_draws: int = Field(10, ge=1)
        """Filters over which the policy is averaged when it is evaluated."""

    settings: Settings

    def network(self, spec: EnvironmentSpec, policies: int) -> RandomisedNetwork:
        """With a filter for each version."""
        if 0 in spec.rgb_shape:
            log.warning("%s has no images to filter: randnet is mappo here", spec.name)
        return RandomisedNetwork(
            spec, self.config.network, policies, self.config.run.seed, self.settings.identity_probability
        )

    def evaluation_network(self, spec: EnvironmentSpec, policies: int) -> AveragedNetwork:
        """Averaged over draws."""
        return AveragedNetwork(
            spec, self.config.network, policies, self.config.run.seed, self.settings.identity_probability,
            self.settings.evaluation_draws,
        )  # fmt: skip

    def penalties(
        self, network: Network, sequences: Sequences, embedding: Tensor, outputs: Outputs
    ) -> dict[str, tuple[float, Tensor]]:
        """Features through the filter against features without, which are held: the last layer before memory."""
        with torch.no_grad():
            clean = network.embed_image(sequences.rgb, sequences.features)
        difference = (embedding - clean).square().mean(-1)
        return {"feature_loss": (self.settings.feature_coef, policy_mean(difference[:, :-1], sequences.mask))}
