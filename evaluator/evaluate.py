"""Plays populations in official scenarios on all cores, and writes a row for each episode.

Each row is appended to a file of JSON lines as soon as its episode ends. Episodes already in the file are not played
again, so an interrupted evaluation resumes where it stopped.
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
from common.cores import core_count
from common.errors import CheckpointError, ConfigError
from common.files import append_line, locked
from common.run_folder import RunFolder, find_run
from evaluator import reference as melting_pot_loop
from evaluator import scenario_play
from evaluator.external import build_policy, whole_images
from evaluator.play import OnStep
from evaluator.progress import EpisodeProgress
from evaluator.puppets import puppet
from evaluator.results import AVERAGED, episode_key, lock_of, rows_of
from evaluator.scenario_table import ScenarioResult
from evaluator.scenarios import Scenario, models_of, require_bots, scenario, scenarios_of
from evaluator.self_play import read_checkpoint
from evaluator.workers import Policies, Task, play
from methods import resolve

log = logging.getLogger(__name__)

NEWEST, ALL = "newest", "all"
FOLLOW_S = 5.0
LOG_WAITING_S = 60.0
WEIGHTS_DIGITS = 12
VERSIONS = ("bidist", "dm-meltingpot", "dmlab2d", "torch")


@dataclass(frozen=True)
class EvaluatedPopulation:
    """A population that is evaluated, and where it comes from.

    Attributes:
      run, method, seed: where it comes from.
      checkpoint: the checkpoint's name, with `-average` appended for the average; empty for random players.
      weights: a digest of its parameters; empty for random players.
      updates, player_steps: how long it has trained.
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


def populations(folder: RunFolder, which: Sequence[str], averaged: bool = False) -> list[EvaluatedPopulation]:
    """Returns the populations of a run's checkpoints.

    Args:
      folder: the run's.
      which: names of checkpoints, `newest` or `all`.
      averaged: whether to play the running average of theta instead of theta.

    Raises:
      CheckpointError: if there is no such checkpoint, or it holds no average.
      ConfigError: if there is no such run.
    """
    if not folder.config.exists():
        raise ConfigError(f"there is no run at {folder.path}: it holds no {folder.config.name}")
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
            raise CheckpointError(f"{saved.path}: holds no average of theta; older versions kept none")
    return [
        EvaluatedPopulation(
            run=config.run.name,
            method=config.method.name,
            seed=config.run.seed,
            checkpoint=saved.path.name + suffix,
            weights=saved.digests[part][:WEIGHTS_DIGITS],
            updates=saved.state["updates"],
            player_steps=saved.state["player_steps"],
            config=config,
            theta=saved.tensors[part],
        )
        for saved in {saved.path.name: saved for saved in found}.values()
    ]


def random_population(substrate: str) -> EvaluatedPopulation:
    """Returns the population of players who act uniformly at random."""
    config = Config(environment=EnvironmentConfig(substrate=substrate))
    return EvaluatedPopulation(f"random-{substrate}", "random", 0, "", "", 0, 0, config, None)


def foreign_population(name: str, substrate: str) -> EvaluatedPopulation:
    """Returns a population that stands for a policy trained elsewhere."""
    config = Config(environment=whole_images(substrate))
    return EvaluatedPopulation(f"{name.replace(':', '.')}-{substrate}", name, 0, "", "", 0, 0, config, None)


def evaluate(
    group: Sequence[EvaluatedPopulation],
    scenarios: Sequence[str] | None,
    episodes: int,
    out: Path,
    seed: int = 0,
    workers: int = 0,
    tables: int = scenario_play.TABLES,
    reference: bool = False,
    stopping: threading.Event | None = None,
    policy: str = "",
) -> bool:
    """Plays the episodes missing from the results file and shows progress; returns whether all were played.

    Args:
      group: the populations.
      scenarios: by name; None takes scenarios 0 to 4 of each population's game.
      episodes: how many of each scenario.
      out: the results file, JSON lines; created if missing.
      seed: of the evaluation; the same seed and number give the same episode.
      workers: processes; 0 starts one per core.
      tables: episodes that each worker plays at once.
      reference: whether to play through Melting Pot's own API instead.
      stopping: set to stop after the episodes in progress.
      policy: the `module:build` of a `foreign_population`; each worker builds it once.

    Raises:
      ConfigError: if a scenario is unknown or of another game, the policy cannot be built or played, or another
        evaluation is writing to the file.
      SetupError: if bots are not installed.
    """
    stopping = stopping or threading.Event()
    group = list({(p.run, p.checkpoint, p.weights): p for p in group}.values())
    wanted = [check(p, scenarios) for p in group]
    every = list({s.name: s for chosen in wanted for s in chosen}.values())
    out.parent.mkdir(parents=True, exist_ok=True)
    try:
        with locked(lock_of(out)):
            done = {episode_key(row) for row in rows_of(out)}
            tasks: list[tuple[EvaluatedPopulation, list[tuple[str, int]]]] = []
            for p, chosen in zip(group, wanted, strict=True):
                jobs = [(s.name, n) for n in range(episodes) for s in chosen]
                left = [job for job in jobs if (p.run, p.checkpoint, p.weights, *job, seed, reference) not in done]
                if left:
                    tasks.append((p, left))
            if not tasks:
                return True
            if not reference:
                for model in models_of(every):
                    puppet(model)
            total = sum(len(jobs) for _, jobs in tasks)
            with EpisodeProgress(total, f"{len(group)} populations" if len(group) > 1 else group[0].run) as progress:
                todo = [Task([(p.config, p.theta)], jobs) for p, jobs in tasks]
                player = partial(_play, seed=seed, tables=tables, reference=reference, policy=policy)
                for i, episode in play(todo, player, min(workers or core_count(), total), stopping, progress.tick):
                    append_line(out, row_of(tasks[i][0], episode, seed, reference))
                    progress.step(episode.env_steps)
    except TimeoutError:
        raise ConfigError(f"{out}: another evaluation is writing to it; give this one another --out") from None
    return not stopping.is_set()


