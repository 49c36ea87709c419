"""Reads the numbers and labels back from a figure."""

from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

Array = NDArray[np.float64]


def titles(figure: Figure) -> list[str]:
    """The titles of the panels, which the project's style sets on the left."""
    return [axes.get_title("left") for axes in figure.axes]


def lines(axes: Any) -> dict[str, Array]:
    """The points of each line by its label: [points, 2]."""
    return {line.get_label(): np.array(line.get_data(), np.float64).T for line in axes.lines}


def boxes(patches: Any) -> list[tuple[float, float, float, float]]:
    """The left, bottom, right and top edges of bars."""
    corners = [(p.get_x(), p.get_y(), p.get_width(), p.get_height()) for p in patches]
    return [(x, y, x + width, y + height) for x, y, width, height in corners]


def segments(collection: Any) -> Array:
    """The ends of a collection's line segments: [segments, 2, 2]."""
    return np.array(collection.get_segments(), np.float64)


def grid(axes: Any) -> Array:
    """The values of a heat map; nan where it has none."""
    return np.ma.filled(np.ma.asarray(axes.images[0].get_array()), np.nan)


def texts(labels: Any) -> list[str]:
    """The texts of labels."""
    return [label.get_text() for label in labels]
