"""What an update minimises: PPO's loss and what the method adds to it."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor, nn

from common.config import LearnerConfig
from common.errors import ConfigError
from learner.ppo import ppo_terms
from methods import Method
from networks.network import Network
from networks.sequences import Sequences


@dataclass(frozen=True)
class Prepared:
    """Sequences with what was worked out from them before the update and stays as it is through its epochs.

    Attributes:
      sequences: what is trained on.
      others: [P, T+1, S, D], what the critic sees of the others.
      log_prob: [P, T, S], of the actions taken, by theta before the update.
      values: [P, T+1, S], before the update, in normalised units.
      returns: [P, T, S], what the values shall become, in normalised units.
      advantages: [P, T, S], standardised and weighted by rho.
      entropy_coef: weight of the entropy bonus in this update.
    """

    sequences: Sequences
    others: Tensor
    log_prob: Tensor
    values: Tensor
    returns: Tensor
    advantages: Tensor
    entropy_coef: float

    def columns(self, which: Tensor) -> "Prepared":
        """Some of the S sequences of every policy."""
        parts: dict[str, Any] = {name: x[:, :, which] for name, x in vars(self).items() if isinstance(x, Tensor)}
        return replace(self, sequences=self.sequences.columns(which), **parts)


class Objective(nn.Module):
    """The loss of a minibatch; a module, for DistributedDataParallel to wrap."""

    def __init__(self, network: Network, method: Method, config: LearnerConfig) -> None:
        super().__init__()
        self.network = network
        self._method, self._config = method, config

    def forward(self, part: Prepared) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss, the sum of the policies' own, and its parts as metrics, cut from the graph."""
        sequences = part.sequences
        embedding = self.network.embed(sequences.rgb, sequences.features, sequences.version)
        outputs = self.network.evaluate(embedding, sequences.state, part.others)
        terms = ppo_terms(
            outputs.log_probs[:, :-1], outputs.values[:, :-1], sequences.action, part.log_prob, part.advantages,
            part.returns, part.values[:, :-1], sequences.mask, sequences.valid, self._config,
        )  # fmt: skip
        penalties = self._method.penalties(self.network, sequences, embedding, outputs)
        numbers = terms.numbers()
        _check(penalties, numbers.keys(), len(embedding), self._method.config.method.name)
        loss = terms.loss(self._config.value_coef, part.entropy_coef) + sum(
            weight * penalty.sum() for weight, penalty in penalties.values()
        )
        return loss, numbers | {name: penalty.detach().mean() for name, (_, penalty) in penalties.items()}


def _check(penalties: Mapping[str, tuple[float, Tensor]], taken: Collection[str], policies: int, method: str) -> None:
    for name, (_, penalty) in penalties.items():
        if name in taken:
            raise ConfigError(f"method {method} has a penalty called {name!r}, as a part of PPO's loss is: rename it")
        if penalty.shape != (policies,):
            raise ConfigError(
                f"method {method}: penalty {name!r} has the shape {list(penalty.shape)}, expected [{policies}], "
                "a value for each policy"
            )
