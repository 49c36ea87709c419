"""Plays every population against every other, skipping episodes played before, and writes a row for each episode."""

import itertools
import threading
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import environments
from common.cores import core_count
from common.errors import ConfigError
from common.files import append_line, locked, read_lines
from evaluator import crossplay
from evaluator.crossplay import ALL, Match, MatchResult, splits
from evaluator.evaluate import EvaluatedPopulation, versions
from evaluator.play import OnStep
from evaluator.progress import EpisodeProgress
from evaluator.workers import Policies, Task, play

ROWS = "crossplay.jsonl"
KEYS = (
    "run",
    "checkpoint",
    "weights",
    "background_run",
    "background_checkpoint",
    "background_weights",
    "split",
    "episode",
    "evaluation_seed",
)
NEEDED = {*KEYS, "method", "background_method", "substrate", "focal_return", "background_return"}


def crossplay_all(
    populations: Sequence[EvaluatedPopulation],
    episodes: int,
    out: Path,
    seed: int = 0,
    workers: int = 0,
    stopping: threading.Event | None = None,
) -> bool:
    """Plays each pair in both roles, and each population against itself; returns whether everything was played.

    Args:
      populations: the populations.
      episodes: how many of each pair and split.
      out: a folder; rows are appended to its `crossplay.jsonl`, and episodes already there are skipped.
      seed: of the evaluation; the same seed and number give the same episode.
      workers: processes; 0 starts one per core.
      stopping: set to stop after the episodes in progress.

    Raises:
      ConfigError: if the populations play different games, two are the same, or another process is writing to the file.
    """
    check(populations)
    stopping = stopping or threading.Event()
    out.mkdir(parents=True, exist_ok=True)
    try:
        with locked(out / f".{ROWS}.lock"):
            done = {tuple(row[key] for key in KEYS) for row in read_rows(out)}
            every = [(m, _row(populations, m, seed)) for m in matches(populations, episodes)]
            jobs = [match for match, row in every if tuple(row[key] for key in KEYS) not in done]
            if not jobs:
                return True
            with EpisodeProgress(len(jobs), f"{len(populations)} populations against one another") as progress:
                task = Task([(p.config, p.theta) for p in populations], jobs)
                player = partial(_play, seed=seed)
                for _, result in play([task], player, min(workers or core_count(), len(jobs)), stopping, progress.tick):
                    append_line(out / ROWS, _row(populations, result.match, seed) | _outcome(result))
                    progress.step(result.env_steps)
    except TimeoutError:
        raise ConfigError(f"{out}: another cross-play is writing to it; give this one another --out") from None
    return not stopping.is_set()


def matches(populations: Sequence[EvaluatedPopulation], episodes: int) -> list[Match]:
    """Returns all episodes, pair by pair, so that few networks are in use at a time."""
    players = environments.spec(populations[0].config.environment).players
    found = []
    for a, b in itertools.combinations_with_replacement(range(len(populations)), 2):
        kinds = [(a, a, ALL)] if a == b else [(f, g, s) for s in splits(players) for f, g in ((a, b), (b, a))]
        found += [Match(*kind, number) for kind in kinds for number in range(episodes)]
    return found


def check(populations: Sequence[EvaluatedPopulation]) -> None:
    """Checks that populations can meet.

    Raises:
      ConfigError: if they cannot; the message says why.
    """
    if len(populations) < 2:
        raise ConfigError(f"cross-play needs two populations or more, found {len(populations)}")
    views = {p.config.environment.model_dump_json(): p for p in populations}
    if len(views) > 1:
        (first, a), (second, b) = list(views.items())[:2]
        raise ConfigError(f"{a.run} and {b.run} cannot meet, their games differ: {first} and {second}")
    names = [p.run for p in populations]
    for name in names:
        if names.count(name) > 1:
            raise ConfigError(
                f"two populations are called {name}: name each run once, and give each run a name of its own"
            )


def read_rows(out: Path) -> list[dict[str, Any]]:
    """Reads the rows of a cross-play.

    Raises:
      ConfigError: if the file holds something else.
    """
    rows = read_lines(out / ROWS)
    for row in rows:
        if missing := NEEDED - row.keys():
            raise ConfigError(f"{out / ROWS}: not a cross-play file: a row lacks {', '.join(sorted(missing))}")
    return list({tuple(row[key] for key in KEYS): row for row in rows}.values())


def _play(
    populations: Sequence[Policies], jobs: Iterator[Match], count: Callable[[], None], *, seed: int
) -> Iterator[MatchResult]:
    """Plays matches in a worker process."""
    return crossplay.play(populations, jobs, seed, observers=[OnStep(count)])


def _row(populations: Sequence[EvaluatedPopulation], match: Match, seed: int) -> dict[str, Any]:
    focal, background = populations[match.focal], populations[match.background]
    return {
        "run": focal.run,
        "method": focal.method,
        "seed": focal.seed,
        "checkpoint": focal.checkpoint,
        "weights": focal.weights,
        "player_steps": focal.player_steps,
        "substrate": focal.config.environment.substrate,
        "background_run": background.run,
        "background_method": background.method,
        "background_checkpoint": background.checkpoint,
        "background_weights": background.weights,
        "split": match.split,
        "episode": match.episode,
        "evaluation_seed": seed,
    }


def _outcome(result: MatchResult) -> dict[str, Any]:
    return {
        "focal_return": result.focal_return,
        "background_return": result.background_return,
        "env_steps": result.env_steps,
        "seats": result.seats,
        "versions": versions(),
    }
