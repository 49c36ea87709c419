"""Value targets and advantages. All arrays are [T, ...]; values have one more row, for the bootstrap."""

import math
from typing import NamedTuple

import torch
from torch import Tensor


class Targets(NamedTuple):
    """What the values should become, and how much better each action was than expected; both [T, ...]."""

    returns: Tensor
    advantages: Tensor


def gae(reward: Tensor, discount: Tensor, values: Tensor, valid: Tensor, trace: float) -> Targets:
    """Generalised advantage estimation (Schulman et al. 2016, eq. 16).

    A_t = delta_t + d_t lambda A_{t+1}, with delta_t = r_t + d_t V_{t+1} - V_t.

    Args:
      reward: [T, ...].
      discount: [T, ...], gamma where the episode continued or was truncated, 0 where it terminated.
      values: [T+1, ...].
      valid: [T, ...] bool; rows after an unroll's end are false, and nothing flows back from them.
      trace: lambda.
    """
    delta = reward + discount * values[1:] - values[:-1]
    advantage = torch.zeros_like(delta[0])
    advantages = torch.empty_like(delta)
    for t in reversed(range(len(delta))):
        advantage = torch.where(valid[t], delta[t] + discount[t] * trace * advantage, 0.0)
        advantages[t] = advantage
    return Targets(advantages + values[:-1], advantages)


def vtrace(reward: Tensor, discount: Tensor, values: Tensor, valid: Tensor, trace: float, log_ratio: Tensor) -> Targets:
    """V-trace with rho_bar = c_bar = 1 (Espeholt et al. 2018, eq. 1).

    The advantage is r_t + d_t vs_{t+1} - V_t, as in their section 4.2 but without the factor rho_t, by which the
    learner multiplies every advantage.

    Args:
      reward, discount, values, valid, trace: as in `gae`; lambda scales the trace coefficients c_t.
      log_ratio: [T, ...], log pi(a_t) - log mu(a_t) of the learner's policy pi and the acting policy mu.
    """
    rho = log_ratio.exp().clamp(max=1.0)
    delta = rho * (reward + discount * values[1:] - values[:-1])
    excess = torch.zeros_like(delta[0])
    ahead = torch.empty_like(delta)
    advantages = torch.empty_like(delta)
    for t in reversed(range(len(delta))):
        # vs_{t+1} = V_{t+1} + excess, where excess is what the rows after t add.
        ahead_value = reward[t] + discount[t] * (values[t + 1] + excess)
        advantages[t] = torch.where(valid[t], ahead_value - values[t], 0.0)
        excess = torch.where(valid[t], delta[t] + discount[t] * trace * rho[t] * excess, 0.0)
        ahead[t] = excess
    return Targets(ahead + values[:-1], advantages)


def explained_variance(values: Tensor, returns: Tensor, mask: Tensor) -> float:
    """Returns the share of the returns' variance that the values explain where mask is true; NaN without variance."""
    x, y = values[mask], returns[mask]
    variance = float(y.var()) if y.numel() > 1 else math.nan
    return 1 - float((y - x).var()) / variance if variance > 0 else math.nan
