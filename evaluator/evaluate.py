"""Plays populations in official scenarios on all cores, and keeps a row for each episode.

A row goes to a file of JSON lines as soon as its episode has ended. What stands there is not played again, so an
evaluation that was interrupted goes on where it stopped.
"""

import contextlib
import logging
import multiprocessing
import os
import queue
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from importlib import metadata
from multiprocessing.sharedctypes import Synchronized
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table
from torch import Tensor

from common import checkpoint
from common.checkpoint import Checkpoint
from common.config import Config, EnvironmentConfig
from common.errors import BidistError, CheckpointError, ConfigError
from common.files import append_line, locked, read_lines
from common.run_folder import RunFolder
from evaluator import reference, rollout
from evaluator.puppets import puppet
from evaluator.results import episode_key
from evaluator.rollout import Episode
from evaluator.scenarios import Scenario, models_of, require_bots, scenario, scenarios_of
from evaluator.self_play import read_checkpoint
from evaluator.statistics import interval

log = logging.getLogger(__name__)

NEWEST, ALL = "newest", "all"
SAY_EVERY_S = 10.0
FOLLOW_S = 5.0
VERSIONS = ("bidist", "dm-meltingpot", "dmlab2d", "torch")

Job = tuple[str, int]
"""A scenario's name and the number of an episode."""


@dataclass(frozen=True)
class Population:
    """Who is evaluated.

    Attributes:
      run, method, seed: where it comes from.
      checkpoint: the checkpoint's name; empty for random players.
      updates, player_steps: how long it has learnt.
      config: the run's.
      theta: its learning policies; None for players who act uniformly at random.
    """

    run: str
    method: str
    seed: int
    checkpoint: str
    updates: int
    player_steps: int
    config: Config
    theta: dict[str, Tensor] | None


def populations(folder: RunFolder, which: Sequence[str]) -> list[Population]:
    """The populations of a run's checkpoints.

    Args:
      folder: the run's.
      which: names of checkpoints, or `newest`, or `all`.

    Raises:
      CheckpointError: if there is none of that name.
      ConfigError: if there is no such run.
    """
    if not folder.config.exists():
        raise ConfigError(f"there is no run at {folder.path}: no {folder.config.name} was found in it")
    config = folder.read_config()
    found: list[Checkpoint] = []
    for name in which:
        if name == ALL:
            found += [checkpoint.load(path) for path in checkpoint.checkpoints(folder.checkpoints)]
        else:
            found.append(read_checkpoint(folder, None if name == NEWEST else name))
    if not found:
        raise CheckpointError(f"{folder.checkpoints}: no whole checkpoint; a run writes its first after a minute")
    return [
        Population(
            config.run.name, config.method.name, config.run.seed, saved.path.name, saved.state["updates"],
            saved.state["player_steps"], config, saved.tensors["theta"],
        )
        for saved in found
    ]  # fmt: skip


def random_population(substrate: str) -> Population:
    """Players who act uniformly at random."""
    config = Config(environment=EnvironmentConfig(substrate=substrate))
    return Population(f"random-{substrate}", "random", 0, "", 0, 0, config, None)


