"""Small games with images, for tests: three players, each rewarded for naming what it sees."""

from typing import Any

import numpy as np
from gymnasium.spaces import Box, Discrete, Space
from pettingzoo import ParallelEnv

PLAYERS, EDGE, LENGTH = 3, 8, 8


class SeeingGame(ParallelEnv[str, Any, Any]):  # type: ignore[misc]
    """Random noise; the answer is the brightest colour."""

    def __init__(self) -> None:
        self.possible_agents = [f"player_{i}" for i in range(PLAYERS)]
        self.agents = self.possible_agents
        self._rng = np.random.default_rng(0)
        self._step = 0

    def observation_space(self, agent: str) -> Space[Any]:
        """See `ParallelEnv`: an image."""
        return Box(0, 255, (EDGE, EDGE, 3), np.uint8)

    def action_space(self, agent: str) -> Space[Any]:
        """See `ParallelEnv`: one of three answers."""
        return Discrete(3)

    def reset(self, seed: int | None = None, options: Any = None) -> tuple[Any, Any]:
        """Starts an episode."""
        self._step = 0
        return self._look(), {}

    def step(self, actions: Any) -> Any:
        """Rewards the answers and shows new images."""
        self._step += 1
        rewards = {agent: float(self.answer(self._seen[agent]) == actions[agent]) for agent in self.agents}
        over = dict.fromkeys(self.agents, self._step == LENGTH)
        return self._look(), rewards, over, dict.fromkeys(self.agents, False), {}

    def answer(self, image: Any) -> int:
        """Returns the right answer for an image."""
        return int(image.sum((0, 1)).argmax())

    def image(self) -> Any:
        """Draws an image."""
        return self._rng.integers(0, 256, (EDGE, EDGE, 3), dtype=np.uint8)

    def _look(self) -> Any:
        self._seen = {agent: self.image() for agent in self.agents}
        return self._seen


class PlaceGame(SeeingGame):
    """A bright bar in two of six columns; the answer is which two, and depends on no colour."""

    def answer(self, image: Any) -> int:
        """See `SeeingGame`."""
        return int(image.sum((0, 2))[:6].reshape(3, 2).sum(1).argmax())

    def image(self) -> Any:
        """See `SeeingGame`."""
        image = self._rng.integers(0, 40, (EDGE, EDGE, 3), dtype=np.uint8)
        column = 2 * self._rng.integers(3)
        image[:, column : column + 2] += 200
        return image


def environment() -> SeeingGame:
    """Makes the game about colours."""
    return SeeingGame()


def places() -> SeeingGame:
    """Makes the game about positions."""
    return PlaceGame()
