"""Plays populations in official scenarios on all cores, and keeps a row for each episode.

A row goes to a file of JSON lines as soon as its episode has ended. What stands there is not played again, so an
evaluation that was interrupted goes on where it stopped.
"""

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Any

from torch import Tensor

from common import checkpoint
from common.checkpoint import Checkpoint
from common.config import Config, EnvironmentConfig
from common.errors import CheckpointError, ConfigError
from common.files import append_line, locked
from common.run_folder import RunFolder
from evaluator import reference, rollout
from evaluator.play import OnStep
from evaluator.progress import EpisodeProgress, cores
from evaluator.puppets import puppet
from evaluator.results import AVERAGED, episode_key, rows_of
from evaluator.scenario_table import ScenarioResult
from evaluator.scenarios import Scenario, models_of, require_bots, scenario, scenarios_of
from evaluator.self_play import read_checkpoint
from evaluator.workers import Person, Task, play
from methods import resolve

log = logging.getLogger(__name__)

NEWEST, ALL = "newest", "all"
FOLLOW_S = 5.0
SAY_WAITING_S = 60.0
WEIGHTS_DIGITS = 12
VERSIONS = ("bidist", "dm-meltingpot", "dmlab2d", "torch")


@dataclass(frozen=True)
class Population:
    """Who is evaluated.

    Attributes:
      run, method, seed: where it comes from.
      checkpoint: the checkpoint's name, with `-average` behind it for the average; empty for random players.
      weights: what tells its parameters from all others; empty for random players.
      updates, player_steps: how long it has learnt.
      config: the run's.
      theta: its learning policies, or their average; None for players who act uniformly at random.
    """

    run: str
    method: str
    seed: int
    checkpoint: str
    weights: str
    updates: int
    player_steps: int
    config: Config
    theta: dict[str, Tensor] | None


def populations(folder: RunFolder, which: Sequence[str], averaged: bool = False) -> list[Population]:
    """The populations of a run's checkpoints.

    Args:
      folder: the run's.
      which: names of checkpoints, or `newest`, or `all`.
      averaged: whether they play by the running average of theta instead of theta itself.

    Raises:
      CheckpointError: if there is none of that name, or it holds no average.
      ConfigError: if there is no such run.
    """
    if not folder.config.exists():
        raise ConfigError(f"there is no run at {folder.path}: no {folder.config.name} was found in it")
    config = resolve(folder.read_config(), f"{folder.config}: ")
    found: list[Checkpoint] = []
    for name in which:
        if name == ALL:
            found += [checkpoint.load(path) for path in checkpoint.checkpoints(folder.checkpoints)]
        else:
            found.append(read_checkpoint(folder, None if name == NEWEST else name))
    if not found:
        raise CheckpointError(f"{folder.checkpoints}: no complete checkpoint; a run writes its first after a minute")
    part, suffix = ("average", AVERAGED) if averaged else ("theta", "")
    for saved in found:
        if part not in saved.tensors:
            raise CheckpointError(f"{saved.path}: holds no average of theta; runs of older versions kept none")
    return [
        Population(
            config.run.name, config.method.name, config.run.seed, saved.path.name + suffix,
            saved.digests[part][:WEIGHTS_DIGITS], saved.state["updates"], saved.state["player_steps"], config,
            saved.tensors[part],
        )
        for saved in {saved.path.name: saved for saved in found}.values()
    ]  # fmt: skip