def evaluate(
    people: Sequence[Population],
    scenarios: Sequence[str] | None,
    episodes: int,
    out: Path,
    seed: int = 0,
    workers: int = 0,
    tables: int = rollout.TABLES,
    original: bool = False,
    stopping: threading.Event | None = None,
) -> bool:
    """Plays what is not in the file of results yet, showing progress; says whether all of it was played.

    Args:
      people: who is evaluated.
      scenarios: by name; None takes scenarios 0 to 4 of each population's game.
      episodes: how many of each scenario.
      out: the file of results, JSON lines; made if missing.
      seed: of the evaluation; the same seed and number is the same episode.
      workers: processes; 0 takes one a core.
      tables: episodes that each of them plays at once.
      original: through Melting Pot's own API instead.
      stopping: set when it is to stop.

    Raises:
      ConfigError: if a scenario is unknown or of another game, or another evaluation writes to the file.
      SetupError: if bots are not installed.
    """
    stopping = stopping or threading.Event()
    wanted = {id(p): _scenarios(p, scenarios) for p in people}
    every = list({s.name: s for chosen in wanted.values() for s in chosen}.values())
    require_bots(every)
    out.parent.mkdir(parents=True, exist_ok=True)
    try:
        with locked(out.with_name(f".{out.name}.lock")):
            done = {episode_key(row) for row in read_lines(out)}
            tasks = [
                (p, jobs)
                for p in people
                if (jobs := [
                    (s.name, n) for n in range(episodes) for s in wanted[id(p)]
                    if (p.run, p.checkpoint, s.name, n, seed, original) not in done
                ])
            ]  # fmt: skip
            if not tasks:
                return True
            if not original:
                for model in models_of(every):
                    puppet(model)
            total = sum(len(jobs) for _, jobs in tasks)
            with _Progress(total, f"{len(people)} populations" if len(people) > 1 else people[0].run) as progress:
                for person, episode in _play(tasks, seed, min(workers or _cores(), total), tables, original, stopping):
                    append_line(out, _row(person, episode, seed, original))
                    progress.step(episode.env_steps)
    except TimeoutError:
        raise ConfigError(f"{out}: another evaluation writes to it; give this one another --out") from None
    return not stopping.is_set()


def follow(folder: RunFolder, out: Path, stopping: threading.Event, **options: Any) -> None:
    """Evaluates the newest checkpoint of a run again and again, until the run is finished or this is to stop.

    Args:
      folder: the run's.
      out: the file of results.
      stopping: set when it is to stop.
      options: those of `evaluate`.
    """
    last = ""
    while not stopping.is_set():
        finished = folder.summary.exists()
        with contextlib.suppress(CheckpointError):
            people = populations(folder, [NEWEST])
            if people[0].checkpoint != last and evaluate(people, out=out, stopping=stopping, **options):
                last = people[0].checkpoint
                show(people, out)
                continue
        if finished:
            return
        stopping.wait(FOLLOW_S)


def show(people: Sequence[Population], out: Path) -> None:
    """Prints what the file of results says of some populations."""
    rows = read_lines(out)
    console = Console()
    for p in people:
        table = Table("scenario", "focal return per capita", "95% interval", "episodes", box=None)
        own = [row for row in rows if (row["run"], row["checkpoint"]) == (p.run, p.checkpoint)]
        for name in sorted({row["scenario"] for row in own}):
            found = interval([row["focal_return"] for row in own if row["scenario"] == name])
            limits = f"{found.low:.2f} to {found.high:.2f}"
            table.add_row(name, f"{found.mean:.2f}", limits, str(found.episodes))
        console.print(f"[bold]{p.run}[/] {f'checkpoint {p.checkpoint}' if p.checkpoint else ''}", highlight=False)
        console.print(table)
    console.print(f"results: {out}", soft_wrap=True, highlight=False)


def _scenarios(person: Population, names: Sequence[str] | None) -> list[Scenario]:
    substrate = person.config.environment.substrate
    if names is None:
        return scenarios_of(substrate)
    chosen = [scenario(name) for name in names]
    strange = [s.name for s in chosen if s.substrate != substrate]
    if strange:
        raise ConfigError(f"{', '.join(strange)}: scenarios of another game than {substrate}, which {person.run} plays")
    return chosen


def _row(person: Population, episode: Episode, seed: int, original: bool) -> dict[str, Any]:
    return {
        "run": person.run, "method": person.method, "seed": person.seed, "checkpoint": person.checkpoint,
        "updates": person.updates, "player_steps": person.player_steps,
        "substrate": person.config.environment.substrate, **asdict(episode), "evaluation_seed": seed,
        "reference": original, "versions": {name: metadata.version(name) for name in VERSIONS},
    }  # fmt: skip


# Workers. Each takes the next job when one of its tables is free, so none waits for another.


