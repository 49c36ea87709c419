"""What learner, distiller, actors and evaluator exchange: versions of policies, and observations to distil on."""

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgpack
import numpy as np

from common import tensors

if TYPE_CHECKING:
    import torch

THETA, PHI = "theta", "phi"
PHI_VERSION = PHI + ":"
"""Begins the name of a kept version of phi, such as `phi:12`; `phi` alone is the newest."""


def is_phi_version(driver: str) -> bool:
    """Returns whether a driver is a kept version of phi."""
    return driver.startswith(PHI_VERSION)


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

    def pack(self) -> dict[str, Any]:
        """Returns a version as the fields of a hash."""
        data = tensors.pack(self.parameters)
        return {
            "version": self.version,
            "source_version": self.source_version,
            "direction": self.direction,
            "digest": hashlib.sha256(data).hexdigest(),
            "bytes": data,
        }

    @classmethod
    def unpack(cls, fields: Mapping[bytes, bytes]) -> "Weights":
        """Returns a version from the fields of a hash.

        Raises:
          ValueError: if the data does not match its digest, or holds no tensors.
          KeyError: if a field is missing.
        """
        data = fields.get(b"bytes", b"")
        if hashlib.sha256(data).hexdigest().encode() != fields.get(b"digest"):
            raise ValueError("the data does not match its digest")
        version, source = int(fields[b"version"]), int(fields[b"source_version"])
        return cls(version, tensors.unpack(data), source, fields[b"direction"].decode())


_DTYPES = {"rgb": np.uint8, "features": np.float32, "policy": np.int64, "mask": np.bool_}


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

    def pack(self) -> dict[str, Any]:
        """Returns D as the fields of an entry in a stream."""
        arrays = {name: np.ascontiguousarray(getattr(self, name)) for name in _DTYPES}
        table = msgpack.packb({name: (x.dtype.str, x.shape) for name, x in arrays.items()})
        return {"update": self.update, "table": table, **{name: x.tobytes() for name, x in arrays.items()}}

    @classmethod
    def unpack(cls, fields: Mapping[bytes, bytes]) -> "Observations":
        """Returns D from the fields of an entry in a stream.

        Raises:
          ValueError: if they are not what `pack` makes.
        """
        try:
            table = msgpack.unpackb(fields[b"table"])
            arrays = {}
            for name, dtype in _DTYPES.items():
                (found, shape), data = table[name], fields[name.encode()]
                size = math.prod(shape) * np.dtype(dtype).itemsize
                if found != np.dtype(dtype).str or size != len(data):
                    raise ValueError(f"{name}: {len(data)} bytes for {found} {shape}, expected {np.dtype(dtype).str}")
                arrays[name] = np.frombuffer(data, dtype=dtype).reshape(shape)
            return cls(int(fields[b"update"]), **arrays)
        except (msgpack.UnpackException, KeyError, TypeError, AttributeError, RecursionError, OverflowError) as error:
            raise ValueError(f"not observations: {type(error).__name__} {error}") from None
