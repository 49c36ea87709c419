"""Runs a sweep: claims trials one by one, trains and evaluates each, resumes what was interrupted.

A trial is claimed by locking a file in the sweep's folder, and the operating system releases the lock however the
process ends. Any number of processes, on all machines that share the folder, can therefore work on one sweep, and no
claim goes stale. Trials run as `bidist train` and `bidist evaluate`; the sweep reads the files they leave.
"""

import contextlib
import logging
import shutil
import socket
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.live import Live

from common.files import locked
from deploy import processes
from experiments.sweeps.archive import keep, path_of
from experiments.sweeps.folder import save_rows
from experiments.sweeps.plan import Plan
from experiments.sweeps.progress import ACTIVE, Notes, Progress, progress
from experiments.sweeps.trial import Trial
from experiments.sweeps.view import Clock, plain, render
from reports.provenance import circumstances

log = logging.getLogger(__name__)

TICK_S, IDLE_S = 0.5, 3.0
LIVE_EVERY_S, PLAIN_EVERY_S = 2.0, 60.0
LEAVE_S = 90.0
# Another process may hold the lock for a moment, only to see whether the trial is claimed.
CLAIM_S = 0.2
RESUMES = 5
# The exit statuses of a command that SIGINT or SIGTERM ended, from a shell or from `bidist evaluate`.
INTERRUPTED = (130, 143)


@dataclass
class _Running:
    """A trial that this process runs: its claim, and the child process at work on it."""

    trial: Trial
    notes: Notes
    claim: contextlib.ExitStack
    child: "subprocess.Popen[bytes]"
    evaluating: bool


class Sweep:
    """Works on a sweep until nothing is left to do.

    Args:
      plan: the trials.
      folder: the sweep's folder, which will contain the run folders.
      jobs: trials to run at a time.
      options: further arguments of `bidist train`, such as `--actors 4`, that do not affect learning.
      stopping: when set, the trials stop with a checkpoint.
      archive: where each trial that is done is kept without its checkpoints; None keeps nothing.
    """

    def __init__(
        self,
        plan: Plan,
        folder: Path,
        jobs: int,
        options: Sequence[str],
        stopping: threading.Event,
        archive: Path | None = None,
    ) -> None:
        self._folder, self._jobs, self._options, self._stopping = folder, jobs, list(options), stopping
        self._archive = archive
        self._trials = plan.trials()
        self._running: list[_Running] = []
        self._tried: set[str] = set()
        self._resumed: Counter[str] = Counter()
        self._failed_before: dict[str, float | None] = {}
        self._console = Console()

    def run(self) -> bool:
        """Runs trials until each is done or has failed; returns whether all are done."""
        clock, shown = Clock(), 0.0
        records = {trial.name: Notes.of(self._folder, trial).read() for trial in self._trials}
        self._failed_before = {name: record.get("failed_at") for name, record in records.items()}
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
                # If a process elsewhere dies, its trial becomes free to claim.
                self._stopping.wait(TICK_S if self._running else IDLE_S)
            self._leave()
        save_rows(self._folder)
        states = self._states()
        self._console.print(render(states, clock, self._folder))
        return all(seen.state == "done" for seen in states.values())

    def _states(self) -> dict[Trial, Progress]:
        return {trial: progress(self._folder, trial) for trial in self._trials}

    def _claim(self) -> _Running | None:
        """Claims and starts the next trial that is neither done nor running; returns None if there is none.

        A trial that failed before this process started is tried once more. One that was killed or stopped resumes from
        its checkpoint.
        """
        for trial in self._trials:
            if trial.name in self._tried:
                continue
            if progress(self._folder, trial).state in ACTIVE:
                continue
            if self._settled(trial):
                self._tried.add(trial.name)
                self._keep(trial)
                continue
            notes, claim = Notes.of(self._folder, trial), contextlib.ExitStack()
            try:
                claim.enter_context(locked(notes.lock, CLAIM_S))
            except TimeoutError:
                continue
            self._tried.add(trial.name)
            if self._settled(trial):  # another process was faster
                claim.close()
                continue
            seen = progress(self._folder, trial)
            notes.write(command=trial.command, host=socket.gethostname(), error=None, **circumstances())
            return _Running(trial, notes, claim, self._start(trial, notes, seen.trained), seen.trained)
        return None

    def _settled(self, trial: Trial) -> bool:
        """Returns whether a trial is done, or has failed since this process started."""
        record = Notes.of(self._folder, trial).read()
        failed = bool(record.get("error")) and record["failed_at"] != self._failed_before.get(trial.name)
        return failed or progress(self._folder, trial).state == "done"

    def _start(self, trial: Trial, notes: Notes, evaluating: bool) -> "subprocess.Popen[bytes]":
        folder = trial.folder(self._folder)
        if evaluating:
            arguments = [*trial.evaluate(self._folder), *(["--workers", "1"] if self._jobs > 1 else [])]
        elif folder.config.exists():
            resume = ["train", "--resume", trial.name, "--folder", str(self._folder)]
            arguments = [*resume, "--games", str(trial.games), *self._options]
        else:
            shutil.rmtree(folder.path, ignore_errors=True)  # of a run killed before it wrote anything
            arguments = [*trial.train(), "--folder", str(self._folder), *self._options]
        with notes.log.open("ab") as out:
            return processes.start(processes.bidist(*arguments), out)

    def _reap(self) -> None:
        """Handles the children that have ended: starts the evaluation, or records the outcome."""
        for running in list(self._running):
            status = running.child.poll()
            if status is None:
                continue
            trial, seen = running.trial, progress(self._folder, running.trial)
            if status == 0 and seen.trained and trial.scenarios and not running.evaluating:
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
            else:
                self._keep(trial)
            running.claim.close()
            self._running.remove(running)
            save_rows(self._folder)

    def _keep(self, trial: Trial) -> None:
        """Archives a trial, if it is done and there is an archive that lacks it."""
        if self._archive is None or path_of(trial, self._archive).exists():
            return
        if progress(self._folder, trial).state == "done":
            keep(self._folder, trial, self._archive)

    def _leave(self) -> None:
        """Stops the children, which write a checkpoint; kills those that take too long."""
        for running in self._running:
            running.child.terminate()
        deadline = time.monotonic() + LEAVE_S
        for running in self._running:
            processes.wait(running.child, max(0.1, deadline - time.monotonic()))
            running.claim.close()
        self._running.clear()


def _last_line(path: Path) -> str:
    lines = path.read_text(errors="replace").splitlines()
    errors = [line for line in lines[-20:] if "error" in line.lower()]
    return (errors or lines or [""])[-1].strip()