@dataclass(frozen=True)
class _Task:
    """What a worker is told of a population: its settings, where its policies lie, what is to be played."""

    config: Config
    theta: Path | None
    jobs: list[Job]


def _play(
    tasks: Sequence[tuple[Population, list[Job]]], seed: int, workers: int, tables: int, original: bool,
    stopping: threading.Event,
) -> Iterator[tuple[Population, Episode]]:  # fmt: skip
    spawn = multiprocessing.get_context("spawn")
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bidist-")))
        told = [_Task(p.config, _store(p, folder / f"{i}.safetensors"), jobs) for i, (p, jobs) in enumerate(tasks)]
        counters = [spawn.Value("q", 0) for _ in told]
        results: Any = spawn.Queue()
        options = (told, counters, results, seed, tables, original)
        processes = [spawn.Process(target=_work, args=options, daemon=True) for _ in range(workers)]
        for process in processes:
            process.start()
            stack.callback(process.join)
            stack.callback(process.terminate)
        left = sum(len(jobs) for _, jobs in tasks)
        while left and not stopping.is_set():
            try:
                result = results.get(timeout=0.5)
            except queue.Empty:
                dead = [process.exitcode for process in processes if process.exitcode not in (None, 0)]
                if dead:
                    raise BidistError(f"a worker died with status {dead[0]}; what was played is kept") from None
                continue
            if isinstance(result, str):
                raise BidistError(result)
            i, episode = result
            left -= 1
            yield tasks[i][0], episode


def _store(person: Population, path: Path) -> Path | None:
    if person.theta is None:
        return None
    safetensors.torch.save_file({name: x.contiguous() for name, x in person.theta.items()}, path)
    return path


def _work(
    tasks: list[_Task], counters: list["Synchronized[int]"], results: Any, seed: int, tables: int, original: bool
) -> None:
    """A worker's life: the tasks one after the other, the jobs of each as they come."""
    torch.set_num_threads(1)
    try:
        for i, (task, counter) in enumerate(zip(tasks, counters, strict=True)):
            theta = None if task.theta is None else safetensors.torch.load_file(task.theta)
            jobs = _take(task.jobs, counter)
            if original:
                episodes = reference.play(jobs, task.config, theta, seed)
            else:
                episodes = rollout.play(jobs, task.config, theta, seed, tables)
            for episode in episodes:
                results.put((i, episode))
    except BidistError as error:
        results.put(str(error))
    except KeyboardInterrupt:
        pass


def _take(jobs: list[Job], counter: "Synchronized[int]") -> Iterator[tuple[Scenario, int]]:
    while True:
        with counter.get_lock():
            i = counter.value
            counter.value += 1
        if i >= len(jobs):
            return
        name, number = jobs[i]
        yield scenario(name), number


def _cores() -> int:
    return len(os.sched_getaffinity(0))


class _Progress:
    """A bar on a terminal, a line now and then elsewhere."""

    def __init__(self, total: int, what: str) -> None:
        self._bar = Progress(
            TextColumn("evaluating {task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("episodes"),
            TextColumn("{task.fields[rate]}"), TimeElapsedColumn(), TextColumn("left"), TimeRemainingColumn(),
            disable=not sys.stdout.isatty(),
        )  # fmt: skip
        self._task = self._bar.add_task(what, total=total, rate="")
        self._total, self._played, self._env_steps = total, 0, 0
        self._began = self._said = time.monotonic()

    def __enter__(self) -> "_Progress":
        self._bar.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._bar.stop()

    def step(self, env_steps: int) -> None:
        """An episode has ended."""
        self._played += 1
        self._env_steps += env_steps
        now = time.monotonic()
        elapsed = now - self._began
        rate = f"{self._env_steps / elapsed:,.0f} env steps/s"
        self._bar.update(self._task, advance=1, rate=rate)
        if self._bar.disable and (now - self._said > SAY_EVERY_S or self._played == self._total):
            self._said = now
            left = elapsed / self._played * (self._total - self._played)
            print(f"{self._played} of {self._total} episodes, {rate}, left {left:.0f} s", flush=True)
