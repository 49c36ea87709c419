"""Player steps/s of whole training systems: this project's, and its peers' with the same network on the same game.

They are measured in turn, in several rounds, so that their ratios hold even if the machine's own speed drifts.
"""

import json
from collections.abc import Callable, Iterable, Sequence
from contextlib import closing
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from common.cores import core_count
from common.errors import BidistError, ConfigError
from common.files import write
from environments.substrates import substrate_config
from experiments.speed.peers.installation import install
from experiments.speed.peers.line_up import Install, LineUp, as_peers, same, shared
from experiments.speed.peers.systems import Line, System, follow, of_bidist
from experiments.speed.throughput import Result
from reports.provenance import circumstances

REFERENCE = "MAPPO, as peers"
"""What all others are compared with."""
WARM_UP_S = 10.0
"""Seconds after the first line that are not measured."""
PATIENCE_S = 600.0
"""How much longer than asked for a measurement may take: start, warm-up, and the update during which time is up."""


def rate(seconds: float, system: System) -> float:
    """Trains, and returns player steps/s over some seconds after the warm-up."""
    with closing(follow(system, seconds + PATIENCE_S)) as lines:
        found = rate_of(lines, seconds)
    if found is None:
        raise BidistError(f"{system.label} reported too little in {seconds + PATIENCE_S:.0f} s to measure its speed")
    return found


def rate_of(lines: Iterable[Line], seconds: float) -> float | None:
    """Returns player steps/s from line to line, after the warm-up and over some seconds; None if lines end before."""
    started: float | None = None
    first: Line | None = None
    for line in lines:
        started = line.elapsed_s if started is None else started
        if first is None:
            first = line if line.elapsed_s >= started + WARM_UP_S else None
        elif line.elapsed_s >= first.elapsed_s + seconds:
            return (line.player_steps - first.player_steps) / (line.elapsed_s - first.elapsed_s)
    return None


def run(
    substrate: str,
    seconds: float,
    rounds: int,
    out: Path | None,
    peers: Sequence[str],
    epochs: int,
    folder: Path,
    install: Install = install,
    measure: Callable[[float, System], float] = rate,
) -> int:
    """Measures all systems and prints a table; a peer that cannot be installed or fails is left out, with the reason.

    Args:
      substrate: the game.
      seconds: length of each measurement, without start-up.
      rounds: the number of rounds.
      out: JSON file for the figures; None writes none.
      peers: names of those to measure; none for all.
      epochs: passes over a batch, for peers and for what they are compared with.
      folder: for the peers' environments.
      install: installs a peer into the folder.
      measure: returns a system's player steps/s over some seconds.

    Raises:
      ConfigError: if there is no such game or peer, or there is nothing to measure.
    """
    if seconds <= 0 or rounds < 1:
        raise ConfigError(f"--seconds {seconds:g} --rounds {rounds}: both must be positive")
    substrate_config(substrate)
    console = Console(highlight=False)
    config = same(substrate, epochs)
    line_up = LineUp.of(peers, folder, install, console.print)
    systems = [*_ours(substrate, epochs), *line_up.systems(config)]
    results = {system.label: Result(system.label, core_count(), []) for system in systems}
    for number in range(1, rounds + 1):
        for system in systems:
            found = line_up.attempt(system, partial(measure, seconds))
            if found is not None:
                results[system.label].player_steps_per_s.append(round(found, 1))
                console.print(f"round {number} of {rounds}: {system.label}: {found:,.0f} player steps/s")
    measured = [system for system in systems if system.label not in line_up.missing]
    _print(console, [results[system.label] for system in measured], line_up.missing)
    if out is not None:
        command = f"bidist bench peers --substrate {substrate} --seconds {seconds:g} --rounds {rounds} "
        command += f"--epochs {epochs}" + (f" --peer {','.join(peers)}" if peers else "")
        rows = [asdict(results[system.label]) | system.described() for system in measured]
        document = {"command": command, "results": rows, "missing": line_up.missing, **circumstances()}
        write(out, json.dumps(document, indent=1).encode())
        console.print(f"written to {out}")
    return 0


def _ours(substrate: str, epochs: int) -> list[System]:
    """This project's systems."""
    rows: dict[str, dict[str, Any]] = {
        # From the start as it is once there are fictitious players, which do not learn.
        "BiDist": {"method.name": "bidist", "method.alone_until": 0},
        "MAPPO": {"method.name": "mappo"},
        REFERENCE: as_peers(epochs),
    }
    return [of_bidist(label, shared(substrate, seed=0) | values) for label, values in rows.items()]


def _print(console: Console, results: Sequence[Result], missing: dict[str, str]) -> None:
    reference = next(result for result in results if result.what == REFERENCE)
    table = Table("whole system", "player steps/s", "range", f"of {reference.what}", box=None)
    for column in table.columns[1:]:
        column.justify = "right"
    for result in results:
        low, high = min(result.player_steps_per_s), max(result.player_steps_per_s)
        table.add_row(result.what, f"{result.median:,.0f}", f"{low:,.0f}-{high:,.0f}", f"{result.ratio(reference):.0%}")
    console.print(table)
    for label, reason in missing.items():
        console.print(f"{label} is missing: {reason}")
