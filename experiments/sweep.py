"""Runs a sweep: claims trials one by one, trains and evaluates each, resumes what was interrupted.

A trial is claimed by the lock of a file in the sweep's folder, which the operating system releases whatever ends the
process. So any number of processes, on all machines that share the folder, work on one sweep, and a claim never goes
stale. What a trial's commands do is `bidist train` and `bidist evaluate`; the sweep reads their files.
"""

import contextlib
import logging
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from rich.console import Console
from rich.live import Live

from common import environments
from common.config import EnvironmentConfig
from common.errors import ConfigError
from common.files import locked
from deploy.redis_server import with_parent
from evaluator.scenarios import require_bots, scenario
from experiments.plan import PLAN, Plan, Trial, make_plan, read_plan
from experiments.sweep_view import Clock, plain, render
from experiments.trials import ACTIVE, NOTES, TRIALS, Notes, fail, progress, row, write_rows

log = logging.getLogger(__name__)

TICK_S = 0.5
LIVE_EVERY_S, PLAIN_EVERY_S = 2.0, 60.0
LEAVE_S = 90.0
# A claim may meet another process that only looks whether the trial is claimed.
CLAIM_S = 0.2
RESUMES = 5


@dataclass
class _Running:
    """A trial that this process runs: its claim, and the child that does the current part of it."""

    trial: Trial
    notes: Notes
    claim: contextlib.ExitStack
    child: "subprocess.Popen[bytes]"
    evaluating: bool


