"""The look of the project's figures."""

from typing import Any

# Okabe and Ito's colour-blind-safe palette.
BLUE, VERMILLION, GREEN, PURPLE, ORANGE, SKY = "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9"
COLOURS = (BLUE, VERMILLION, GREEN, PURPLE, ORANGE, SKY, "#202020", "#882255", "#999933", "#F0E442")
GREY, LIGHT_GREY = "#6E6E6E", "#D0D0D0"
STYLE: Any = {
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#B0B0B0",
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#E6E6E6",
    "grid.linewidth": 0.6,
    "xtick.color": "#404040",
    "ytick.color": "#404040",
    "axes.labelcolor": "#404040",
    "axes.titlelocation": "left",
    "axes.titlesize": 10,
    "axes.labelsize": 9,
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
    "legend.frameon": False,
    "legend.fontsize": 9,
    "lines.solid_capstyle": "round",
    "savefig.dpi": 150,
    "figure.constrained_layout.use": True,
}


def emphasis(name: str) -> str:
    """Returns the colour of a method that has a row or panel of its own: BiDist and its variants stand out."""
    return VERMILLION if name.startswith("bidist") else BLUE
