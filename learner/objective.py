"""What an update minimises: PPO's loss and the method's penalties."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor, nn

from common.config import LearnerConfig
from common.errors import ConfigError
from learner.ppo import Fixed, ppo_loss, ppo_sums
from methods import Method
from networks.network import Network
from networks.sequences import Mean, Sequences, StepSum


@dataclass(frozen=True)
class Prepared:
    """Sequences, and what is computed from them once before the epochs of an update.

    Attributes:
      sequences: what is trained on.
      others: [P, T+1, S, D], what the critic sees of the other players.
      log_prob: [P, T, S], of the actions taken, under theta before the update.
      values: [P, T+1, S], before the update, normalised.
      returns: [P, T, S], the targets of the values, normalised.
      advantages: [P, T, S], standardised and weighted by rho.
    """

    sequences: Sequences
    others: Tensor
    log_prob: Tensor
    values: Tensor
    returns: Tensor
    advantages: Tensor

    def columns(self, which: Tensor) -> "Prepared":
        """Returns some of the S sequences of every policy: a minibatch."""
        parts: dict[str, Any] = {name: x[:, :, which] for name, x in vars(self).items() if isinstance(x, Tensor)}
        return replace(self, sequences=self.sequences.columns(which), **parts)

    @property
    def fixed(self) -> Fixed:
        """What PPO compares with; the last row of `values`, the bootstrap, is left out."""
        s = self.sequences
        return Fixed(s.action, self.log_prob, self.advantages, self.values[:, :-1], self.returns, s.mask, s.valid)


class Objective(nn.Module):
    """The loss of a minibatch; a module so that DistributedDataParallel can wrap it.

    Args:
      network: trained.
      method: adds its penalties.
      config: coefficients and clip ranges.
      mean: averages a sum over steps. Where several ranks share a minibatch, this is the one place where they
        communicate during the forward pass.
    """

    def __init__(self, network: Network, method: Method, config: LearnerConfig, mean: Mean = StepSum.mean) -> None:
        super().__init__()
        self.network = network
        self._method, self._config, self._mean = method, config, mean

    def forward(self, part: Prepared, entropy_coef: float) -> tuple[Tensor, dict[str, Tensor]]:
        """Returns the loss, summed over policies, and its terms as metrics, detached."""
        sequences = part.sequences
        embedding = self.network.embed(sequences.rgb, sequences.features, sequences.version)
        outputs = self.network.evaluate(embedding, sequences.state, part.others)
        sums = ppo_sums(outputs.log_probs[:, :-1], outputs.values[:, :-1], part.fixed, self._config)
        means = {name: self._mean(term) for name, term in sums.items()}
        penalties = self._method.penalties(self.network, sequences, embedding, outputs, self._mean)
        _check(penalties, means.keys(), len(embedding), self._method.config.method.name)
        loss = ppo_loss(means, self._config.value_coef, entropy_coef) + sum(
            weight * penalty.sum() for weight, penalty in penalties.values()
        )
        means |= {name: penalty for name, (_, penalty) in penalties.items()}
        return loss, {name: x.detach().mean() for name, x in means.items()}


def _check(penalties: Mapping[str, tuple[float, Tensor]], taken: Collection[str], policies: int, method: str) -> None:
    for name, (_, penalty) in penalties.items():
        if name in taken:
            raise ConfigError(f"method {method}: penalty {name!r} has the name of a term of PPO's loss; rename it")
        if penalty.shape != (policies,):
            raise ConfigError(
                f"method {method}: penalty {name!r} has shape {list(penalty.shape)}, expected [{policies}], "
                "one value per policy"
            )