def begun(folder: Path, run: str, stopping: threading.Event) -> RunFolder:
    """Returns a run by its name in a folder, or by its path, once it has a configuration or `stopping` is set."""
    found = find_run(folder, run)
    if not found.config.exists():
        log.info("waiting for run %s, which is not in %s yet", run, folder)
    while not found.config.exists() and not stopping.wait(FOLLOW_S):
        found = find_run(folder, run)
    return found


def follow(
    folder: RunFolder,
    out: Path,
    stopping: threading.Event,
    shown: Callable[[list[EvaluatedPopulation]], None] = lambda group: None,
    **options: Any,
) -> None:
    """Evaluates each newest checkpoint of a run until the run is finished.

    Args:
      folder: the run's.
      out: the results file.
      stopping: set to stop.
      shown: called with the populations after each evaluation.
      options: of `evaluate`.
    """
    last, waiting = "", time.monotonic()
    while not stopping.is_set():
        finished = folder.summary.exists()
        with contextlib.suppress(CheckpointError):
            (newest,) = populations(folder, [NEWEST])
            # When roles are started one by one, nothing writes a summary.
            finished = finished or newest.player_steps >= newest.config.run.player_steps
            if newest.checkpoint != last and evaluate([newest], out=out, stopping=stopping, **options):
                last = newest.checkpoint
                shown([newest])
                waiting = time.monotonic()
                continue
        if finished:
            return
        if time.monotonic() - waiting > LOG_WAITING_S:
            waiting = time.monotonic()
            log.info("waiting for a checkpoint of %s newer than %s", folder.path, last or "none")
        stopping.wait(FOLLOW_S)


def check(population: EvaluatedPopulation, names: Sequence[str] | None) -> list[Scenario]:
    """Returns the scenarios of these names, or 0 to 4 of the population's game, if the population can play them.

    Raises:
      ConfigError: if a scenario is unknown or of another game.
      SetupError: if bots are not installed.
    """
    substrate = population.config.environment.substrate
    chosen = scenarios_of(substrate) if names is None else [scenario(name) for name in dict.fromkeys(names)]
    foreign = [s.name for s in chosen if s.substrate != substrate]
    if foreign:
        raise ConfigError(
            f"{', '.join(foreign)}: scenarios of another game than {substrate}, which {population.run} plays"
        )
    require_bots(chosen)
    return chosen


def versions() -> dict[str, str]:
    """Returns the versions of the packages that returns may depend on."""
    return {name: metadata.version(name) for name in VERSIONS}


def _play(
    played: Sequence[Policies],
    jobs: Iterator[tuple[str, int]],
    count: Callable[[], None],
    *,
    seed: int,
    tables: int,
    reference: bool,
    policy: str,
) -> Iterator[ScenarioResult]:
    """Plays scenarios by name, in a worker process."""
    ((config, theta),) = played
    named = ((scenario(name), number) for name, number in jobs)
    if reference:
        return melting_pot_loop.play(named, config, theta, seed, count)
    built = build_policy(policy) if policy else None
    return scenario_play.play(named, config, theta, seed, tables, [OnStep(count)], policy=built)


def row_of(p: EvaluatedPopulation, episode: ScenarioResult, seed: int, reference: bool = False) -> dict[str, Any]:
    """Returns the row of an episode; docs/evaluation.md explains its columns."""
    return {
        "run": p.run,
        "method": p.method,
        "seed": p.seed,
        "checkpoint": p.checkpoint,
        "weights": p.weights,
        "updates": p.updates,
        "player_steps": p.player_steps,
        "substrate": p.config.environment.substrate,
        **asdict(episode),
        "evaluation_seed": seed,
        "reference": reference,
        "versions": versions(),
    }
