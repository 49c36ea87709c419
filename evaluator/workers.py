"""Worker processes that play episodes; each takes the next job whenever one of its tables is free."""

import contextlib
import itertools
import logging
import multiprocessing
import os
import queue
import signal
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from multiprocessing.sharedctypes import Synchronized
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor

from common.config import Config
from common.errors import BidistError

log = logging.getLogger(__name__)

TICK_STEPS = 200
NO_MORE = 2**62

Policies = tuple[Config, Mapping[str, Tensor] | None]
"""A population's: the configuration of its run and theta; None instead of theta for players who act at random."""

Player = Callable[[Sequence[Policies], Iterator[Any], Callable[[], None]], Iterator[Any]]
"""Plays jobs with some populations and yields results as episodes end; calls its last argument after each step."""


@dataclass(frozen=True)
class Task:
    """Jobs and the populations that play them."""

    populations: Sequence[Policies]
    jobs: list[Any]


def play(
    tasks: Sequence[Task], player: Player, workers: int, stopping: threading.Event, tick: Callable[[int], None]
) -> Iterator[tuple[int, Any]]:
    """Yields the results of episodes as they end, each with the number of its task.

    After `stopping` is set, episodes in progress are still finished; otherwise long ones would be missing.

    Args:
      tasks: worked on in order.
      player: plays a task's jobs; must be picklable: a module's function or a `partial` of one.
      workers: processes.
      stopping: set to stop.
      tick: called from time to time with the number of steps played so far.

    Raises:
      BidistError: if a worker fails.
    """
    spawn = multiprocessing.get_context("spawn")
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bidist-")))
        stored = [_store(task, folder / str(i)) for i, task in enumerate(tasks)]
        counters = [spawn.Value("q", 0) for _ in stored]
        results: Any = spawn.Queue()
        steps = spawn.Value("q", 0)
        options = (stored, player, counters, steps, results)
        processes = [spawn.Process(target=_work, args=options, daemon=True) for _ in range(workers)]
        for process in processes:
            process.start()
            stack.callback(process.join)
            stack.callback(process.terminate)
        left, draining = len(processes), False
        while left:
            tick(steps.value)
            if stopping.is_set() and not draining:
                draining = True
                for counter in counters:
                    counter.value = NO_MORE
                log.info("finishing the episodes in progress; press Ctrl-C again to abandon them")
            try:
                result = results.get(timeout=0.5)
            except queue.Empty:
                dead = [process.exitcode for process in processes if process.exitcode not in (None, 0)]
                if dead:
                    raise BidistError(f"a worker died with exit status {dead[0]}; finished episodes are kept") from None
                continue
            if result is None:
                left -= 1
                continue
            if isinstance(result, str):
                raise BidistError(result)
            yield result


@dataclass(frozen=True)
class _Stored:
    """A task as it is sent to workers, with the policies in files."""

    populations: list[tuple[Config, Path | None]]
    jobs: list[Any]


def _store(task: Task, folder: Path) -> _Stored:
    folder.mkdir()
    populations: list[tuple[Config, Path | None]] = []
    for i, (config, theta) in enumerate(task.populations):
        if theta is None:
            populations.append((config, None))
            continue
        path = folder / f"{i}.safetensors"
        safetensors.torch.save_file({name: x.contiguous() for name, x in theta.items()}, path)
        populations.append((config, path))
    return _Stored(populations, task.jobs)


def _work(
    tasks: list[_Stored], player: Player, counters: list["Synchronized[int]"], steps: "Synchronized[int]", results: Any
) -> None:
    """Runs a worker: plays the tasks in order and sends results, an error's text, or None when done."""
    torch.set_num_threads(1)
    # A terminal sends Ctrl-C to all processes; the parent decides when to stop.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    leave_with_parent()
    played = itertools.count(1)

    def count() -> None:
        if next(played) % TICK_STEPS == 0:
            with steps.get_lock():
                steps.value += TICK_STEPS

    try:
        for i, (task, counter) in enumerate(zip(tasks, counters, strict=True)):
            loaded = [(c, None if path is None else safetensors.torch.load_file(path)) for c, path in task.populations]
            for episode in player(loaded, _take(task.jobs, counter), count):
                results.put((i, episode))
        results.put(None)
    except BidistError as error:
        results.put(str(error))


def leave_with_parent() -> None:
    """Makes a child process of `multiprocessing` exit when its parent is gone, however it ended."""
    threading.Thread(target=_join_parent, daemon=True).start()


def _join_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _take(jobs: list[Any], counter: "Synchronized[int]") -> Iterator[Any]:
    while True:
        with counter.get_lock():
            i = counter.value
            counter.value += 1
        if i >= len(jobs):
            return
        yield jobs[i]
