"""Episodes that end early, for tests of what happens within one: in coins they take from 300 to 5,000 steps."""

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from environments import Observation
from environments.interface import Step
from evaluator.play import Observer, Table


class ShortGame:
    """A game whose episodes are truncated after some steps; everything else is the game's own."""

    def __init__(self, game: Any, steps: int) -> None:
        self._game, self._steps = game, steps
        self._left = steps

    def __getattr__(self, name: str) -> Any:
        return getattr(self._game, name)

    def reset(self, seed: int | None = None) -> Observation:
        """See `Environment`."""
        self._left = self._steps
        observation: Observation = self._game.reset(seed)
        return observation

    def step(self, action: NDArray[np.int32]) -> Step:
        """See `Environment`."""
        self._left -= 1
        step: Step = self._game.step(action)
        return replace(step, truncated=self._left == 0 and not step.terminated or step.truncated)


class Shortened(Observer):
    """Shortens the episodes of every table it watches."""

    def __init__(self, steps: int) -> None:
        self._steps = steps

    def begin(self, table: Table[Any, Any]) -> None:
        """See `Observer`."""
        if not isinstance(table.game, ShortGame):
            table.game = ShortGame(table.game, self._steps)
