"""What the learner trains on, as a method's penalties see it, and sums over its steps.

Arrays are `[P, T, S, ...]`: S sequences of T steps for each of P policies. P leads because networks compute all
policies in batched products; any other order would cost a copy of every array.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from torch import Tensor

from common.unroll import FIELDS

TIMED = (*(name for name, field in FIELDS.items() if field.timed and name != "active"), "valid", "mask")
"""The arrays of `Steps` that have a time axis."""


@dataclass(frozen=True)
class Steps:
    """The arrays of `common.unroll.FIELDS` as tensors; subclasses say how they are arranged.

    Attributes:
      rgb, features: observations, one more than actions.
      action: int64.
      log_prob: of `action` under the policy that chose it.
      reward, discount: what followed the action.
      valid: bool, false past an unroll's end.
      mask: bool, `valid` and the player was neither frozen nor out of the game.
      state: the recurrent state before the first step.
      version: int64, of the theta that acted.
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


class Sequences(Steps):
    """The sequences that PPO trains on, sorted by policy: `[P, T, S, ...]`, without T for `state` and `version`.

    Policies with fewer than S sequences are padded; `valid` and `mask` are false there.
    """

    def columns(self, which: Tensor) -> "Sequences":
        """Returns some of the S sequences of every policy."""
        return Sequences(**{name: x[:, :, which] if name in TIMED else x[:, which] for name, x in vars(self).items()})


class StepSum(NamedTuple):
    """A sum over the steps of each policy and the number of those steps, both [P].

    Kept apart so that processes that share a minibatch can add up both before they divide.
    """

    total: Tensor
    steps: Tensor

    def mean(self) -> Tensor:
        """Returns the mean over each policy's steps, [P]; 0 for a policy that has none."""
        return self.total / self.steps.clamp(min=1)


Mean = Callable[[StepSum], Tensor]
"""Turns a sum over this process' share of a minibatch into the mean over the whole minibatch, [P]."""


def sum_steps(x: Tensor, mask: Tensor) -> StepSum:
    """Sums x [P, T, S] over each policy's steps where mask [P, T, S] is true."""
    return StepSum((x * mask).sum((1, 2)), mask.sum((1, 2)).to(x.dtype))


def policy_mean(x: Tensor, mask: Tensor) -> Tensor:
    """Returns the mean of x [P, T, S] over each policy's steps where mask is true: [P]."""
    return sum_steps(x, mask).mean()
