"""A run's summary: its returns beside those of a random population, its speed, and its learning curve."""

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from common import checkpoint
from common.errors import CheckpointError
from common.files import write
from common.run_folder import RunFolder
from reports.curves import draw_run
from reports.provenance import circumstances

if TYPE_CHECKING:
    from reports.statistics import Interval

EPISODES = 16
# Only a stop and a resumption leave a longer gap between two updates.
PAUSE_S = 30.0


@dataclass(frozen=True)
class Summary:
    """The contents of `summary.json`.

    Attributes:
      run, method, substrate, seed: identify the run.
      player_steps, updates: its length.
      wall_s: from waiting for the first batch to the last update, without the time between a stop and a resumption.
      player_steps_per_s: mean over `wall_s`.
      return_learning, return_others: at the end of training, per player, means over the newest 20 episodes.
      trained, random: return per player of the newest checkpoint's population playing itself, and of random players;
        None if no games were played.
      checkpoint: the name of that checkpoint.
      ledger: what became of all unrolls, in words.
      circumstances: hardware, versions, commit.
    """

    run: str
    method: str
    substrate: str
    seed: int
    player_steps: int
    updates: int
    wall_s: float
    player_steps_per_s: float
    return_learning: float | None
    return_others: float | None
    trained: "Interval | None"
    random: "Interval | None"
    checkpoint: str
    ledger: str
    circumstances: dict[str, Any]


def write_summary(folder: RunFolder, episodes: int = EPISODES, ledger: str = "") -> Summary:
    """Plays the newest checkpoint and random players; writes `summary.json` and `learning_curve.png`; prints a table.

    Args:
      folder: the run's.
      episodes: how many each of the two populations plays; 0 skips them.
      ledger: the run's ledger, in words.

    Raises:
      CheckpointError: if the run has made no update, or has no complete checkpoint.
    """
    config, lines = folder.read_config(), folder.updates()
    if not lines:
        raise CheckpointError(f"{folder.metrics}: no updates to summarise")
    saved, played = _play(folder, episodes) if episodes else (_newest(folder), {"trained": None, "random": None})
    last, wall_s = lines[-1], wall_time_s(lines)
    summary = Summary(
        run=config.run.name,
        method=config.method.name,
        substrate=config.environment.substrate,
        seed=config.run.seed,
        player_steps=last["player_steps"],
        updates=last["updates"],
        wall_s=round(wall_s, 1),
        player_steps_per_s=round(last["player_steps"] / wall_s, 1),
        return_learning=last.get("return_learning"),
        return_others=last.get("return_others"),
        **played,
        checkpoint=saved.name,
        ledger=ledger,
        circumstances=circumstances(),
    )
    write(folder.summary, json.dumps(asdict(summary), indent=1).encode())
    draw_run(folder, folder.learning_curve)
    _print(summary, folder, saved)
    return summary


def wall_time_s(lines: Sequence[dict[str, Any]]) -> float:
    """Seconds from the start of the first update to the end of the last, without pauses.

    Args:
      lines: of `metrics.jsonl`, at least one.
    """
    busy = [line["wait_s"] + line["update_s"] for line in lines]
    gaps = [after["time_s"] - before["time_s"] for before, after in zip(lines, lines[1:], strict=False)]
    own = (gap if gap < took + PAUSE_S else took for gap, took in zip(gaps, busy[1:], strict=True))
    return float(busy[0] + sum(own))


def _newest(folder: RunFolder) -> Path:
    """Returns the newest checkpoint without loading it."""
    if not (saved := checkpoint.checkpoints(folder.checkpoints)):
        raise CheckpointError(f"{folder.checkpoints}: no complete checkpoint; a run writes its first after a minute")
    return saved[-1]


def _play(folder: RunFolder, episodes: int) -> "tuple[Path, dict[str, Interval | None]]":
    """Plays; returns the checkpoint and the returns. It alone needs torch and scipy, which take seconds to load."""
    import torch

    from evaluator.self_play import ENVIRONMENTS, play, read_checkpoint
    from reports.statistics import interval

    config, saved = folder.read_config(), read_checkpoint(folder)
    played: dict[str, Interval | None] = {}
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # more threads slow such small batches down
    try:
        with _progress() as progress:
            for name, theta in (("trained", saved.tensors["theta"]), ("random", None)):
                # Without a forward pass to share, one game at a time makes better use of the processor's cache.
                games = play(config, theta, episodes, config.run.seed, copies=ENVIRONMENTS if theta else 1)
                what = f"playing {episodes} episodes of the {name} population"
                if progress.disable:
                    print(what, flush=True)
                shown = progress.track(games, episodes, description=what)
                played[name] = interval([episode.mean_return for episode in shown])
    finally:
        torch.set_num_threads(threads)
    return saved.path, played


def _progress() -> Progress:
    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    return Progress(
        *columns, TextColumn("episodes"), TimeElapsedColumn(), transient=True, disable=not sys.stdout.isatty()
    )


def _print(summary: Summary, folder: RunFolder, checkpoint: Path) -> None:
    console = Console()
    table = Table("population", "return per player", "95% interval", "episodes", box=None)
    for name, found in (("trained", summary.trained), ("random", summary.random)):
        if found is not None:
            table.add_row(name, f"{found.mean:.2f}", f"{found.low:.2f} to {found.high:.2f}", str(found.episodes))
    if table.row_count:
        console.print(table)
    console.print(
        f"{summary.player_steps:,} player steps, {summary.updates:,} updates in {summary.wall_s:,.0f} s: "
        f"{summary.player_steps_per_s:,.0f} player steps/s"
    )
    if summary.ledger:
        console.print(f"ledger: {summary.ledger}")
    for name, path in (("run", folder.path), ("checkpoint", checkpoint), ("curve", folder.learning_curve)):
        console.print(f"{name + ':':<12}{path}", soft_wrap=True, highlight=False)
