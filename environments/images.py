"""Reduces images to what a policy sees."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


def block_mean(rgb: Sequence[NDArray[np.uint8]], block: int) -> NDArray[np.uint8]:
    """Reduces images to the mean of each block x block square, rounding halves to even.

    Args:
      rgb: N images [H, W, 3], H and W multiples of `block`.
      block: edge of a square in pixels.

    Returns: [N, H / block, W / block, 3].
    """
    if block == 1:
        return np.stack(rgb)
    n, (height, width, _) = len(rgb), rgb[0].shape
    # The axis that is summed comes first, for rows and then for columns: numpy adds long arrays fast and short axes
    # slowly. BLAS is avoided because its threads cost more than they save.
    rows = np.empty((block, n, height // block, width * 3), np.uint16 if block <= 16 else np.uint32)
    for i, image in enumerate(rgb):
        rows[:, i] = image.reshape(height // block, block, width * 3).swapaxes(0, 1)
    bands = np.add.reduce(rows, axis=0, dtype=rows.dtype).reshape(-1, block * 3)
    total = np.add.reduce(np.ascontiguousarray(bands.T).reshape(block, 3, -1), axis=0, dtype=rows.dtype)
    means: NDArray[np.uint8] = np.rint(total.astype(np.float32) / np.float32(block**2)).astype(np.uint8)
    return np.ascontiguousarray(means.T).reshape(n, height // block, width // block, 3)
