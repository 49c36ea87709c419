"""Saves work on images: the precision to compute them in, and the images that need not be computed at all."""

from functools import cache

import torch
from torch import Tensor


@cache
def image_dtype(precision: str, device: torch.device) -> torch.dtype:
    """Returns the type in which images are computed.

    Args:
      precision: `network.precision`: `float32`, `bfloat16`, or `auto` for bfloat16 where the hardware multiplies it
        faster.
      device: where they are computed.
    """
    if precision == "auto":
        if device.type == "cuda":
            fast = torch.cuda.is_bf16_supported(including_emulation=False)
        else:
            found: dict[str, object] = getattr(torch.cpu, "get_capabilities", dict)()  # torch 2.10 may lack it
            fast = bool(found.get("avx512_bf16") or found.get("amx_bf16"))
        return torch.bfloat16 if fast else torch.float32
    return {"float32": torch.float32, "bfloat16": torch.bfloat16}[precision]


# oneDNN prepares a new convolution for every number of images, so that number is rounded up to a multiple of this.
ROUND = 64
# With fewer images, such as an actor's, looking for black ones takes longer than computing them.
MIN_IMAGES = 256


def distinct(images: Tensor) -> tuple[Tensor, Tensor]:
    """Finds the images that have to be computed: all black ones, which removed players see, are identical.

    In the arenas up to a third of all images are black.

    Args:
      images: [M, H, W, 3].

    Returns: the rows to compute, [K] int64, some of them repeated, and where among them each image is, [M] int64.
    """
    seen = images.flatten(1).amax(1) > 0
    rows = seen.nonzero().squeeze(1)
    if len(rows) == len(seen):
        return rows, rows
    black = (~seen).nonzero()[:1, 0].expand(ROUND - len(rows) % ROUND)
    return torch.cat([rows, black]), torch.where(seen, seen.cumsum(0) - 1, len(rows))
