"""Running means over the newest episodes, separately for learning players and the others."""

from collections import deque
from collections.abc import Sequence
from typing import Any

import numpy as np

from common.run_folder import renamed
from common.unroll import Unroll
from common.weights import is_phi_version

WINDOW = 20


class Episodes:
    """Returns and counts of the newest `WINDOW` finished episodes."""

    def __init__(self) -> None:
        self.count = 0
        self._values: dict[str, deque[float]] = {}

    def take(self, unrolls: Sequence[Unroll]) -> None:
        """Adds the episodes that ended with these unrolls."""
        for header in (unroll.header for unroll in unrolls):
            if header.episode is None:
                continue
            self.count += 1
            returns, learning = np.array(header.episode.returns), np.array(header.learning)
            for name, who in (("learning", learning), ("others", ~learning)):
                if who.any():
                    self._add(f"return_{name}", float(returns[who].mean()))
            kinds = np.array([kind(driver) for driver in header.drivers])
            for name in sorted(set(kinds) - {""}):
                self._add(f"return_{name}", float(returns[kinds == name].mean()))
            self._add("episode_env_steps", header.episode.env_steps)
            for name, value in header.episode.statistics.items():
                self._add(f"episode_{name}", value)

    def means(self) -> dict[str, float]:
        """Returns by metric: return per player, steps per episode, the game's own counts per player and episode."""
        return {name: float(np.mean(values)) for name, values in self._values.items()}

    def state(self) -> dict[str, Any]:
        """Returns what a checkpoint keeps."""
        return {"count": self.count, "values": {name: list(values) for name, values in self._values.items()}}

    def restore(self, state: dict[str, Any]) -> None:
        """Restores what `state` returned."""
        self.count = state["count"]
        self._values = {name: deque(values, WINDOW) for name, values in renamed(state["values"]).items()}

    def _add(self, name: str, value: float) -> None:
        self._values.setdefault(name, deque(maxlen=WINDOW)).append(value)


def kind(driver: str) -> str:
    """Returns which sort of phi a driver is, such as `phi_reverse` for `phi:12:reverse`; empty if it is none."""
    phi, _, direction = driver.rpartition(":")
    return f"phi_{direction}" if is_phi_version(phi) else ""
