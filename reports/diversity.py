"""How different the policies are that were met in training: the numbers with their intervals, and a picture."""

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
    """What was found of one run.

    Attributes:
      run, method: whose.
      policies: labels of the policies that were met, in the order of `distances`.
      distances: total variation between each two, mean over observations.
      mean: over all pairs; low, high: its 95% interval by a bootstrap over the observed players.
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
      out: a folder; made if missing.
      seed: of the games that are played.

    Raises: as `evaluator.diversity.distances`.
    """
    found = [_diversity(measured) for measured in distances(folders, seed)]
    out.mkdir(parents=True, exist_ok=True)
    write(out / "diversity.json", json.dumps([asdict(d) for d in found], indent=1).encode())
    _draw(found, out / "diversity.png")
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
        config.run.name, config.method.name, [m.label for m in met], np.round(mean, 4).tolist(),
        float(pairs.mean()), low, high, {k: float(np.mean(ds)) for k, ds in by_kind.items() if ds},
    )  # fmt: skip


def _draw(found: Sequence[Diversity], path: Path) -> None:
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
