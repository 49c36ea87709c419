"""The progress of a sweep, as one screen or one line."""

import time
from collections import Counter, deque
from collections.abc import Mapping
from pathlib import Path
from typing import get_args

from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from experiments.sweeps.progress import ACTIVE, Progress, State
from experiments.sweeps.trial import Trial

SHOWN = 12
WINDOW_S = 600.0

States = Mapping[Trial, Progress]


class Clock:
    """A sweep's training rate over the last ten minutes, and the time left."""

    def __init__(self) -> None:
        self._seen: deque[tuple[float, int]] = deque()

    def tick(self, states: States) -> None:
        """Records the progress of all trials."""
        now = time.monotonic()
        self._seen.append((now, _steps(states)))
        while len(self._seen) > 2 and now - self._seen[1][0] > WINDOW_S:
            self._seen.popleft()

    @property
    def rate(self) -> float:
        """Player steps per second, over all machines that work on the sweep; 0 until it is known."""
        if len(self._seen) < 2:
            return 0.0
        (t0, steps0), (t1, steps1) = self._seen[0], self._seen[-1]
        return (steps1 - steps0) / (t1 - t0) if t1 > t0 else 0.0

    def left(self, states: States) -> str:
        """The training time left, in words, without evaluations."""
        todo = sum(t.steps - min(t.steps, s.player_steps) for t, s in states.items() if s.state != "failed")
        if not todo:
            return "no training left"
        rate = self.rate or sum(s.player_steps_per_s for s in states.values() if s.state == "training")
        if rate <= 0:
            return "time left unknown"
        hours, minutes = divmod(round(todo / rate / 60), 60)
        return (f"{hours}h{minutes:02d}m" if hours else f"{minutes}m") + " of training left"


def plain(states: States, clock: Clock) -> str:
    """Summarises the progress in one line, for logs, with the time in UTC."""
    count = Counter(seen.state for seen in states.values())
    active = [(trial, seen) for trial, seen in states.items() if seen.state in ACTIVE]
    now = ", ".join(f"{trial.name} {_doing(trial, seen)}" for trial, seen in active)
    parts = [f"{count['done']} of {len(states)} trials done", f"{count['failed']} failed", clock.left(states), now]
    return f"{time.strftime('%Y-%m-%dT%H:%M:%SZ', time.gmtime())} " + " | ".join(part for part in parts if part)


def render(states: States, clock: Clock, folder: Path) -> RenderableType:
    """Draws the progress as one screen."""
    count = Counter(seen.state for seen in states.values())
    total = sum(trial.steps for trial in states)
    head = Table.grid(padding=(0, 2))
    head.add_row(ProgressBar(total=max(total, 1), completed=_steps(states), width=30), f"{clock.left(states)}")
    words = ", ".join(f"{count[state]} {state}" for state in get_args(State) if count[state])
    head.add_row(f"{len(states)} trials: {words}", f"{clock.rate:,.0f} player steps/s" if clock.rate else "")
    table = Table("trial", "state", "player steps", "return", box=None)
    active = [(t, s) for t, s in states.items() if s.state not in ("waiting", "done")]
    for trial, seen in active[:SHOWN]:
        style = {"failed": "red", "stopped": "yellow"}.get(seen.state, "")
        state = Text(_doing(trial, seen) if seen.state == "evaluating" else seen.state, style=style)
        steps = f"{seen.player_steps:,} of {trial.steps:,}"
        table.add_row(trial.name, state, steps, f"{seen.training_return:.2f}")
        if seen.error:
            table.add_row("", Text(seen.error, style="red", overflow="fold"), "", "")
    more = [Text(f"and {len(active) - SHOWN} more", style="dim")] if len(active) > SHOWN else []
    return Panel(Group(head, *([table] if active else []), *more), title=str(folder), border_style="dim")


def _doing(trial: Trial, seen: Progress) -> str:
    if seen.state == "evaluating":
        return f"evaluating, {seen.episodes} of {trial.episodes * len(trial.scenarios)} episodes"
    return f"{seen.player_steps / trial.steps:.0%}"


def _steps(states: States) -> int:
    return sum(min(trial.steps, seen.player_steps) for trial, seen in states.items())