class Sweep:
    """Works on a sweep until nothing is left to do.

    Args:
      plan: what is to be done.
      folder: the sweep's; run folders are made in it.
      jobs: trials to run at a time.
      options: further arguments of `bidist train`, such as `--actors 4`; they do not change what is learnt.
      stopping: set to stop: the trials stop with a checkpoint.
    """

    def __init__(self, plan: Plan, folder: Path, jobs: int, options: Sequence[str], stopping: threading.Event) -> None:
        self._folder, self._jobs, self._options, self._stopping = folder, jobs, list(options), stopping
        self._trials = plan.trials()
        self._running: list[_Running] = []
        self._tried: set[str] = set()
        self._resumed: Counter[str] = Counter()
        self._console = Console()

    def run(self) -> bool:
        """Runs trials until each is done or has failed; returns whether all are done."""
        clock = Clock()
        shown = 0.0
        with Live(console=self._console, auto_refresh=False, transient=True) as live:
            while not self._stopping.is_set():
                self._reap()
                while len(self._running) < self._jobs and (claimed := self._claim()) is not None:
                    self._running.append(claimed)
                every = LIVE_EVERY_S if self._console.is_terminal else PLAIN_EVERY_S
                idle = not self._running
                if idle or time.monotonic() - shown > every:
                    shown = time.monotonic()
                    states = {trial: progress(self._folder, trial) for trial in self._trials}
                    clock.tick(states)
                    if self._console.is_terminal:
                        live.update(render(states, clock, self._folder), refresh=True)
                    else:
                        print(plain(states, clock), flush=True)
                    elsewhere = any(s.state in ACTIVE for s in states.values())
                    if idle and not elsewhere:
                        break
                self._stopping.wait(every if idle else TICK_S)
            self._leave()
        self.write_rows()
        states = {trial: progress(self._folder, trial) for trial in self._trials}
        self._console.print(render(states, clock, self._folder))
        return all(seen.state == "done" for seen in states.values())

    def write_rows(self) -> None:
        """Writes a row for each trial of the whole sweep that has begun."""
        trials = read_plan(self._folder, {}).trials()
        begun = [row(self._folder, trial) for trial in trials if trial.folder(self._folder).config.exists()]
        write_rows(begun, self._folder / TRIALS)

    def _claim(self) -> _Running | None:
        """Claims the next trial that is not done and that nobody runs, and starts it; None if there is none.

        A trial that failed is tried once more by each process that starts to work on the sweep; one that was killed or
        stopped resumes from its checkpoint.
        """
        for trial in self._trials:
            if trial.name in self._tried or (before := progress(self._folder, trial).state) in ACTIVE:
                continue
            if before == "done":
                self._tried.add(trial.name)
                continue
            notes, claim = Notes.of(self._folder, trial), contextlib.ExitStack()
            try:
                claim.enter_context(locked(notes.lock, CLAIM_S))
            except TimeoutError:
                continue
            seen = progress(self._folder, trial)
            if seen.state == "done":  # by another process, just now
                claim.close()
                continue
            self._tried.add(trial.name)
            notes.failure.unlink(missing_ok=True)
            evaluating = trial.folder(self._folder).summary.exists() and seen.player_steps >= trial.steps
            return _Running(trial, notes, claim, self._start(trial, notes, evaluating), evaluating)
        return None

    def _start(self, trial: Trial, notes: Notes, evaluating: bool) -> "subprocess.Popen[bytes]":
        folder = trial.folder(self._folder)
        if evaluating:
            arguments = [*trial.evaluate(self._folder), *(["--workers", "1"] if self._jobs > 1 else [])]
        elif folder.config.exists():
            arguments = ["train", "--resume", trial.name, "--folder", str(self._folder), "--games", str(trial.games),
                         *self._options]  # fmt: skip
        else:
            shutil.rmtree(folder.path, ignore_errors=True)  # left by a run that was killed before it wrote anything
            arguments = [*trial.train(), "--folder", str(self._folder), *self._options]
        with notes.log.open("ab") as out:
            return _bidist(arguments, out)

    def _reap(self) -> None:
        """Looks after the children that have ended: on to the evaluation, done, or failed."""
        for running in list(self._running):
            status = running.child.poll()
            if status is None:
                continue
            trial, seen = running.trial, progress(self._folder, running.trial)
            trained = trial.folder(self._folder).summary.exists()
            if status == 0 and trained and trial.scenarios and not running.evaluating:
                running.evaluating = True
                running.child = self._start(trial, running.notes, evaluating=True)
                continue
            interrupted = status < 0 or (status == 0 and seen.state != "done")
            if interrupted and self._resumed[trial.name] < RESUMES:
                log.warning("%s was interrupted: resuming it", trial.name)
                self._resumed[trial.name] += 1
                self._tried.discard(trial.name)
            elif seen.state != "done":
                error = _last_line(running.notes.log) or f"ended with status {status}"
                fail(running.notes, error)
                log.warning("%s failed: %s", trial.name, error)
            running.claim.close()
            self._running.remove(running)
            self.write_rows()

    def _leave(self) -> None:
        """Lets the children stop with a checkpoint, and kills those that do not."""
        for running in self._running:
            running.child.send_signal(signal.SIGTERM)
        deadline = time.monotonic() + LEAVE_S
        for running in self._running:
            try:
                running.child.wait(max(0.1, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                running.child.kill()
                running.child.wait()
            running.claim.close()
        self._running.clear()


def open_sweep(plan: Plan, folder: Path) -> Plan:
    """Makes a sweep's folder, or adds to the sweep that is there; returns the plan.

    Raises:
      ConfigError: if a game cannot be built, a scenario is unknown, or a trial has begun with other settings.
      SetupError: if bots are not installed.
    """
    for substrate in plan.substrates:
        environments.spec(EnvironmentConfig(substrate=substrate))
    require_bots([scenario(name) for name in {name for trial in plan.trials() for name in trial.scenarios}])
    if (folder / PLAN).exists():
        before = {trial.name: trial for trial in read_plan(folder, {}).trials()}
        for trial in plan.trials():
            known = before.get(trial.name)
            if known is not None and known.command != trial.command and trial.folder(folder).path.exists():
                raise ConfigError(
                    f"{folder} holds {trial.name}, started by `{known.command}`, which is not `{trial.command}`: "
                    "name a new variant, or give the sweep another --out"
                )
    (folder / NOTES).mkdir(parents=True, exist_ok=True)
    plan.save(folder)
    return plan


def show(folder: Path) -> bool:
    """Prints how far a sweep is and writes its rows; returns whether all trials are done."""
    trials = read_plan(folder, {}).trials()
    states = {trial: progress(folder, trial) for trial in trials}
    Console().print(render(states, Clock(), folder))
    write_rows([row(folder, t) for t in trials if t.folder(folder).config.exists()], folder / TRIALS)
    return all(seen.state == "done" for seen in states.values())


def _bidist(arguments: Sequence[str], out: IO[bytes]) -> "subprocess.Popen[bytes]":
    """Starts `bidist`; it dies with this process, and the terminal's Ctrl-C reaches this process alone."""
    return subprocess.Popen(
        with_parent([sys.executable, "-u", "-m", "deploy.cli", *arguments]), stdin=subprocess.DEVNULL, stdout=out,
        stderr=out, start_new_session=True,
    )  # fmt: skip


def _last_line(path: Path) -> str:
    lines = path.read_text(errors="replace").splitlines()
    errors = [line for line in lines[-20:] if "error" in line.lower()]
    return (errors or lines or [""])[-1].strip()


__all__ = ["Sweep", "make_plan", "open_sweep", "read_plan", "show"]
