"""The PPO objective for P policies at once. Arrays are [P, T, S]; every term is a sum over each policy's own steps."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from common.config import LearnerConfig
from networks.sequences import StepSum, policy_mean, sum_steps


@dataclass(frozen=True)
class Fixed:
    """What stays fixed while the epochs of an update change theta; all [P, T, S].

    Attributes:
      action: int64.
      log_prob: of `action`, under theta before the update.
      advantages: standardised and weighted by rho.
      values: before the update, normalised.
      returns: the targets of the values, normalised.
      mask: bool, the steps whose action mattered, on which the policy is trained.
      valid: bool, the steps that were played, on which the critic is trained. In the arenas a reward arrives while its
        player is frozen; a critic trained on `mask` would never see it.
    """

    action: Tensor
    log_prob: Tensor
    advantages: Tensor
    values: Tensor
    returns: Tensor
    mask: Tensor
    valid: Tensor


def policy_loss(log_ratio: Tensor, advantages: Tensor, mask: Tensor, clip: float) -> StepSum:
    """The clipped surrogate, negated (Schulman et al. 2017, eq. 7)."""
    ratio = log_ratio.exp()
    surrogate = torch.minimum(ratio * advantages, ratio.clamp(1 - clip, 1 + clip) * advantages)
    total, steps = sum_steps(surrogate, mask)
    return StepSum(-total, steps)


def value_loss(values: Tensor, fixed: Fixed, clip: float, delta: float) -> StepSum:
    """The larger of the Huber losses of the value and of the value clipped to its old one (Yu et al. 2022).

    In normalised units.
    """
    clipped = fixed.values + (values - fixed.values).clamp(-clip, clip)
    losses = [F.huber_loss(v, fixed.returns, reduction="none", delta=delta) for v in (values, clipped)]
    return sum_steps(torch.maximum(*losses), fixed.valid)


def entropy(log_probs: Tensor, mask: Tensor) -> StepSum:
    """Entropy in nats of policies with log-probabilities [P, T, S, A]."""
    return sum_steps(-(log_probs.exp() * log_probs).sum(-1), mask)


def standardise(advantages: Tensor, mask: Tensor) -> Tensor:
    """Scales each policy's advantages to mean 0 and standard deviation 1."""
    mean = policy_mean(advantages, mask)[:, None, None]
    variance = policy_mean((advantages - mean).square(), mask)[:, None, None]
    return (advantages - mean) / (variance.sqrt() + 1e-5)


def ppo_sums(log_probs: Tensor, values: Tensor, fixed: Fixed, config: LearnerConfig) -> dict[str, StepSum]:
    """Returns every term of the objective, by the name of its metric.

    Args:
      log_probs: [P, T, S, A], of theta as it is now.
      values: [P, T, S], likewise, normalised.
      fixed: what they are compared with.
      config: the clip ranges.
    """
    log_ratio = log_probs.gather(-1, fixed.action[..., None]).squeeze(-1) - fixed.log_prob
    with torch.no_grad():
        ratio = log_ratio.exp()
        kl = sum_steps(ratio - 1 - log_ratio, fixed.mask)
        clipped = sum_steps(((ratio - 1).abs() > config.clip).float(), fixed.mask)
    return {
        "policy_loss": policy_loss(log_ratio, fixed.advantages, fixed.mask, config.clip),
        "value_loss": value_loss(values, fixed, config.clip, config.huber_delta),
        "entropy_nats": entropy(log_probs, fixed.mask),
        "policy_kl_nats": kl,
        "clip_fraction": clipped,
    }


def ppo_loss(means: Mapping[str, Tensor], value_coef: float, entropy_coef: float) -> Tensor:
    """Combines the terms' means, [P] each; policies share no parameters, so the loss is the sum over them."""
    return (means["policy_loss"] + value_coef * means["value_loss"] - entropy_coef * means["entropy_nats"]).sum()
