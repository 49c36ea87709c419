"""One dmlab2d game, played by all of its players at once."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from common.errors import SubstrateError


class Lab2dGame:
    """Builds a game, starts its episodes, acts for every player, and reads observations by name.

    Args:
      name: the substrate's name, for error messages.
      action_set: what each action means: a control's name to its value.

    Attributes:
      builds: how many times the game has been built.
    """

    def __init__(self, name: str, action_set: Sequence[Mapping[str, int]]) -> None:
        self._name, self._action_set = name, action_set
        self.builds = 0

    def build(self, settings: Mapping[str, str], seed: int) -> None:
        """Builds the game from dmlab2d's settings, in place of the previous one."""
        from dmlab2d import Lab2d, runfiles_helper

        self._env = Lab2d(runfiles_helper.find(), {**settings, "env_seed": str(seed)})
        self.builds += 1
        # dmlab2d lists the players' controls in an order that differs from build to build.
        names = self._env.action_discrete_names()
        self._player = np.array([int(name.partition(".")[0]) - 1 for name in names])
        self._table = np.array(
            [[entry[name.partition(".")[2]] for name in names] for entry in self._action_set], np.int32
        )
        self._columns = np.arange(len(names))

    def start(self, seed: int) -> None:
        """Starts an episode.

        Raises:
          SubstrateError: if the game breaks.
        """
        try:
            self._env.start(0, seed=seed)
        except (RuntimeError, ValueError) as error:
            raise SubstrateError(f"{self._name}: dmlab2d failed to start an episode: {error}") from error

    def act(self, action: NDArray[np.int32]) -> tuple[bool, bool]:
        """Plays one step; action [N] indexes the action set. Returns whether the episode is over, and if truncated.

        Raises:
          SubstrateError: if the game breaks.
        """
        from dmlab2d import INTERRUPTED, RUNNING

        self._env.act_discrete(self._table[action[self._player], self._columns])
        try:
            status, _ = self._env.advance()
        except RuntimeError as error:
            raise SubstrateError(f"{self._name}: dmlab2d failed: {error}") from error
        return status != RUNNING, status == INTERRUPTED

    def observe(self, name: str) -> NDArray[Any]:
        """Reads what dmlab2d shows now under a name, such as `1.RGB`."""
        observation: NDArray[Any] = self._env.observation(name)
        return observation

    def shape(self, name: str) -> tuple[int, ...]:
        """Returns the shape of an observation."""
        return tuple(self._env.observation_spec(name)["shape"])

    def events(self) -> Iterator[tuple[str, dict[bytes, Any]]]:
        """Yields what the last step reported, as (event, its fields)."""
        for event, payload in self._env.events():
            yield event, dict(zip(payload[1::2], payload[2::2], strict=False))

    def close(self) -> None:
        """Drops the game; dmlab2d frees it once nothing refers to it."""
        del self._env
