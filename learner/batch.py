"""Unrolls put together for an update."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from common.unroll import Unroll
from common.weights import Observations
from networks.arrangement import arrange
from networks.sequences import Sequences


@dataclass(frozen=True)
class Batch:
    """B unrolls of N players as R = B * N sequences; row r is player r % N of unroll r // N.

    Shorter unrolls are filled up with zeros.

    Attributes:
      rgb: [T+1, R, H, W, 3] uint8.
      features: [T+1, R, F].
      action: [T, R] int64.
      log_prob, reward, discount: [T, R].
      valid: [T, R] bool, false behind an unroll's end.
      mask: [T, R] bool, `valid` less the steps of players who were frozen or out of the game.
      state: [R, S].
      learning: [R] bool, v.
      policy: [R] int64.
      version: [R] int64, of the theta that acted.
      players: N.
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
    learning: NDArray[np.bool_]
    policy: NDArray[np.int64]
    version: Tensor
    players: int

    @property
    def player_steps(self) -> int:
        """Steps in it, of all players, learning or not."""
        return int(self.valid.sum())

    def observations(self, update: int) -> Observations:
        """Its observations, all players, for the distiller."""
        shape = (len(self.policy) // self.players, self.players)
        return Observations(
            update,
            self.rgb[:-1].unflatten(1, shape).cpu().numpy(),
            self.features[:-1].unflatten(1, shape).cpu().numpy(),
            self.policy.reshape(shape),
            self.mask.unflatten(1, shape).cpu().numpy(),
        )


def trained_sequences(
    batch: Batch, trained: NDArray[np.bool_], policies: int, *extra: Tensor
) -> tuple[Sequences, tuple[Tensor, ...]]:
    """Takes the rows that PPO trains on, [R] bool, and the same rows of each extra [T+1, R, D] as [P, T+1, S, D].

    The recurrent state that came with a player whom another policy drove means nothing to theta: it starts as zeros.
    """
    arrangement = arrange(np.where(trained, batch.policy, -1), policies).to(batch.reward.device)
    take = arrangement.gather
    filled = {
        name: take(getattr(batch, name), 1)
        for name in ("rgb", "features", "action", "log_prob", "reward", "discount", "valid", "mask")
    }
    for name in ("valid", "mask"):
        filled[name] = filled[name] & arrangement.valid[:, None]
    learning = torch.from_numpy(batch.learning).to(batch.state.device)
    state = take(batch.state * learning[:, None])
    return Sequences(**filled, state=state, version=take(batch.version)), tuple(take(x, 1) for x in extra)


def collate(unrolls: Sequence[Unroll], unroll_length: int, device: torch.device) -> Batch:
    """Puts unrolls together.

    Args:
      unrolls: B of them, each of at most `unroll_length` steps.
      unroll_length: T.
      device: where the batch shall lie.
    """
    t, b, n = unroll_length, len(unrolls), len(unrolls[0].header.learning)
    arrays = {}
    for name, length in (
        ("rgb", t + 1),
        ("features", t + 1),
        ("active", t),
        ("action", t),
        ("log_prob", t),
        ("reward", t),
        ("discount", t),
    ):
        first = getattr(unrolls[0], name)
        whole = arrays[name] = np.zeros((length, b, *first.shape[1:]), first.dtype)
        for i, unroll in enumerate(unrolls):
            part = getattr(unroll, name)
            whole[: len(part), i] = part
    valid = np.arange(t)[:, None] < np.array([unroll.env_steps for unroll in unrolls])
    valid = np.repeat(valid[:, :, None], n, axis=2)
    mask = valid & arrays.pop("active")
    tensors = {name: torch.from_numpy(a).flatten(1, 2) for name, a in (arrays | {"valid": valid, "mask": mask}).items()}
    tensors["action"] = tensors["action"].long()
    tensors["state"] = torch.from_numpy(np.concatenate([unroll.state for unroll in unrolls]))
    tensors["version"] = torch.tensor([unroll.header.theta_version for unroll in unrolls]).repeat_interleave(n)
    return Batch(
        **{name: x.to(device, non_blocking=True) for name, x in tensors.items()},
        learning=np.array([unroll.header.learning for unroll in unrolls]).ravel(),
        policy=np.array([unroll.header.policy for unroll in unrolls], np.int64).ravel(),
        players=n,
    )
