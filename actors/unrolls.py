"""Cuts what the environments of one actor play into unrolls."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from common.spec import EnvironmentSpec
from environments import Observation


class Recorder:
    """T rows of E environments, written as they are played.

    All environments share one clock, so that policies can be swapped for all of them when it wraps; an environment
    whose episode ends in between gets a short unroll there and another one up to the wrap.

    Args:
      spec: the game.
      environments: E.
      unroll_length: T.
      state_size: S, length of a player's recurrent state.
    """

    def __init__(self, spec: EnvironmentSpec, environments: int, unroll_length: int, state_size: int) -> None:
        e, t, n = environments, unroll_length, spec.players
        self.rgb = np.zeros((t + 1, e, n, *spec.rgb_shape), np.uint8)
        self.features = np.zeros((t + 1, e, n, spec.features), np.float32)
        self.active = np.zeros((t + 1, e, n), bool)
        self.action = np.zeros((t, e, n), np.int32)
        self.log_prob = np.zeros((t, e, n), np.float32)
        self.reward = np.zeros((t, e, n), np.float32)
        self.discount = np.zeros((t, e, n), np.float32)
        self._state = np.zeros((e, n, state_size), np.float32)
        self._start = [0] * e
        self.clock = 0

    @property
    def full(self) -> bool:
        """Whether the clock has reached T: every environment's unroll is due, then `wrap`."""
        return self.clock == len(self.action)

    def observe(self, environment: int, row: int, observation: Observation) -> None:
        """Writes what an environment's players see."""
        self.rgb[row, environment] = observation.rgb
        self.features[row, environment] = observation.features
        self.active[row, environment] = observation.active

    def begin(self, environment: int, row: int, state: NDArray[np.float32]) -> None:
        """Lets an environment's next unroll begin at a row, with its players' recurrent state [N, S]."""
        self._start[environment] = row
        self._state[environment] = state

    def cut(self, environment: int, end: int) -> dict[str, NDArray[Any]] | None:
        """Copies an environment's unroll up to the observation in row `end`; None if no step was played.

        Returns: the arrays of a `common.unroll.Unroll`, by name.
        """
        start = self._start[environment]
        if start == end:
            return None
        steps, rows = slice(start, end), slice(start, end + 1)
        parts: dict[str, NDArray[Any]] = {
            "rgb": self.rgb[rows], "features": self.features[rows], "active": self.active[steps],
            "action": self.action[steps], "log_prob": self.log_prob[steps], "reward": self.reward[steps],
            "discount": self.discount[steps],
        }  # fmt: skip
        copies = {name: part[:, environment].copy() for name, part in parts.items()}
        return copies | {"state": self._state[environment].copy()}

    def wrap(self) -> None:
        """Turns the clock back: the last observations become the first."""
        self.rgb[0], self.features[0], self.active[0] = self.rgb[-1], self.features[-1], self.active[-1]
        self.clock = 0
