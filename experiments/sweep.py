"""Runs a sweep: claims trials one by one, trains and evaluates each, resumes what was interrupted.

A trial is claimed by the lock of a file in the sweep's folder, which the operating system releases whatever ends the
process. So any number of processes, on all machines that share the folder, work on one sweep, and a claim never goes
stale. What a trial's commands do is `bidist train` and `bidist evaluate`; the sweep reads their files.
"""

import contextlib
import logging
import shutil
import signal
import socket
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from rich.console import Console
from rich.live import Live

import environments
from common.config import EnvironmentConfig
from common.errors import ConfigError
from common.files import locked
from common.settings import setting_variables
from deploy.processes import bidist, with_parent
from evaluator.scenarios import require_bots, scenario
from experiments.plan import PLAN, Plan, Trial, read_plan
from experiments.sweep_view import Clock, plain, render
from experiments.trials import ACTIVE, NOTES, TRIALS, Notes, Progress, progress, row, write_rows
from reports.provenance import circumstances

log = logging.getLogger(__name__)

TICK_S, IDLE_S = 0.5, 3.0
LIVE_EVERY_S, PLAIN_EVERY_S = 2.0, 60.0
LEAVE_S = 90.0
# A claim may meet another process that only looks whether the trial is claimed.
CLAIM_S = 0.2
RESUMES = 5
# What a shell and `bidist evaluate` say of a command that SIGINT or SIGTERM ended.
INTERRUPTED = (130, 143)


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
        self._started = time.time()
        self._console = Console()

    def run(self) -> bool:
        """Runs trials until each is done or has failed; returns whether all are done."""
        clock, shown = Clock(), 0.0
        every = LIVE_EVERY_S if self._console.is_terminal else PLAIN_EVERY_S
        with Live(console=self._console, auto_refresh=False, transient=True) as live:
            while not self._stopping.is_set():
                self._reap()
                while len(self._running) < self._jobs and (claimed := self._claim()) is not None:
                    self._running.append(claimed)
                if time.monotonic() - shown > every:
                    shown = time.monotonic()
                    states = self._states()
                    clock.tick(states)
                    if self._console.is_terminal:
                        live.update(render(states, clock, self._folder), refresh=True)
                    else:
                        print(plain(states, clock), flush=True)
                if not self._running and all(trial.name in self._tried for trial in self._trials):
                    break
                # If the process that runs a trial elsewhere dies, the trial is ours.
                self._stopping.wait(TICK_S if self._running else IDLE_S)
            self._leave()
        save_rows(self._folder)
        states = self._states()
        self._console.print(render(states, clock, self._folder))
        return all(seen.state == "done" for seen in states.values())

    def _states(self) -> dict[Trial, Progress]:
        return {trial: progress(self._folder, trial) for trial in self._trials}

    def _claim(self) -> _Running | None:
        """Claims the next trial that is not done and that nobody runs, and starts it; None if there is none.

        A trial that failed before this process started is tried once more; one that was killed or stopped resumes from
        its checkpoint.
        """
        for trial in self._trials:
            if trial.name in self._tried:
                continue
            if progress(self._folder, trial).state in ACTIVE:
                continue
            if self._settled(trial):
                self._tried.add(trial.name)
                continue
            notes, claim = Notes.of(self._folder, trial), contextlib.ExitStack()
            try:
                claim.enter_context(locked(notes.lock, CLAIM_S))
            except TimeoutError:
                continue
            self._tried.add(trial.name)
            if self._settled(trial):  # by another process, just now
                claim.close()
                continue
            seen = progress(self._folder, trial)
            notes.write(command=trial.command, host=socket.gethostname(), error=None, **circumstances())
            trained = trial.folder(self._folder).summary.exists() and seen.player_steps >= trial.steps
            return _Running(trial, notes, claim, self._start(trial, notes, trained), trained)
        return None

    def _settled(self, trial: Trial) -> bool:
        """Returns whether a trial is done, or has failed since this process started."""
        record = Notes.of(self._folder, trial).read()
        failed = bool(record.get("error")) and record["failed_at"] > self._started
        return failed or progress(self._folder, trial).state == "done"

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
            interrupted = status < 0 or status in INTERRUPTED or (status == 0 and seen.state != "done")
            if interrupted and self._resumed[trial.name] < RESUMES:
                log.warning("%s was interrupted: resuming it", trial.name)
                self._resumed[trial.name] += 1
                self._tried.discard(trial.name)
            elif status != 0 or seen.state != "done":
                error = _last_line(running.notes.log) or f"ended with status {status}"
                running.notes.write(error=error, failed_at=time.time())
                log.warning("%s failed: %s", trial.name, error)
            running.claim.close()
            self._running.remove(running)
            save_rows(self._folder)

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


