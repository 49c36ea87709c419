"""Named tensors as bytes, in the safetensors format, which cannot hold code; checked before anything is allocated."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

MAX_HEADER_BYTES = 4 << 20
"""A thousand tensors take about 100 kB."""


def pack(tensors: "Mapping[str, Tensor]") -> bytes:
    """Returns named tensors as bytes."""
    import safetensors.torch  # here, because commands that only look at a run should not load torch

    data: bytes = safetensors.torch.save({name: x.detach().cpu().contiguous() for name, x in tensors.items()})
    return data


def unpack(data: bytes) -> "dict[str, Tensor]":
    """Returns the tensors that `pack` turned into bytes.

    Raises:
      ValueError: if they are not safetensors, or their header is larger than any of ours.
    """
    import safetensors
    import safetensors.torch

    length = int.from_bytes(data[:8], "little")
    if len(data) < 8 or length > min(MAX_HEADER_BYTES, len(data) - 8):
        raise ValueError(
            f"a header of {length} bytes in {len(data)} bytes; expected safetensors with at most {MAX_HEADER_BYTES}"
        )
    try:
        tensors: dict[str, Tensor] = safetensors.torch.load(data)
    except (safetensors.SafetensorError, RuntimeError, KeyError, TypeError, OverflowError, AttributeError) as error:
        raise ValueError(f"not safetensors: {error}") from None
    return tensors