def random_population(substrate: str) -> Population:
    """Players who act uniformly at random."""
    config = Config(environment=EnvironmentConfig(substrate=substrate))
    return Population(f"random-{substrate}", "random", 0, "", "", 0, 0, config, None)


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
    people = list({(p.run, p.checkpoint, p.weights): p for p in people}.values())
    wanted = {id(p): check(p, scenarios) for p in people}
    every = list({s.name: s for chosen in wanted.values() for s in chosen}.values())
    out.parent.mkdir(parents=True, exist_ok=True)
    try:
        with locked(lock_of(out)):
            done = {episode_key(row) for row in rows_of(out)}
            tasks = [
                (p, jobs)
                for p in people
                if (jobs := [
                    (s.name, n) for n in range(episodes) for s in wanted[id(p)]
                    if (p.run, p.checkpoint, p.weights, s.name, n, seed, original) not in done
                ])
            ]  # fmt: skip
            if not tasks:
                return True
            if not original:
                for model in models_of(every):
                    puppet(model)
            total = sum(len(jobs) for _, jobs in tasks)
            with EpisodeProgress(total, f"{len(people)} populations" if len(people) > 1 else people[0].run) as progress:
                told = [Task([(p.config, p.theta)], jobs) for p, jobs in tasks]
                player = partial(_play, seed=seed, tables=tables, original=original)
                for i, episode in play(told, player, min(workers or cores(), total), stopping, progress.tick):
                    append_line(out, _row(tasks[i][0], episode, seed, original))
                    progress.step(episode.env_steps)
    except TimeoutError:
        raise ConfigError(f"{out}: another evaluation writes to it; give this one another --out") from None
    return not stopping.is_set()


def lock_of(out: Path) -> Path:
    """The file that an evaluation holds while it writes to a file of results."""
    return out.with_name(f".{out.name}.lock")


def follow(
    folder: RunFolder,
    out: Path,
    stopping: threading.Event,
    shown: Callable[[list[Population]], None] = lambda people: None,
    **options: Any,
) -> None:
    """Evaluates the newest checkpoint of a run again and again, until the run is finished or this is to stop.

    Args:
      folder: the run's.
      out: the file of results.
      stopping: set when it is to stop.
      shown: called with what was evaluated, each time.
      options: those of `evaluate`.
    """
    last, waiting = "", time.monotonic()
    while not stopping.is_set():
        finished = folder.summary.exists()
        with contextlib.suppress(CheckpointError):
            people = populations(folder, [NEWEST])
            # Where roles run by themselves nobody writes a summary.
            finished = finished or people[0].player_steps >= people[0].config.run.player_steps
            if people[0].checkpoint != last and evaluate(people, out=out, stopping=stopping, **options):
                last = people[0].checkpoint
                shown(people)
                waiting = time.monotonic()
                continue
        if finished:
            return
        if time.monotonic() - waiting > SAY_WAITING_S:
            waiting = time.monotonic()
            log.info("waiting for a checkpoint of %s newer than %s", folder.path, last or "none")
        stopping.wait(FOLLOW_S)


def check(person: Population, names: Sequence[str] | None) -> list[Scenario]:
    """The scenarios of those names that a population can play.

    Raises:
      ConfigError: if one is unknown or of another game.
      SetupError: if bots are not installed.
    """
    substrate = person.config.environment.substrate
    chosen = scenarios_of(substrate) if names is None else [scenario(name) for name in dict.fromkeys(names)]
    strange = [s.name for s in chosen if s.substrate != substrate]
    if strange:
        raise ConfigError(f"{', '.join(strange)}: scenarios of another game than {substrate}, which {person.run} plays")
    require_bots(chosen)
    return chosen


def versions() -> dict[str, str]:
    """Of the packages that returns may depend on."""
    return {name: metadata.version(name) for name in VERSIONS}


def _play(
    people: Sequence[Person],
    jobs: Iterator[tuple[str, int]],
    count: Callable[[], None],
    *,
    seed: int,
    tables: int,
    original: bool,
) -> Iterator[ScenarioResult]:
    """Plays scenarios, given by name, in a worker process."""
    ((config, theta),) = people
    named = ((scenario(name), number) for name, number in jobs)
    if original:
        return reference.play(named, config, theta, seed, count)
    return rollout.play(named, config, theta, seed, tables, [OnStep(count)])


def _row(person: Population, episode: ScenarioResult, seed: int, original: bool) -> dict[str, Any]:
    return {
        "run": person.run, "method": person.method, "seed": person.seed, "checkpoint": person.checkpoint,
        "weights": person.weights, "updates": person.updates, "player_steps": person.player_steps,
        "substrate": person.config.environment.substrate, **asdict(episode), "evaluation_seed": seed,
        "reference": original, "versions": versions(),
    }  # fmt: skip
