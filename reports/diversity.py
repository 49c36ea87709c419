"""How diverse the policies met in training are: the distances with their intervals, and a figure."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from common.files import write
from common.run_folder import RunFolder
from evaluator.diversity import Distances, distances
from reports.statistics import limits, mean_draws
from reports.style import COLOURS, STYLE


@dataclass(frozen=True)
class Diversity:
    """The diversity of one run.

    Attributes:
      run, method: the run's name and method.
      policies: labels of the policies met, in the order of `distances`.
      distances: total variation of each pair, mean over observations.
      mean, low, high: mean over all pairs, and its 95% interval by a bootstrap over the observed players.
      by_kind: mean distance of the newest theta from the policies of each kind.
    """

    run: str
    method: str
    policies: list[str]
    distances: list[list[float]]
    mean: float
    low: float
    high: float
    by_kind: dict[str, float]


def compare(folders: Sequence[RunFolder], out: Path, seed: int = 0) -> list[Diversity]:
    """Measures runs of one game, and writes `diversity.json` and `diversity.png`.

    Args:
      folders: the runs'.
      out: a folder; created if missing.
      seed: of the games played.

    Raises: as `evaluator.diversity.distances`.
    """
    found = [_diversity(measured) for measured in distances(folders, seed)]
    out.mkdir(parents=True, exist_ok=True)
    write(out / "diversity.json", json.dumps([asdict(d) for d in found], indent=1).encode())
    draw_distances(found, out / "diversity.png")
    return found


def _diversity(measured: Distances) -> Diversity:
    met, config = measured.met, measured.config
    pairs = measured.apart[np.triu_indices(len(met), 1)]
    mean = measured.apart.mean(-1)
    own = mean[measured.newest]
    kinds = sorted({m.kind for m in met})
    by_kind = {
        k: [d for i, (m, d) in enumerate(zip(met, own, strict=True)) if m.kind == k and i != measured.newest]
        for k in kinds
    }
    low, high = limits(mean_draws(pairs.mean(0), np.random.default_rng(0)))
    return Diversity(
        run=config.run.name,
        method=config.method.name,
        policies=[m.label for m in met],
        distances=np.round(mean, 4).tolist(),
        mean=float(pairs.mean()),
        low=low,
        high=high,
        by_kind={k: float(np.mean(ds)) for k, ds in by_kind.items() if ds},
    )


def draw_distances(found: Sequence[Diversity], path: Path) -> Figure:
    """Draws and saves the mean distances, as bars with intervals, and a heat map of all distances per run."""
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(3.6 + 3.4 * len(found), 4.2))
        panels = figure.subplots(1, 1 + len(found), width_ratios=[1, *[1.6] * len(found)])
        for i, d in enumerate(found):
            panels[0].bar(i, d.mean, 0.6, color=COLOURS[i % len(COLOURS)])
            panels[0].errorbar(i, d.mean, [[d.mean - d.low], [d.high - d.mean]], color="#202020", capsize=3)
        panels[0].set_xticks(range(len(found)), [d.run for d in found], rotation=30, ha="right")
        panels[0].set_ylabel("total variation, mean over pairs")
        panels[0].set_title("policies met in training")
        top = max(max(map(max, d.distances)) for d in found) or 1.0
        for axes, d in zip(panels[1:], found, strict=True):
            image = axes.imshow(d.distances, vmin=0, vmax=top, cmap="viridis")
            axes.set_xticks(range(len(d.policies)), d.policies, rotation=90)
            axes.set_yticks(range(len(d.policies)), d.policies)
            axes.grid(False)
            axes.set_title(d.run)
        figure.colorbar(image, ax=panels[1:].tolist(), label="total variation", shrink=0.8)
        figure.savefig(path)
    return figure
