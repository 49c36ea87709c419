"""Shows the progress of an evaluation: a bar on a terminal, an occasional line elsewhere."""

import sys
import time

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

PRINT_EVERY_S = 10.0


class EpisodeProgress:
    """Counts episodes as they end, and estimates the time left from the steps played.

    Args:
      total: episodes to play.
      what: what is played; shown after the word "evaluating".
    """

    def __init__(self, total: int, what: str) -> None:
        counts = TextColumn("evaluating {task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("episodes")
        speed = TextColumn("{task.fields[rate]}"), TextColumn("{task.fields[left]}")
        self._bar = Progress(*counts, *speed, disable=not sys.stdout.isatty())
        self._task = self._bar.add_task(what, total=total, rate="", left="")
        self._total, self._played, self._env_steps = total, 0, 0
        self._left: float | None = None
        self._began = self._printed = time.monotonic()

    def __enter__(self) -> "EpisodeProgress":
        self._bar.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._bar.stop()

    def tick(self, env_steps: int) -> None:
        """Updates the rate and the time left; env_steps counts all steps so far, unfinished episodes included."""
        now = time.monotonic()
        elapsed = now - self._began
        rate = env_steps / elapsed if elapsed > 0 else 0.0
        # The length of episodes is unknown until the first has ended.
        length = self._env_steps / self._played if self._played else None
        self._left = None if length is None or not rate else max(0.0, (length * self._total - env_steps) / rate)
        shown = "" if self._left is None else f"left {_duration(self._left)}"
        self._bar.update(self._task, rate=f"{rate:,.0f} env steps/s", left=shown)
        if self._bar.disable and now - self._printed > PRINT_EVERY_S:
            self._printed = now
            print(f"{self._played} of {self._total} episodes, {rate:,.0f} env steps/s {shown}", flush=True)

    def step(self, env_steps: int) -> None:
        """Counts an episode that has ended."""
        self._played += 1
        self._env_steps += env_steps
        self._bar.update(self._task, advance=1)


def _duration(seconds: float) -> str:
    minutes, s = divmod(int(seconds), 60)
    return f"{minutes}m{s:02d}s" if minutes else f"{s}s"
