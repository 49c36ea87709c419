"""The PPO objective, for P policies at once. Arrays are [P, T, S]; each policy's loss is its own mean."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from common.config import LearnerConfig
from networks.sequences import policy_mean


def policy_loss(log_ratio: Tensor, advantage: Tensor, mask: Tensor, clip: float) -> Tensor:
    """The clipped surrogate, to be minimised: [P] (Schulman et al. 2017, eq. 7)."""
    ratio = log_ratio.exp()
    surrogate = torch.minimum(ratio * advantage, ratio.clamp(1 - clip, 1 + clip) * advantage)
    return -policy_mean(surrogate, mask)


def value_loss(values: Tensor, old_values: Tensor, returns: Tensor, mask: Tensor, clip: float, delta: float) -> Tensor:
    """The larger of the Huber losses of the value and of the value clipped to near its old one: [P] (Yu et al. 2022).

    All in normalised units.
    """
    clipped = old_values + (values - old_values).clamp(-clip, clip)
    losses = [F.huber_loss(v, returns, reduction="none", delta=delta) for v in (values, clipped)]
    return policy_mean(torch.maximum(*losses), mask)


def entropy(log_probs: Tensor, mask: Tensor) -> Tensor:
    """Mean entropy in nats of the policies with log-probabilities [P, T, S, A]: [P]."""
    return policy_mean(-(log_probs.exp() * log_probs).sum(-1), mask)


def standardise(advantage: Tensor, mask: Tensor) -> Tensor:
    """Brings each policy's advantages to mean 0 and deviation 1."""
    mean = policy_mean(advantage, mask)[:, None, None]
    variance = policy_mean((advantage - mean).square(), mask)[:, None, None]
    return (advantage - mean) / (variance.sqrt() + 1e-5)


@dataclass(frozen=True)
class Terms:
    """The objective's parts, each [P]."""

    policy_loss: Tensor
    value_loss: Tensor
    entropy_nats: Tensor
    policy_kl_nats: Tensor
    clip_fraction: Tensor

    def loss(self, value_coef: float, entropy_coef: float) -> Tensor:
        """What is minimised: the sum of the policies' losses, for each has its own parameters."""
        return (self.policy_loss + value_coef * self.value_loss - entropy_coef * self.entropy_nats).sum()

    def numbers(self) -> dict[str, Tensor]:
        """The parts as metrics, each the mean over policies, cut from the graph."""
        return {name: x.detach().mean() for name, x in vars(self).items()}


def ppo_terms(
    log_probs: Tensor, values: Tensor, action: Tensor, old_log_prob: Tensor, advantage: Tensor,
    returns: Tensor, old_values: Tensor, mask: Tensor, valid: Tensor, config: LearnerConfig,
) -> Terms:  # fmt: skip
    """All parts of the objective.

    Args:
      log_probs: [P, T, S, A], of the policy as it is now.
      values: [P, T, S], normalised.
      action: [P, T, S] int64.
      old_log_prob: [P, T, S], log-probability of `action` before the update.
      advantage: [P, T, S], standardised.
      returns: [P, T, S], normalised.
      old_values: [P, T, S], normalised, from before the update.
      mask: [P, T, S] bool, steps whose action mattered: the policy's.
      valid: [P, T, S] bool, steps that were played: the critic's. In the arenas a reward arrives while its players are
        frozen, so a critic trained on `mask` would never see it.
      config: clip ranges.
    """
    log_ratio = log_probs.gather(-1, action[..., None]).squeeze(-1) - old_log_prob
    with torch.no_grad():
        ratio = log_ratio.exp()
        kl = policy_mean(ratio - 1 - log_ratio, mask)
        clipped = policy_mean(((ratio - 1).abs() > config.clip).float(), mask)
    return Terms(
        policy_loss(log_ratio, advantage, mask, config.clip),
        value_loss(values, old_values, returns, valid, config.clip, config.huber_delta),
        entropy(log_probs, mask),
        kl,
        clipped,
    )
