"""Seconds of wall clock, start-up included, until training earns a given return: this project, and its peers."""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from rich.console import Console
from rich.table import Table

from common.errors import ConfigError
from common.files import write
from environments.substrates import substrate_config
from experiments.speed.peers.installation import install
from experiments.speed.peers.line_up import Install, LineUp, same, shared
from experiments.speed.peers.systems import Line, System, follow, of_bidist
from reports.provenance import circumstances

Goals = Mapping[str, Sequence[float]]
GOALS: Goals = {
    "pure_coordination_in_the_matrix__arena": (3.0, 5.0),
    "prisoners_dilemma_in_the_matrix__arena": (20.0,),
}
"""Returns by game, per player: means over the newest 20 episodes of all players that learn."""


def goals(substrate: str | None, returns: Sequence[float] | None) -> Goals:
    """Returns what to reach where: what was asked for, or `GOALS`.

    Raises:
      ConfigError: if a game lacks returns, or returns lack a game.
    """
    if substrate is None:
        if returns:
            raise ConfigError(f"--return {returns[0]:g}: name the game with --substrate")
        return GOALS
    chosen = tuple(returns or GOALS.get(substrate, ()))
    if not chosen:
        raise ConfigError(f"--substrate {substrate}: no return is set for this game; give one with --return")
    return {substrate: chosen}


@dataclass(frozen=True)
class Reached:
    """What a run reached: for each return the seconds it took, or None; and its last line, None if it wrote none."""

    seconds: dict[float, float | None]
    last: Line | None


def reach(goals: Sequence[float], limit_s: float, system: System) -> Reached:
    """Trains until all returns are reached, or the limit."""
    with closing(follow(system, limit_s)) as lines:
        return reached(lines, goals)


def reached(lines: Iterable[Line], goals: Sequence[float]) -> Reached:
    """Returns when a run reached each return, without reading on after the last."""
    seconds: dict[float, float | None] = dict.fromkeys(goals)
    last: Line | None = None
    for last in lines:
        for goal, reached_s in seconds.items():
            if reached_s is None and last.returned is not None and last.returned >= goal:
                seconds[goal] = round(last.elapsed_s, 1)
        if None not in seconds.values():
            break
    return Reached(seconds, last)


def run(
    goals: Goals,
    limit_s: float,
    rounds: int,
    out: Path | None,
    peers: Sequence[str],
    epochs: int,
    folder: Path,
    install: Install = install,
    measure: Callable[[Sequence[float], float, System], Reached] = reach,
) -> int:
    """Trains all systems on all games in turn and prints a table for each game.

    Args:
      goals: returns by game.
      limit_s: when a run is stopped that has not reached them.
      rounds: runs of each system on each game; their seeds are 0, 1, ...
      out: JSON file for the figures; None writes none.
      peers: names of those to measure; none for all.
      epochs: the peers' passes over a batch.
      folder: for the peers' environments.
      install: installs a peer into the folder.
      measure: trains a system until it earns some returns, or the limit.

    Raises:
      ConfigError: if there is no such game or peer, or there is nothing to measure.
    """
    if limit_s <= 0 or rounds < 1:
        raise ConfigError(f"--seconds {limit_s:g} --rounds {rounds}: both must be positive")
    for substrate in goals:
        substrate_config(substrate)
    console, rows = Console(highlight=False), []
    line_up = LineUp.of(peers, folder, install, console.print)
    for substrate, returns in goals.items():
        found: dict[str, list[Reached]] = {}
        for seed in range(rounds):
            for system in (*_ours(substrate, seed), *line_up.systems(same(substrate, epochs, seed))):
                done = line_up.attempt(system, partial(measure, returns, limit_s))
                if done is not None:
                    found.setdefault(system.label, []).append(done)
                    rows.append({"substrate": substrate, "what": system.label, **_row(done), **system.described()})
                    console.print(f"{substrate}, seed {seed}: {system.label} ended at {_end(done)}")
        _print(console, substrate, returns, limit_s, found)
    for label, reason in line_up.missing.items():
        console.print(f"{label} is missing: {reason}")
    if out is not None:
        document = {"command": _command(goals, limit_s, rounds, peers, epochs), "limit_s": limit_s, "results": rows}
        document |= {"missing": line_up.missing, **circumstances()}
        write(out, json.dumps(document, indent=1).encode())
        console.print(f"written to {out}")
    return 0


def _ours(substrate: str, seed: int) -> list[System]:
    game = shared(substrate, seed)
    return [of_bidist(label, game | {"method.name": label.lower()}) for label in ("BiDist", "MAPPO")]


def _row(done: Reached) -> dict[str, object]:
    return {"seconds": done.seconds, "last": None if done.last is None else done.last._asdict()}


def _end(done: Reached) -> str:
    if done.last is None:
        return "nothing: it reported no update"
    elapsed_s, player_steps, returned = done.last
    earned = "no episode was over" if returned is None else f"return {returned:.2f}"
    return f"{elapsed_s:.0f} s, {player_steps:,} player steps, {earned}"


def _command(goals: Goals, limit_s: float, rounds: int, peers: Sequence[str], epochs: int) -> str:
    command = f"bidist bench time-to-return --seconds {limit_s:g} --rounds {rounds} --epochs {epochs}"
    command += f" --peer {','.join(peers)}" if peers else ""
    if goals is not GOALS:
        command += "".join(f" --substrate {name}" + "".join(f" --return {r:g}" for r in goals[name]) for name in goals)
    return command


def _print(
    console: Console, substrate: str, goals: Sequence[float], limit_s: float, found: Mapping[str, Sequence[Reached]]
) -> None:
    table = Table(substrate, *(f"to {goal:g}" for goal in goals), box=None)
    for label, runs in found.items():
        cells = []
        for goal in goals:
            times = [run.seconds[goal] for run in runs]
            late = f"not within {limit_s:g} s"
            cells.append(", ".join(late if time is None else f"{time:,.0f} s" for time in times))
        table.add_row(label, *cells)
    console.print(table)
