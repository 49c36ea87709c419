"""What learner, distiller, actors and evaluator exchange: versions of policies, and observations to distil on."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import torch

THETA, PHI = "theta", "phi"
PHI_VERSION = PHI + ":"
"""Begins the name of a kept version of phi, such as `phi:12`; `phi` alone is the newest."""


@dataclass(frozen=True)
class Weights:
    """One version of a network's parameters.

    Attributes:
      version: rises by one with every publication and never goes back.
      parameters: tensors by name, each with the leading policy axis [P, ...].
      source_version: for phi, the version of theta that it was last distilled from; for theta, its own.
      direction: for phi, the event that produced it: `initial`, `forward` or `reverse`; empty for theta.
    """

    version: int
    parameters: "Mapping[str, torch.Tensor]"
    source_version: int = 0
    direction: str = ""


@dataclass(frozen=True)
class Observations:
    """D, what the distiller distils on: the observations of all players in one update, as sequences.

    Attributes:
      update: the learner's update that they come from.
      rgb: [T, B, N, H, W, 3] uint8.
      features: [T, B, N, F] float32.
      policy: [B, N] int64, each player's policy index.
      mask: [T, B, N] bool, false where a row is padding or its player was frozen or out of the game.
    """

    update: int
    rgb: np.ndarray[Any, np.dtype[np.uint8]]
    features: np.ndarray[Any, np.dtype[np.float32]]
    policy: np.ndarray[Any, np.dtype[np.int64]]
    mask: np.ndarray[Any, np.dtype[np.bool_]]


def to_fields(weights: Weights) -> dict[str, Any]:
    """Returns the fields of a version's hash in Redis."""
    import safetensors.torch  # here, because commands that only look at a run should not load torch

    data = safetensors.torch.save({k: v.detach().cpu().contiguous() for k, v in weights.parameters.items()})
    return {
        "version": weights.version,
        "source_version": weights.source_version,
        "direction": weights.direction,
        "digest": hashlib.sha256(data).hexdigest(),
        "bytes": data,
    }


def from_fields(fields: Mapping[bytes, bytes]) -> Weights:
    """Reads back what `to_fields` returned.

    Raises:
      ValueError: if the data is damaged.
    """
    import safetensors.torch

    data = fields.get(b"bytes", b"")
    if hashlib.sha256(data).hexdigest().encode() != fields.get(b"digest"):
        raise ValueError("the data does not match its digest")
    return Weights(
        int(fields[b"version"]),
        safetensors.torch.load(data),
        int(fields[b"source_version"]),
        fields[b"direction"].decode(),
    )
