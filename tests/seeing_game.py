"""Games with images, small enough for tests: three players, each paid for saying what it sees."""

from typing import Any

import numpy as np
from gymnasium.spaces import Box, Discrete, Space
from pettingzoo import ParallelEnv

PLAYERS, EDGE, LENGTH = 3, 8, 8


class SeeingGame(ParallelEnv[str, Any, Any]):
    """Noise; which colour is the brightest?"""

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
        rewards = {agent: float(self.answer(self._seen[agent]) == actions[agent]) for agent in self.agents}
        over = dict.fromkeys(self.agents, self._step == LENGTH)
        return self._look(), rewards, over, dict.fromkeys(self.agents, False), {}

    def answer(self, image: Any) -> int:
        """What to say of an image."""
        return int(image.sum((0, 1)).argmax())

    def image(self) -> Any:
        """Draws one."""
        return self._rng.integers(0, 256, (EDGE, EDGE, 3), dtype=np.uint8)

    def _look(self) -> Any:
        self._seen = {agent: self.image() for agent in self.agents}
        return self._seen


class PlaceGame(SeeingGame):
    """A bar, in two columns out of six; which two? Any filter of colours leaves that to be seen."""

    def answer(self, image: Any) -> int:
        """See `SeeingGame`."""
        return int(image.sum((0, 2))[:6].reshape(3, 2).sum(1).argmax())

    def image(self) -> Any:
        """See `SeeingGame`."""
        image = self._rng.integers(0, 40, (EDGE, EDGE, 3), dtype=np.uint8)
        place = 2 * self._rng.integers(3)
        image[:, place : place + 2] += 200
        return image


def environment() -> SeeingGame:
    """Makes one."""
    return SeeingGame()


def places() -> SeeingGame:
    """Makes the one about places."""
    return PlaceGame()
