"""`pettingzoo:tests.helpers.breaking_game:Breaking`, a game that breaks its actor's process when a file tells it to.

The first process to take the file `exit` or `hang` from the folder in `BREAKING` does as it says; the others play on.
"""

import contextlib
import os
from pathlib import Path
from typing import Any

import numpy as np
from gymnasium import spaces

LENGTH = 8


class Breaking:
    """Two agents, four actions, eight steps."""

    possible_agents = ["ann", "bob"]

    def observation_space(self, agent: str) -> spaces.Box:
        return spaces.Box(0, 1, (3,), np.float32)

    def action_space(self, agent: str) -> spaces.Discrete:
        return spaces.Discrete(4)

    def reset(self, seed: int | None = None) -> tuple[dict[str, Any], dict[str, Any]]:
        self._t = 0
        return self._all(np.zeros(3, np.float32)), self._all({})

    def step(self, actions: dict[str, int]) -> tuple[dict[str, Any], ...]:
        if told("exit"):
            os._exit(7)
        if told("hang"):
            hang()
        self._t += 1
        over = self._t == LENGTH
        seen = np.full(3, self._t / LENGTH, np.float32)
        return self._all(seen), self._all(1.0), self._all(over), self._all(False), self._all({})

    def close(self) -> None:
        pass

    def _all(self, value: Any) -> dict[str, Any]:
        return dict.fromkeys(self.possible_agents, value)


def told(what: str) -> bool:
    """Whether this process is the first to take a file, which renaming makes certain."""
    path = Path(os.environ["BREAKING"]) / what
    with contextlib.suppress(FileNotFoundError):
        path.rename(path.with_name(f"{what}-taken"))
        return True
    return False


def hang() -> None:
    while True:
        pass
