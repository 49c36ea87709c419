"""Speed of the evaluator relative to Melting Pot's own loop.

Both play side by side, each on its own core, so that other load slows both alike; they swap cores between rounds.
"""

import contextlib
import json
import multiprocessing
import os
import statistics
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table

from common.config import Config, EnvironmentConfig
from common.errors import ConfigError, SetupError
from common.files import write
from evaluator import reference, scenario_play
from evaluator.play import OnStep
from evaluator.scenarios import Scenario, require_bots, scenario
from reports.provenance import circumstances

PATHS = ("batched", "reference")
WARM_UP_S = 5.0
EPISODES = 10_000


@dataclass(frozen=True)
class Result:
    """Environment steps/s in one scenario, an entry per round."""

    scenario: str
    bots: int
    batched: list[float]
    reference: list[float]

    @property
    def ratio(self) -> float:
        """The median of the rounds' ratios."""
        return statistics.median(b / r for b, r in zip(self.batched, self.reference, strict=True))


def run(names: list[str], seconds: float, rounds: int, out: Path | None) -> int:
    """Measures scenarios and prints a table.

    Args:
      names: of the scenarios.
      seconds: how long each is played per round.
      rounds: the number of rounds.
      out: JSON file for the figures; None writes none.

    Raises:
      ConfigError: if there is nothing to measure.
      SetupError: if bots are not installed, or only one core is available.
    """
    if seconds <= 0 or rounds < 1:
        raise ConfigError(f"--seconds {seconds:g} --rounds {rounds}: both must be positive")
    played = [scenario(name) for name in names]
    require_bots(played)
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < 2:
        raise SetupError("this benchmark needs two cores, to run both loops side by side")
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
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(len(PATHS), context, initializer=_silence, max_tasks_per_child=1) as pool:
        measured = [
            pool.submit(env_steps_per_s, path, s.name, seconds, core) for path, core in zip(PATHS, cores, strict=True)
        ]
        batched, original = (future.result() for future in measured)
    return batched, original


def _silence() -> None:
    """Mutes the logs of Melting Pot and TensorFlow in a worker; exceptions still reach the parent."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)


class _Over(Exception):
    """Raised to end the play when time is up."""


class Clock:
    """Counts steps for some seconds after a warm-up, then ends the play."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._first: float | None = None
        self._began: float | None = None
        self.env_steps, self.elapsed_s = 0, 0.0

    def tick(self) -> None:
        """Another step was played."""
        now = time.monotonic()
        self._first = self._first or now
        if self._began is None:
            if now - self._first > WARM_UP_S:
                self._began = now
            return
        self.env_steps += 1
        self.elapsed_s = now - self._began
        if self.elapsed_s > self._seconds:
            raise _Over


def env_steps_per_s(path: str, name: str, seconds: float, core: int) -> float:
    """Plays a scenario with random focal players and measures its speed; pins this process to one core.

    Args:
      path: one of `PATHS`.
      name: of the scenario.
      seconds: how long to measure, after a warm-up.
      core: the core's number.
    """
    os.sched_setaffinity(0, {core})
    torch.set_num_threads(1)
    played = scenario(name)
    config = Config(environment=EnvironmentConfig(substrate=played.substrate))
    clock = Clock(seconds)
    jobs = ((played, i) for i in range(EPISODES))
    if path == "reference":
        episodes = reference.play(jobs, config, None, 0, clock.tick)
    else:
        episodes = scenario_play.play(jobs, config, None, 0, observers=[OnStep(clock.tick)])
    with contextlib.suppress(_Over):
        for _ in episodes:
            pass
    return clock.env_steps / clock.elapsed_s
