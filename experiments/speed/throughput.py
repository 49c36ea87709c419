"""Throughput of the bare game, of one actor, of one learner and of the whole system.

They are measured in turn, in several rounds, so that their ratios hold even if the machine's own speed drifts.
"""

import json
import statistics
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from common.config import Config
from common.cores import core_count
from common.errors import ConfigError
from common.files import write
from common.settings import load_config
from environments.substrates import substrates
from experiments.speed.rates import RUN, game_alone, one_actor, one_learner, system_rate
from methods import resolve
from reports.provenance import circumstances

PARAMETERS = ("shared", "per_player")


@dataclass(frozen=True)
class Result:
    """One row: what was measured, the cores it may use, and its player steps/s in each round."""

    what: str
    cores: int
    player_steps_per_s: list[float]

    @property
    def median(self) -> float:
        """The median of the rounds."""
        return statistics.median(self.player_steps_per_s)

    def ratio(self, to: "Result") -> float:
        """The median ratio to another row, each ratio taken within one round."""
        pairs = zip(self.player_steps_per_s, to.player_steps_per_s, strict=True)
        return statistics.median(own / other for own, other in pairs)


def run(substrate: str, seconds: float, rounds: int, out: Path | None) -> int:
    """Measures all parts, prints a table, and writes it as JSON if asked; returns the exit status.

    Args:
      substrate: the game.
      seconds: length of each measurement, without start-up.
      rounds: the number of rounds.
      out: JSON file for the figures; None writes none.

    Raises:
      ConfigError: if the game is not a Melting Pot substrate, or there is nothing to measure.
    """
    if substrate not in substrates():
        raise ConfigError(f"{substrate!r} is not a Melting Pot substrate, which the benchmark needs")
    if seconds <= 0 or rounds < 1:
        raise ConfigError(f"--seconds {seconds:g} --rounds {rounds}: both must be positive")
    cores = core_count()
    parts: list[tuple[str, int, Callable[[], float]]] = [("game alone", 1, partial(game_alone, substrate, seconds))]
    configs = {parameters: _config(substrate, parameters) for parameters in PARAMETERS}
    for parameters, config in configs.items():
        parts.append((f"one actor, {parameters} parameters", 1, partial(one_actor, config, seconds)))
    for parameters, config in configs.items():
        parts.append((f"one learner, {parameters} parameters", 1, partial(one_learner, config, seconds)))
    for parameters, config in configs.items():
        parts.append((f"whole system, {parameters} parameters", cores, partial(system_rate, config, seconds)))
    results = [Result(what, used, []) for what, used, _ in parts]
    console = Console()
    for number in range(1, rounds + 1):
        for result, (what, _, measure) in zip(results, parts, strict=True):
            result.player_steps_per_s.append(round(measure(), 1))
            console.print(f"round {number} of {rounds}: {what}: {result.player_steps_per_s[-1]:,.0f} player steps/s")
    found = circumstances()
    _print(console, results, found)
    shares = {parameters: round(share_of_limit(results, parameters), 3) for parameters in PARAMETERS}
    for parameters, share in shares.items():
        console.print(
            f"whole system, {parameters} parameters: {share:.0%} of what actor and learner allow", highlight=False
        )
    if out is not None:
        command = f"bidist bench --substrate {substrate} --seconds {seconds:g} --rounds {rounds}"
        rows = [asdict(result) for result in results]
        document = {"command": command, "results": rows, "share_of_limit": shares, **found}
        write(out, json.dumps(document, indent=1).encode())
        console.print(f"written to {out}", highlight=False)
    return 0


def share_of_limit(results: Sequence[Result], parameters: str) -> float:
    """The median share that the whole system reaches of what its parts allow if its cores shared their work evenly.

    A player step costs 1/a seconds of a core in an actor and 1/l in a learner, so C cores allow C / (1/a + 1/l).
    """
    rates = {result.what.partition(",")[0]: result for result in results if f" {parameters} " in result.what}
    whole = rates["whole system"]
    rounds = zip(*(rates[part].player_steps_per_s for part in ("one actor", "one learner")), strict=True)
    limits = [whole.cores / (1 / actor + 1 / learner) for actor, learner in rounds]
    return float(statistics.median(rate / limit for rate, limit in zip(whole.player_steps_per_s, limits, strict=True)))


def _config(substrate: str, parameters: str) -> Config:
    values = {"environment.substrate": substrate, "network.parameters": parameters, "run.name": RUN}
    return resolve(load_config(None, values=values, environ={}))


def _print(console: Console, results: list[Result], found: dict[str, Any]) -> None:
    table = Table("measured", "cores", "player steps/s", "range", "of the game alone", box=None)
    for column in table.columns[1:]:
        column.justify = "right"
    for result in results:
        low, high = min(result.player_steps_per_s), max(result.player_steps_per_s)
        ratio = f"{result.ratio(results[0]):.0%}"
        table.add_row(result.what, str(result.cores), f"{result.median:,.0f}", f"{low:,.0f}-{high:,.0f}", ratio)
    console.print(table)
    console.print(f"{found['hardware']['processor']}, commit {found['commit']}", highlight=False)
