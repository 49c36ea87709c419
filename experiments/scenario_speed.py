"""How fast scenarios are played: our evaluator and Melting Pot's own loop at the same time, each on a core of its own.

Both run side by side, so whatever else the machine does slows both; in the next round they change cores.
"""

import json
import os
import statistics
import subprocess
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from common.errors import BidistError, ConfigError, SetupError
from common.files import write
from evaluator.scenarios import Scenario, require_bots, scenario
from reports.provenance import circumstances

PATHS = ("batched", "reference")


@dataclass(frozen=True)
class Result:
    """Environment steps/s in a scenario, round by round."""

    scenario: str
    bots: int
    batched: list[float]
    reference: list[float]

    @property
    def ratio(self) -> float:
        """The middle of the rounds' ratios."""
        return statistics.median(b / r for b, r in zip(self.batched, self.reference, strict=True))


def run(names: list[str], seconds: float, rounds: int, out: Path | None) -> int:
    """Measures scenarios and prints a table.

    Args:
      names: the scenarios'.
      seconds: how long each is played.
      rounds: how often.
      out: JSON file for the figures.

    Raises:
      ConfigError: if there is nothing to measure.
      SetupError: if bots are not installed, or the machine has a single core.
    """
    if seconds <= 0 or rounds < 1:
        raise ConfigError(f"--seconds {seconds:g} --rounds {rounds}: both have to be positive")
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < 2:
        raise SetupError("two cores are needed, to run both side by side")
    played = [scenario(name) for name in names]
    require_bots(played)
    console = Console()
    results = []
    for s in played:
        console.print(f"{s.name}: {rounds} rounds of {seconds:.0f} s")
        pairs = [_side_by_side(s, seconds, cores[:2] if i % 2 == 0 else cores[1::-1]) for i in range(rounds)]
        results.append(Result(s.name, len(s.background), [b for b, _ in pairs], [r for _, r in pairs]))
    table = Table("scenario", "bots", "batched, env steps/s", "Melting Pot's loop", "ratio", box=None)
    for result in results:
        batched, reference = (statistics.median(x) for x in (result.batched, result.reference))
        table.add_row(result.scenario, str(result.bots), f"{batched:,.0f}", f"{reference:,.0f}", f"{result.ratio:.1f}")
    console.print(table)
    if out is not None:
        found = [{**asdict(result), "ratio": result.ratio} for result in results]
        write(out, json.dumps({"circumstances": circumstances(), "results": found}, indent=1).encode())
    return 0


def _side_by_side(s: Scenario, seconds: float, cores: list[int]) -> tuple[float, float]:
    processes = [
        subprocess.Popen(
            [sys.executable, "-m", "evaluator.throughput", path, s.name, str(seconds), str(core)],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )
        for path, core in zip(PATHS, cores, strict=True)
    ]  # fmt: skip
    rates = []
    for process in processes:
        printed, errors = process.communicate()
        if process.returncode:
            raise BidistError(f"{s.name}: {errors.strip().splitlines()[-1]}")
        found = json.loads(printed.splitlines()[-1])
        rates.append(found["env_steps"] / found["elapsed_s"])
    return rates[0], rates[1]
