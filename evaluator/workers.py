"""The processes that play episodes: each takes the next job when one of its tables is free, and waits for nobody."""

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
from evaluator import reference, rollout
from evaluator.rollout import Episode
from evaluator.scenarios import Scenario, scenario

log = logging.getLogger(__name__)

TICK_STEPS = 200
NO_MORE = 2**62

Job = tuple[str, int]
"""A scenario's name and the number of an episode."""


@dataclass(frozen=True)
class Task:
    """What is to be played by one population: its run's settings, its policies (None: at random), and the jobs."""

    config: Config
    theta: Mapping[str, Tensor] | None
    jobs: list[Job]


def play(
    tasks: Sequence[Task], seed: int, workers: int, tables: int, original: bool, stopping: threading.Event,
    tick: Callable[[int], None],
) -> Iterator[tuple[int, Episode]]:  # fmt: skip
    """Yields episodes as they end, each with the number of its task.

    When it is to stop, those that have begun are still played to their end: long ones would be missing otherwise.

    Args:
      tasks: one for each population.
      seed: of the evaluation.
      workers: processes.
      tables: episodes that each of them plays at once.
      original: through Melting Pot's own API instead.
      stopping: set when it is to stop.
      tick: told now and then how many steps were played so far.

    Raises:
      BidistError: if a worker cannot go on.
    """
    spawn = multiprocessing.get_context("spawn")
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bidist-")))
        told = [
            _Told(task.config, _store(task.theta, folder / f"{i}.safetensors"), task.jobs)
            for i, task in enumerate(tasks)
        ]
        counters = [spawn.Value("q", 0) for _ in told]
        results: Any = spawn.Queue()
        steps = spawn.Value("q", 0)
        options = (told, counters, steps, results, seed, tables, original)
        processes = [spawn.Process(target=_work, args=options, daemon=True) for _ in range(workers)]
        for process in processes:
            process.start()
            stack.callback(process.join)
            stack.callback(process.terminate)
        left, told_to_stop = len(processes), False
        while left:
            tick(steps.value)
            if stopping.is_set() and not told_to_stop:
                told_to_stop = True
                for counter in counters:
                    counter.value = NO_MORE
                log.info("playing the episodes to their end that have begun; once more to leave without them")
            try:
                result = results.get(timeout=0.5)
            except queue.Empty:
                dead = [process.exitcode for process in processes if process.exitcode not in (None, 0)]
                if dead:
                    raise BidistError(f"a worker died with status {dead[0]}; what was played is kept") from None
                continue
            if result is None:
                left -= 1
                continue
            if isinstance(result, str):
                raise BidistError(result)
            yield result


@dataclass(frozen=True)
class _Told:
    """A task as a worker gets it: its policies in a file."""

    config: Config
    theta: Path | None
    jobs: list[Job]


def _store(theta: Mapping[str, Tensor] | None, path: Path) -> Path | None:
    if theta is None:
        return None
    safetensors.torch.save_file({name: x.contiguous() for name, x in theta.items()}, path)
    return path


def _work(
    tasks: list[_Told], counters: list["Synchronized[int]"], steps: "Synchronized[int]", results: Any, seed: int,
    tables: int, original: bool,
) -> None:  # fmt: skip
    """A worker's life: the tasks one after the other, the jobs of each as they come; None at its end."""
    torch.set_num_threads(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal sends it to all; the parent says when to stop
    threading.Thread(target=_leave_with_parent, daemon=True).start()
    played = itertools.count(1)

    def count(_: Any) -> None:
        if next(played) % TICK_STEPS == 0:
            with steps.get_lock():
                steps.value += TICK_STEPS

    try:
        for i, (task, counter) in enumerate(zip(tasks, counters, strict=True)):
            theta = None if task.theta is None else safetensors.torch.load_file(task.theta)
            jobs = _take(task.jobs, counter)
            if original:
                episodes = reference.play(jobs, task.config, theta, seed, count)
            else:
                episodes = rollout.play(jobs, task.config, theta, seed, tables, count)
            for episode in episodes:
                results.put((i, episode))
        results.put(None)
    except BidistError as error:
        results.put(str(error))


def _leave_with_parent() -> None:
    """Ends this process when its parent is gone, whatever ended that."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _take(jobs: list[Job], counter: "Synchronized[int]") -> Iterator[tuple[Scenario, int]]:
    while True:
        with counter.get_lock():
            i = counter.value
            counter.value += 1
        if i >= len(jobs):
            return
        name, number = jobs[i]
        yield scenario(name), number
