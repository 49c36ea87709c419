"""What a finished run came to: a picture of its learning curve and its returns beside those of a random population.

python -m deploy.summary RUN [RUN ...] --out FILE.png    draws the curves of several runs in one picture
"""

import argparse
import json
import os
import platform
import subprocess
import sys
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import torch
from rich.console import Console
from rich.progress import track
from rich.table import Table

from common import checkpoint
from common.config import Config
from common.errors import CheckpointError
from common.files import read_lines, write
from common.run_folder import RunFolder
from evaluator.self_play import play

matplotlib.use("Agg")
from matplotlib import pyplot

EPISODES = 4
BOOTSTRAP_DRAWS = 10_000
# Okabe and Ito's colours, which the colour-blind can tell apart.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
GREY = "#777777"


def write_summary(place: RunFolder, ledger: str = "", episodes: int = EPISODES) -> dict[str, Any]:
    """Plays the newest checkpoint and a random population, writes `summary.json` and `learning_curve.png`, prints both.

    Args:
      place: the run's folder.
      ledger: the run's ledger, in words.
      episodes: how many each of the two plays.

    Raises:
      CheckpointError: if the run has no whole checkpoint.
    """
    config = place.read_config()
    saved = checkpoint.newest(place.checkpoints)
    if saved is None:
        raise CheckpointError(f"{place.checkpoints}: no whole checkpoint to play")
    metrics = read_lines(place.metrics)
    last = metrics[-1]
    played = {}
    torch.set_num_threads(1)
    for name, theta in (("trained", saved.tensors["theta"]), ("random", None)):
        games = play(config, theta, episodes, seed=config.run.seed + 1)
        shown = track(
            games, f"playing the {name} population", episodes, disable=not sys.stdout.isatty(), transient=True
        )
        played[name] = [episode.mean_return for episode in shown]
    summary = {
        "run": config.run.name, "method": config.method.name, "substrate": config.environment.substrate,
        "seed": config.run.seed, "player_steps": last["player_steps"], "updates": last["updates"],
        "wall_s": round(last["time_s"] - metrics[0]["time_s"] + metrics[0]["update_s"] + metrics[0]["wait_s"], 1),
        "return_learning": last.get("return_learning"), "return_fictitious": last.get("return_fictitious"),
        "played_returns": {name: _interval(values) for name, values in played.items()},
        "checkpoint": str(saved.path), "ledger": ledger, **_circumstances(),
    }  # fmt: skip
    write(place.path / "summary.json", json.dumps(summary, indent=1).encode())
    draw([place], place.path / "learning_curve.png", played["random"])
    _print(summary, place)
    return summary


def draw(places: Sequence[RunFolder], path: Path, random_returns: Sequence[float] = ()) -> None:
    """Draws runs' training returns over player steps; below them, for runs that distil, KL at each event.

    Args:
      places: the runs' folders.
      path: the picture.
      random_returns: returns of a random population's episodes, drawn as a line with its range.
    """
    events = {place: read_lines(place.distillation) for place in places}
    distils = any(events.values())
    figure, axes = pyplot.subplots(
        2 if distils else 1, 1, figsize=(8, 5.6 if distils else 4), height_ratios=[3, 1] if distils else [1],
        sharex=True, squeeze=False, layout="constrained",
    )  # fmt: skip
    top = axes[0, 0]
    for place, colour in zip(places, COLOURS * len(places), strict=False):
        config, lines = place.read_config(), read_lines(place.metrics)
        label = _label(config) if len(places) > 1 else "learning players"
        _curve(top, lines, "return_learning", colour, "-", label)
        _curve(top, lines, "return_fictitious", colour, ":", "fictitious players" if len(places) == 1 else "")
        if events[place]:
            _distillation(axes[1, 0], lines, events[place], colour)
    if random_returns:
        mean, deviation = float(np.mean(random_returns)), float(np.std(random_returns))
        top.axhline(mean, color=GREY, lw=1, label="random population")
        top.axhspan(mean - deviation, mean + deviation, color=GREY, alpha=0.15, lw=0)
    top.set_ylabel("return per player and episode")
    top.legend(frameon=False, loc="upper left")
    axes[-1, 0].set_xlabel("player steps")
    names = sorted({place.read_config().environment.substrate for place in places})
    top.set_title(", ".join(names), loc="left", fontsize=10)
    for axis in axes.flat:
        axis.spines[["top", "right"]].set_visible(False)
        axis.grid(alpha=0.25, lw=0.5)
    figure.savefig(path, dpi=130)
    pyplot.close(figure)


