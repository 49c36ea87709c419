"""The policies that an actor or an evaluator holds, and one batched forward pass for everybody who plays by them."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from common.config import NetworkConfig
from common.environments import EnvironmentSpec
from common.network import Arrangement, Network, arrange
from common.store import Weights


class Players:
    """Learning policies theta and, behind them on the policy axis, distilled policies phi.

    Args:
      spec: the game.
      config: the network's widths.
      policies: P, the number of learning policies; as many distilled ones stand behind them if `distilled`.
      distilled: whether there is a phi.
      rows: R, the number of players of all environments together.
      seed: seeds the draw of actions.
    """

    def __init__(
        self,
        spec: EnvironmentSpec,
        config: NetworkConfig,
        policies: int,
        distilled: bool,
        rows: int,
        seed: int,
    ) -> None:
        self._policies = policies
        self._network = Network(spec, config, 2 * policies if distilled else policies).eval()
        self._network.requires_grad_(False)
        self._generator = torch.Generator().manual_seed(seed)
        self.state = torch.zeros(rows, self._network.state_size)
        self.theta_version = self.phi_version = -1
        self._arrangement: Arrangement | None = None

    def load_theta(self, weights: Weights) -> None:
        """Takes a version of the learning policies."""
        self._load(weights, slice(0, self._policies))
        self.theta_version = weights.version

    def load_phi(self, weights: Weights) -> None:
        """Takes a version of the distilled policies."""
        self._load(weights, slice(self._policies, None))
        self.phi_version = weights.version

    def assign(self, policy: NDArray[np.int64], learning: NDArray[np.bool_]) -> None:
        """Says by which policy each row plays: policy [R] in 0..P-1, learning [R] for theta, else phi."""
        self._arrangement = arrange(np.where(learning, policy, policy + self._policies), self._network.policies)

    @torch.no_grad()
    def act(
        self, rgb: NDArray[np.uint8], features: NDArray[np.float32], race: NDArray[np.float64] | None = None
    ) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
        """Chooses an action for every row, and moves the recurrent state on.

        Args:
          rgb: [R, H, W, 3].
          features: [R, F].
          race: what `draw` draws with; None draws it from the generator of these players.

        Returns: actions [R] and their log-probabilities [R].
        """
        assert self._arrangement is not None
        take, rows = self._arrangement.gather, len(self.state)
        embedding = self._network.embed(take(torch.from_numpy(rgb)), take(torch.from_numpy(features)))
        hidden, state = self._network.remember(embedding[:, None], take(self.state))
        logits = self._arrangement.scatter(self._network.logits(hidden[:, 0]), rows)
        self.state = self._arrangement.scatter(state, rows)
        log_probs = logits.log_softmax(-1)
        if race is None:
            times = torch.empty_like(log_probs).exponential_(generator=self._generator)
        else:
            times = torch.from_numpy(race).to(log_probs.dtype)
        action = draw(log_probs, times)
        log_prob = log_probs.gather(-1, action[:, None])[:, 0]
        return action.to(torch.int32).numpy(), log_prob.numpy()

    def _load(self, weights: Weights, place: slice) -> None:
        for name, parameter in self._network.named_parameters():
            parameter[place] = weights.parameters[name]


def draw(logits: Tensor, race: Tensor) -> Tensor:
    """Draws actions by an exponential race: argmin of E / p with E ~ Exp(1) has distribution p.

    Args:
      logits: [R, A].
      race: E, [R, A].

    Returns: [R] int64.
    """
    return (logits - race.log()).argmax(-1)
