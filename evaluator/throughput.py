"""Environment steps per second of one core in a scenario, focal players random; `bidist bench --scenario` runs it.

python -m evaluator.throughput batched|reference SCENARIO SECONDS CORE
"""

import json
import os
import sys
import time
from typing import Any

import torch

from common.config import Config, EnvironmentConfig
from evaluator import reference, rollout
from evaluator.scenarios import scenario

WARM_UP_S = 5.0
EPISODES = 10_000


class _Over(Exception):
    """The time is up."""


class Clock:
    """Counts steps from some seconds after the first one, for some seconds, and then ends the play."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._first: float | None = None
        self._began: float | None = None
        self.env_steps, self.elapsed_s = 0, 0.0

    def tick(self, _: Any) -> None:
        """Another step is about to be played."""
        now = time.monotonic()
        self._first = self._first or now
        if self._began is None:
            if now - self._first > WARM_UP_S:
                self._began = now
            return
        self.env_steps += 1
        self.elapsed_s = now - self._began
        if self.elapsed_s > self._seconds:
            raise _Over


def main() -> None:
    """Prints `env_steps` and `elapsed_s` as JSON."""
    path, name, seconds, core = sys.argv[1:]
    os.sched_setaffinity(0, {int(core)})
    torch.set_num_threads(1)
    played = scenario(name)
    config = Config(environment=EnvironmentConfig(substrate=played.substrate))
    clock = Clock(float(seconds))
    jobs = ((played, i) for i in range(EPISODES))
    try:
        if path == "reference":
            for _ in reference.play(jobs, config, None, 0, watch=clock.tick):
                pass
        else:
            for _ in rollout.play(jobs, config, None, 0, watch=clock.tick):
                pass
    except _Over:
        print(json.dumps({"env_steps": clock.env_steps, "elapsed_s": clock.elapsed_s}))


if __name__ == "__main__":
    main()