def open_sweep(plan: Plan, folder: Path) -> None:
    """Makes a sweep's folder, or adds trials to the sweep that is there.

    Raises:
      ConfigError: if a game cannot be built, a scenario is unknown or of another game, the plan lacks a trial of the
        sweep that is there, or a trial has begun with other settings.
      SetupError: if bots are not installed.
    """
    trials = plan.trials()
    if found := setting_variables():
        raise ConfigError(
            f"{', '.join(found)}: environment variables would change every trial and not show in its command; unset "
            "them, and put the settings into the plan"
        )
    for substrate in plan.substrates:
        environments.spec(EnvironmentConfig(substrate=substrate))
    for trial in trials:
        for known in (scenario(name) for name in trial.scenarios):
            if known.substrate != trial.substrate:
                raise ConfigError(f"trial {trial.name}: {known.name} is a scenario of another game; give its number")
    require_bots([scenario(name) for name in {name for trial in trials for name in trial.scenarios}])
    names = {trial.name for trial in trials}
    if (folder / PLAN).exists():
        for trial in read_plan(folder, {}).trials():
            if trial.name not in names:
                raise ConfigError(
                    f"{folder} holds another sweep: its trial {trial.name} is not in this plan; give this one another "
                    "--out, or let its plan contain the trials that are there"
                )
    for trial in trials:
        record, place = Notes.of(folder, trial).read(), trial.folder(folder)
        if record and record["command"] != trial.command:
            raise ConfigError(
                f"{folder} holds {trial.name}, started by `{record['command']}`, which is not `{trial.command}`: "
                "name a new variant, or give the sweep another --out"
            )
        if not record and place.path.exists():
            raise ConfigError(f"{place.path} is a run that this sweep did not start: move it, or give another --out")
    (folder / NOTES).mkdir(parents=True, exist_ok=True)
    plan.save(folder)


def show(folder: Path) -> bool:
    """Prints how far a sweep is and writes its rows; returns whether all trials are done.

    Raises:
      ConfigError: if there is no sweep.
    """
    if not (folder / PLAN).exists():
        raise ConfigError(f"there is no sweep at {folder}: no {PLAN} was found in it")
    trials = read_plan(folder, {}).trials()
    states = {trial: progress(folder, trial) for trial in trials}
    Console().print(render(states, Clock(), folder))
    save_rows(folder)
    return all(seen.state == "done" for seen in states.values())


def save_rows(folder: Path) -> None:
    """Writes a row for each trial of a sweep that has begun."""
    trials = read_plan(folder, {}).trials()
    write_rows([row(folder, t) for t in trials if Notes.of(folder, t).read()], folder / TRIALS)


def _bidist(arguments: Sequence[str], out: IO[bytes]) -> "subprocess.Popen[bytes]":
    """Starts `bidist`; it dies with this process, and the terminal's Ctrl-C reaches this process alone."""
    return subprocess.Popen(
        with_parent(bidist(*arguments)), stdin=subprocess.DEVNULL, stdout=out,
        stderr=out, start_new_session=True,
    )  # fmt: skip


def _last_line(path: Path) -> str:
    lines = path.read_text(errors="replace").splitlines()
    errors = [line for line in lines[-20:] if "error" in line.lower()]
    return (errors or lines or [""])[-1].strip()
