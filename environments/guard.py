"""A game that may break: what it returns is checked, and a broken game is rebuilt while the others play on."""

import logging
import time
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from common.errors import SubstrateError
from environments.interface import Environment, Observation, Step

log = logging.getLogger(__name__)

MAX_FAILURES = 5
FIRST_BACKOFF_S = 0.5


class Guarded:
    """Wraps a game. When it raises, or returns what its spec rules out, the episode ends there, truncated.

    It is built again at once, and if that one fails too without completing an episode, after a rest that doubles each
    time: 0.5, 1 and 2 s. The actor's other games wait meanwhile.

    Args:
      build: builds the game from a seed.
      seed: of the first game; later ones derive theirs from it.
      sleep: waits for some seconds.

    Raises:
      SubstrateError: from `reset` and `step`, if it failed `MAX_FAILURES` times without completing an episode.
    """

    def __init__(
        self, build: Callable[[int], Environment], seed: int, sleep: Callable[[float], object] = time.sleep
    ) -> None:
        self._build, self._seed, self._sleep = build, seed, sleep
        self._game = build(seed)
        self._game_seed, self._episode = seed, 0
        self._built, self._failed, self._broken = 1, 0, False
        self.spec = self._game.spec

    def reset(self, seed: int | None = None) -> Observation:
        """See `Environment`."""
        while True:
            try:
                if self._broken:
                    self._rebuild()
                self._episode += 1
                self._observation = self._checked(self._game.reset(seed))
                return self._observation
            except Exception as error:
                self._note(error)

    def step(self, action: NDArray[np.int32]) -> Step:
        """See `Environment`."""
        try:
            step = self._game.step(action)
            self._checked(step.observation)
            _check("reward", step.reward, (self.spec.players,), np.float32)
        except Exception as error:
            self._note(error)
            return Step(self._observation, np.zeros(self.spec.players, np.float32), truncated=True)
        self._observation = step.observation
        if step.terminated or step.truncated:
            self._failed = 0
        return step

    def close(self) -> None:
        """See `Environment`."""
        self._game.close()

    def _rebuild(self) -> None:
        try:
            self._game.close()
        except Exception as error:
            log.warning("%s cannot be closed: %r", self.spec.name, error)
        if self._failed > 1:
            self._sleep(FIRST_BACKOFF_S * 2.0 ** (self._failed - 2))
        seed = (self._seed + 7919 * self._built) % 2**32
        self._built += 1
        self._game = self._build(seed)
        self._game_seed, self._episode, self._broken = seed, 0, False

    def _note(self, error: Exception) -> None:
        self._failed, self._broken = self._failed + 1, True
        if self._failed >= MAX_FAILURES:
            raise SubstrateError(f"{self.spec.name} failed {self._failed} times in a row: {error!r}") from error
        where = f"{self.spec.name}, seed {self._game_seed}, episode {self._episode}"
        log.error("%s: it failed and is built again: %r", where, error)

    def _checked(self, observation: Observation) -> Observation:
        n = self.spec.players
        _check("rgb", observation.rgb, (n, *self.spec.rgb_shape), np.uint8)
        _check("features", observation.features, (n, self.spec.features), np.float32)
        _check("active", observation.active, (n,), np.bool_)
        return observation


def _check(name: str, found: object, shape: tuple[int, ...], dtype: type[np.generic]) -> None:
    if not isinstance(found, np.ndarray) or found.shape != shape or found.dtype != dtype:
        what = f"{found.shape} {found.dtype}" if isinstance(found, np.ndarray) else type(found).__name__
        raise SubstrateError(f"{name} is {what}, expected {shape} {np.dtype(dtype)}")
    if dtype is np.float32 and not np.isfinite(found).all():
        raise SubstrateError(f"{name} holds a number that is not finite")
