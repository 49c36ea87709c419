"""Collates unrolls into the batch of an update, and picks the sequences that are trained on."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from common.unroll import FIELDS, Unroll
from common.weights import Observations
from networks.arrangement import arrange
from networks.sequences import TIMED, Sequences, Steps


@dataclass(frozen=True)
class Batch(Steps):
    """B unrolls of N players as R = B * N rows: `[T, R, ...]`, without T for `state` and `version`.

    Row r is player r % N of unroll r // N. Shorter unrolls are padded with zeros.

    Attributes:
      learning: [R] bool, v: whether theta drove the player.
      policy_index: [R] int64.
      players: N.
    """

    learning: NDArray[np.bool_]
    policy_index: NDArray[np.int64]
    players: int

    @property
    def player_steps(self) -> int:
        """The number of steps of all players, learning or not."""
        return int(self.valid.sum())

    def observations(self, update: int) -> Observations:
        """Returns the observations of all players, for the distiller."""
        shape = (len(self.policy_index) // self.players, self.players)
        rgb, features = (x[:-1].unflatten(1, shape).cpu().numpy() for x in (self.rgb, self.features))
        mask = self.mask.unflatten(1, shape).cpu().numpy()
        return Observations(update, rgb, features, self.policy_index.reshape(shape), mask)


def collate(unrolls: Sequence[Unroll], unroll_length: int, device: torch.device) -> Batch:
    """Collates unrolls.

    Args:
      unrolls: B of them, each of at most `unroll_length` steps.
      unroll_length: T.
      device: where the batch is put.
    """
    players = len(unrolls[0].header.learning)
    arrays: dict[str, NDArray[Any]] = {}
    for name, field in FIELDS.items():
        if field.timed:
            length = unroll_length + (field.axes[0] == "T+1")
            arrays[name] = _padded([getattr(unroll, name) for unroll in unrolls], length)
    steps = np.array([unroll.env_steps for unroll in unrolls])
    valid = np.repeat((np.arange(unroll_length)[:, None] < steps)[:, :, None], players, axis=2)
    arrays |= {"valid": valid, "mask": valid & arrays.pop("active")}
    tensors = {name: torch.from_numpy(array).flatten(1, 2) for name, array in arrays.items()}
    tensors["action"] = tensors["action"].long()
    tensors["state"] = torch.from_numpy(np.concatenate([unroll.state for unroll in unrolls]))
    tensors["version"] = torch.tensor([unroll.header.theta_version for unroll in unrolls]).repeat_interleave(players)
    return Batch(
        **{name: x.to(device, non_blocking=True) for name, x in tensors.items()},
        learning=np.array([unroll.header.learning for unroll in unrolls]).ravel(),
        policy_index=np.array([unroll.header.policy for unroll in unrolls], np.int64).ravel(),
        players=players,
    )


def trained_sequences(
    batch: Batch, trained: NDArray[np.bool_], policies: int, *extra: Tensor
) -> tuple[Sequences, tuple[Tensor, ...]]:
    """Sorts the rows that PPO trains on by policy.

    A recurrent state that came from another policy means nothing to theta and is replaced by zeros.

    Args:
      batch: all rows.
      trained: [R] bool, the rows to take.
      policies: P.
      extra: further arrays [T+1, R, D], of which the same rows are taken.

    Returns: the sequences, and each of `extra` as [P, T+1, S, D].
    """
    arrangement = arrange(np.where(trained, batch.policy_index, -1), policies).to(batch.reward.device)
    take = arrangement.gather
    arrays = {name: take(getattr(batch, name), 1) for name in TIMED}
    for name in ("valid", "mask"):
        arrays[name] = arrays[name] & arrangement.valid[:, None]
    learning = torch.from_numpy(batch.learning).to(batch.state.device)
    state = take(batch.state * learning[:, None])
    return Sequences(**arrays, state=state, version=take(batch.version)), tuple(take(x, 1) for x in extra)


def _padded(parts: Sequence[NDArray[Any]], length: int) -> NDArray[Any]:
    """Stacks arrays [T, ...] of up to `length` rows as [length, B, ...], filled up with zeros."""
    whole = np.zeros((length, len(parts), *parts[0].shape[1:]), parts[0].dtype)
    for i, part in enumerate(parts):
        whole[: len(part), i] = part
    return whole
