"""Sorts rows by policy, for networks that compute several policies at once."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

# Policies are computed together if one has at most this many times the rows of another.
SIMILAR = 4


@dataclass(frozen=True)
class Arrangement:
    """The rows of each policy. Policies with fewer than S rows are padded.

    Attributes:
      index: [P, S] int64, the numbers of the rows.
      valid: [P, S] bool, false where it is padding.
    """

    index: Tensor
    valid: Tensor

    def to(self, device: torch.device) -> "Arrangement":
        """Returns the same arrangement on another device."""
        return Arrangement(self.index.to(device), self.valid.to(device))

    def gather(self, x: Tensor, axis: int = 0) -> Tensor:
        """Gathers rows along an axis: [..., R, ...] -> [P, ..., S, ...]."""
        taken = x.index_select(axis, self.index.flatten())
        return taken.reshape(*x.shape[:axis], *self.index.shape, *x.shape[axis + 1 :]).movedim(axis, 0)

    def scatter(self, x: Tensor, rows: int) -> Tensor:
        """Undoes `gather` along axis 0: [P, S, ...] -> [R, ...], zeros for rows that belong to no policy."""
        out = x.new_zeros(rows, *x.shape[2:])
        out[self.index[self.valid]] = x[self.valid]
        return out


def arrange(policy_index: NDArray[np.int64], policies: int) -> Arrangement:
    """Sorts rows by their policy.

    Args:
      policy_index: [R], each row's policy; negative leaves the row out.
      policies: P.
    """
    groups = [np.flatnonzero(policy_index == p) for p in range(policies)]
    longest = max(1, max(map(len, groups)))
    index = np.zeros((policies, longest), np.int64)
    valid = np.zeros((policies, longest), bool)
    for p, rows in enumerate(groups):
        index[p, : len(rows)] = rows
        valid[p, : len(rows)] = True
    return Arrangement(torch.from_numpy(index), torch.from_numpy(valid))


def batches(policy_index: NDArray[np.int64], policies: int) -> list[tuple[list[int], Arrangement]]:
    """Sorts rows by their policy, in batches of policies with similar numbers of rows.

    One arrangement of all would pad those that drive a player or two to the length of one that drives most.

    Args:
      policy_index: [R], each row's policy; negative leaves the row out.
      policies: P; every one of them has a row.

    Returns: for each batch its policies, those with most rows first, and the arrangement of their rows.
    """
    counts = np.bincount(policy_index[policy_index >= 0], minlength=policies)
    found: list[list[int]] = []
    for p in np.argsort(-counts, kind="stable").tolist():
        if not found or counts[p] * SIMILAR < counts[found[-1][0]]:
            found.append([])
        found[-1].append(p)
    own = np.full(policies, -1)
    made = []
    for batch in found:
        own[:] = -1
        own[batch] = range(len(batch))
        made.append((batch, arrange(np.where(policy_index < 0, -1, own[policy_index]), len(batch))))
    return made
