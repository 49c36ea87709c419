"""OPRE, options as responses: a mixture of options, chosen in training by a module that sees all players.

Vezhnevets et al. 2020, in the simplified form that marl-jax trains on Melting Pot, with PPO in place of V-trace.
"""

from dataclasses import dataclass

import torch
from pydantic import Field
from torch import Tensor

from common.config import NetworkConfig, Section
from common.spec import EnvironmentSpec
from methods.base import Method
from networks.layers import StackedLinear
from networks.network import Network, Outputs
from networks.sequences import Mean, Sequences, sum_steps


@dataclass(frozen=True)
class OptionOutputs(Outputs):
    """Adds the distributions over options: chosen, log q [P, T, S, K], and guessed, log p [P, T, S, K]."""

    chosen: Tensor
    guessed: Tensor


class OptionNetwork(Network):
    """K options, each with a policy and a value.

    p(c | own memory) mixes them to act, q(c | all players) to train.
    """

    def __init__(self, spec: EnvironmentSpec, config: NetworkConfig, policies: int, options: int) -> None:
        super().__init__(spec, config, policies)
        self._options, self._others = options, spec.players - 1
        self.policy = StackedLinear(policies, config.core_size, options * spec.actions, 0.01)
        self.value = StackedLinear(policies, config.core_size, options, 1.0)
        self.guess = StackedLinear(policies, config.core_size, options, 0.01)
        self.choose = StackedLinear(policies, config.dense, options, 0.01)

    def log_probs(self, hidden: Tensor) -> Tensor:
        """Returns the policy of a player that guesses the option: log sum_c p_c pi_c."""
        return self._mix(hidden, self._log_p(hidden))

    def evaluate(self, embedding: Tensor, state: Tensor, others: Tensor) -> OptionOutputs:
        """pi = sum_c q_c pi_c and V = sum_c q_c V_c; q learns only through V and from p."""
        hidden, _ = self.remember(embedding, state)
        everybody = embedding + self._others * others
        chosen = self.choose(everybody).log_softmax(-1)
        values = (chosen.exp() * self.value(hidden)).sum(-1)
        return OptionOutputs(self._mix(hidden, chosen.detach()), values, chosen, self._log_p(hidden))

    def _log_p(self, hidden: Tensor) -> Tensor:
        log_p: Tensor = self.guess(hidden).log_softmax(-1)
        return log_p

    def _mix(self, hidden: Tensor, options: Tensor) -> Tensor:
        """Returns log-probabilities of actions [..., A], given those of options [..., K]."""
        each: Tensor = self.policy(hidden).unflatten(-1, (self._options, -1)).log_softmax(-1)
        return (options[..., None] + each).logsumexp(-2)


class OPRE(Method):
    """PPO on the mixture under q; KL(q || p) teaches p to guess q; an entropy bonus keeps options in use."""

    class Settings(Section):
        """OPRE's own settings."""

        options: int = Field(8, ge=1, le=1024)
        """K, the number of options."""
        option_kl_coef: float = Field(0.01, ge=0, le=100)
        """Weight of KL(q || p)."""
        option_entropy_coef: float = Field(0.01, ge=0, le=100)
        """Weight of the entropy of the mean q minus the mean entropy of q, which is maximised."""

    settings: Settings

    def network(self, spec: EnvironmentSpec, policies: int) -> OptionNetwork:
        """Returns a network with options."""
        return OptionNetwork(spec, self.config.network, policies, self.settings.options)

    def penalties(
        self, network: Network, sequences: Sequences, embedding: Tensor, outputs: Outputs, mean: Mean
    ) -> dict[str, tuple[float, Tensor]]:
        """Returns KL(q || p) and, to be maximised, the information that q carries about the step."""
        if not isinstance(outputs, OptionOutputs):
            raise TypeError(f"{type(outputs).__name__}: expected the OptionOutputs of an OptionNetwork")
        chosen, guessed = outputs.chosen[:, :-1], outputs.guessed[:, :-1]
        kl = mean(sum_steps((chosen.exp() * (chosen - guessed)).sum(-1), sequences.mask))
        conditional = mean(sum_steps(-(chosen.exp() * chosen).sum(-1), sequences.mask))
        usage = torch.stack([mean(sum_steps(q, sequences.mask)) for q in chosen.exp().unbind(-1)], -1)
        marginal = -(usage * usage.clamp(min=1e-9).log()).sum(-1)  # a policy may have no steps in a minibatch
        return {
            "option_kl_nats": (self.settings.option_kl_coef, kl),
            "option_information_nats": (-self.settings.option_entropy_coef, marginal - conditional),
        }
