"""Which rows go to which policy, for networks that compute several policies at once."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


@dataclass(frozen=True)
class Arrangement:
    """Which rows go to which policy.

    Policies have different numbers of rows; the shorter ones are filled up with rows that do not count.

    Attributes:
      index: [P, S] int64, numbers of rows.
      valid: [P, S] bool, false where a place is only filled up.
    """

    index: Tensor
    valid: Tensor

    def to(self, device: torch.device) -> "Arrangement":
        """The same on another device."""
        return Arrangement(self.index.to(device), self.valid.to(device))

    def gather(self, x: Tensor, axis: int = 0) -> Tensor:
        """Takes rows along an axis: [..., R, ...] -> [P, ..., S, ...]."""
        taken = x.index_select(axis, self.index.flatten())
        return taken.reshape(*x.shape[:axis], *self.index.shape, *x.shape[axis + 1 :]).movedim(axis, 0)

    def scatter(self, x: Tensor, rows: int) -> Tensor:
        """The way back, for rows in front: [P, S, ...] -> [R, ...], zeros where no place pointed to a row."""
        out = x.new_zeros(rows, *x.shape[2:])
        out[self.index[self.valid]] = x[self.valid]
        return out


def arrange(policy: NDArray[np.int64], policies: int) -> Arrangement:
    """Sorts rows by their policy.

    Args:
      policy: [R], each row's policy; negative leaves the row out.
      policies: P.
    """
    groups = [np.flatnonzero(policy == p) for p in range(policies)]
    longest = max(1, max(map(len, groups)))
    index = np.zeros((policies, longest), np.int64)
    valid = np.zeros((policies, longest), bool)
    for p, rows in enumerate(groups):
        index[p, : len(rows)] = rows
        valid[p, : len(rows)] = True
    return Arrangement(torch.from_numpy(index), torch.from_numpy(valid))
