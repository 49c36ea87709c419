"""Cuts what the environments of one actor play into unrolls."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from common.unroll import FIELDS, UnrollSpec
from environments import Observation


class Recorder:
    """T steps of E environments, written as they are played.

    All environments share one clock, so that policies can be replaced for all of them when it wraps. An environment
    whose episode ends in between gets a short unroll there, and another up to the wrap.

    Args:
      spec: the shape of unrolls.
      environments: E.

    Attributes:
      rows: by name, [T+1, E, N, ...]: the observations of each step and what followed it. What follows a step leaves
        its last row unused.
      clock: the row to be played next.
    """

    def __init__(self, spec: UnrollSpec, environments: int) -> None:
        self._unroll_length = spec.unroll_length
        shapes = spec.shapes(spec.unroll_length)
        self.rows: dict[str, NDArray[Any]] = {
            name: np.zeros((spec.unroll_length + 1, environments, *shape[1:]), dtype)
            for name, (dtype, shape) in shapes.items()
            if FIELDS[name].timed
        }
        dtype, shape = shapes["state"]
        self._state = np.zeros((environments, *shape), dtype)
        self._start = [0] * environments
        self.clock = 0

    @property
    def full(self) -> bool:
        """Whether the clock has reached T: every environment's unroll is due, then `wrap`."""
        return self.clock == self._unroll_length

    def observe(self, environment: int, row: int, observation: Observation) -> None:
        """Records what an environment's players observe."""
        self.rows["rgb"][row, environment] = observation.rgb
        self.rows["features"][row, environment] = observation.features
        self.rows["active"][row, environment] = observation.active

    def begin(self, environment: int, row: int, state: NDArray[np.float32]) -> None:
        """Begins an environment's next unroll at a row, with its players' recurrent state [N, S]."""
        self._start[environment] = row
        self._state[environment] = state

    def cut(self, environment: int, end: int) -> dict[str, NDArray[Any]] | None:
        """Copies an environment's unroll up to the observation in row `end`; None if no step was played.

        Returns: the arrays of a `common.unroll.Unroll`, by name.
        """
        start = self._start[environment]
        if start == end:
            return None
        arrays: dict[str, NDArray[Any]] = {"state": self._state[environment].copy()}
        for name, rows in self.rows.items():
            last = end + (FIELDS[name].axes[0] == "T+1")
            arrays[name] = rows[start:last, environment].copy()
        return {name: arrays[name] for name in FIELDS}

    def wrap(self) -> None:
        """Turns the clock back: the last observations become the first."""
        for name in ("rgb", "features", "active"):
            self.rows[name][0] = self.rows[name][-1]
        self.clock = 0
