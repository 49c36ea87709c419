"""What the learner trains on, as a method's objective sees it."""

from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor


@dataclass(frozen=True)
class Sequences:
    """The sequences that PPO trains on, sorted by policy: S of them for each of P policies, of T steps.

    Where policies have different numbers of sequences the shorter ones are filled up; `mask` is false there.

    Attributes:
      rgb: [P, T+1, S, H, W, 3] uint8.
      features: [P, T+1, S, F].
      action: [P, T, S] int64.
      log_prob: [P, T, S], of `action` under the policy that chose it.
      reward, discount: [P, T, S].
      valid: [P, T, S] bool, false behind an unroll's end.
      mask: [P, T, S] bool, `valid` less the steps of players who were frozen or out of the game.
      state: [P, S, state_size], the recurrent state before the first step.
      version: [P, S] int64, of the theta that acted.
    """

    rgb: Tensor
    features: Tensor
    action: Tensor
    log_prob: Tensor
    reward: Tensor
    discount: Tensor
    valid: Tensor
    mask: Tensor
    state: Tensor
    version: Tensor

    def columns(self, which: Tensor) -> "Sequences":
        """Some of the S sequences of every policy."""
        of_sequences = ("state", "version")
        parts = {name: x[:, which] if name in of_sequences else x[:, :, which] for name, x in vars(self).items()}
        return Sequences(**parts)


def policy_mean(x: Tensor, mask: Tensor) -> Tensor:
    """Mean over a policy's steps where mask is true: [P, T, S] -> [P]; 0 for a policy that has none.

    Where several processes share the work it is the mean over the steps of all of them, also to autograd.
    """
    total, count = (x * mask).sum((1, 2)), mask.sum((1, 2)).to(x.dtype)
    if dist.is_available() and dist.is_initialized():
        total, count = (_SumOverRanks.apply(x) for x in (total, count))  # type: ignore[no-untyped-call]
    return total / count.clamp(min=1)


class _SumOverRanks(torch.autograd.Function):
    """Adds a tensor up over all processes; so does the way back with its gradient."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        del ctx
        return _added_up(x)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        del ctx
        return _added_up(gradient)


def _added_up(x: Tensor) -> Tensor:
    x = x.contiguous().clone()
    dist.all_reduce(x)
    return x