def _curve(axis: Any, lines: Sequence[dict[str, Any]], name: str, colour: str, style: str, label: str) -> None:
    points = [(line["player_steps"], line[name]) for line in lines if line.get(name) is not None]
    if points:
        axis.plot(*zip(*points, strict=True), color=colour, ls=style, lw=1.6, label=label or None)


def _distillation(axis: Any, lines: Sequence[dict[str, Any]], events: Sequence[dict[str, Any]], colour: str) -> None:
    """An arrow's foot and head for each event: eq. 2 before it and after it."""
    steps = {line["updates"]: line["player_steps"] for line in lines}
    for event in events:
        if (x := steps.get(event["update"])) is None:
            continue
        before, after = event["kl_before_nats"], event["kl_after_nats"]
        up = event["direction"] == "reverse"
        axis.plot([x, x], [before, after], color=colour, lw=1.2, alpha=0.7)
        axis.plot(x, after, marker="^" if up else "v", color=colour, ms=4, ls="")
    axis.set_ylabel("KL, nats")
    axis.set_title("distillation: ▼ forward, ▲ reverse", loc="left", fontsize=8)


def _label(config: Config) -> str:
    return f"{config.method.name}, seed {config.run.seed}"


def _interval(values: Sequence[float]) -> dict[str, Any]:
    """Mean and its 95% interval by the bootstrap over episodes."""
    draws = np.random.default_rng(0).choice(values, (BOOTSTRAP_DRAWS, len(values))).mean(1)
    low, high = np.percentile(draws, [2.5, 97.5])
    return {"mean": float(np.mean(values)), "low": float(low), "high": float(high), "episodes": len(values)}


def _circumstances() -> dict[str, Any]:
    names = ("bidist", "torch", "numpy", "dm-meltingpot", "dmlab2d")
    versions = {}
    for name in names:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            versions[name] = "not installed"
    return {"versions": versions, "commit": _commit(), "hardware": hardware()}


def hardware() -> dict[str, Any]:
    """Cores that may be used and the processor's name."""
    model = platform.processor() or platform.machine()
    information = Path("/proc/cpuinfo")
    if information.exists():
        named = [line for line in information.read_text().splitlines() if line.startswith("model name")]
        model = named[0].partition(":")[2].strip() if named else model
    return {"cores": len(os.sched_getaffinity(0)), "processor": model}


def _commit() -> str | None:
    command = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None


def _print(summary: dict[str, Any], place: RunFolder) -> None:
    console = Console()
    table = Table("population", "return per player", "95% interval", "episodes", box=None)
    for name, found in summary["played_returns"].items():
        interval = f"{found['low']:.2f} to {found['high']:.2f}"
        table.add_row(name, f"{found['mean']:.2f}", interval, str(found["episodes"]))
    console.print(table)
    rate = summary["player_steps"] / summary["wall_s"] if summary["wall_s"] > 0 else 0
    console.print(f"{summary['player_steps']:,} player steps in {summary['wall_s']:.0f} s, {rate:,.0f}/s")
    console.print(f"ledger: {summary['ledger']}")
    console.print(f"run:        {place.path}\ncheckpoint: {summary['checkpoint']}")
    console.print(f"curve:      {place.path / 'learning_curve.png'}")


def main() -> None:
    """Draws several runs in one picture."""
    parser = argparse.ArgumentParser("python -m deploy.summary", description=main.__doc__)
    parser.add_argument("runs", nargs="+", type=Path, help="run folders")
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    draw([RunFolder(path) for path in arguments.runs], arguments.out)


if __name__ == "__main__":
    main()
