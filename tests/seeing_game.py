"""A game with images, small enough for tests: three players, each sees noise and is paid for its brightest colour."""

from typing import Any

import numpy as np
from gymnasium.spaces import Box, Discrete, Space
from pettingzoo import ParallelEnv

PLAYERS, EDGE, LENGTH = 3, 8, 8


class SeeingGame(ParallelEnv[str, Any, Any]):
    """See above."""

    def __init__(self) -> None:
        self.possible_agents = [f"player_{i}" for i in range(PLAYERS)]
        self.agents = self.possible_agents
        self._rng = np.random.default_rng(0)
        self._step = 0

    def observation_space(self, agent: str) -> Space[Any]:
        """An image."""
        return Box(0, 255, (EDGE, EDGE, 3), np.uint8)

    def action_space(self, agent: str) -> Space[Any]:
        """A colour."""
        return Discrete(3)

    def reset(self, seed: int | None = None, options: Any = None) -> tuple[Any, Any]:
        """Begins an episode."""
        self._step = 0
        return self._look(), {}

    def step(self, actions: Any) -> Any:
        """Pays, and looks again."""
        self._step += 1
        rewards = {agent: float(self._seen[agent].sum((0, 1)).argmax() == actions[agent]) for agent in self.agents}
        over = dict.fromkeys(self.agents, self._step == LENGTH)
        return self._look(), rewards, over, dict.fromkeys(self.agents, False), {}

    def _look(self) -> Any:
        self._seen = {a: self._rng.integers(0, 256, (EDGE, EDGE, 3), dtype=np.uint8) for a in self.agents}
        return self._seen


def environment() -> SeeingGame:
    """Makes one."""
    return SeeingGame()
