"""The interface of a game: N players observe, act simultaneously, and get a reward each."""

from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from common.spec import EnvironmentSpec


class Observation(NamedTuple):
    """What all players observe, and whether their next action matters.

    Attributes:
      rgb: [N, H, W, 3] uint8.
      features: [N, F] float32.
      active: [N] bool, false for a player that is frozen or out of the game; no policy sees it, and losses skip the
        step.
    """

    rgb: NDArray[np.uint8]
    features: NDArray[np.float32]
    active: NDArray[np.bool_]


@dataclass(frozen=True)
class Step:
    """The result of an action: the next observation, reward [N] float32, and whether and how the episode ended.

    At the end of an episode, `statistics` may hold the game's own counts, each the mean over players.
    """

    observation: Observation
    reward: NDArray[np.float32]
    terminated: bool = False
    truncated: bool = False
    statistics: dict[str, float] = field(default_factory=dict)


class Environment(Protocol):
    """A game, played in episodes."""

    @property
    def spec(self) -> EnvironmentSpec:
        """What a policy must know about the game."""

    def reset(self, seed: int | None = None) -> Observation:
        """Starts the next episode; a seed reseeds everything random in the game, None continues."""

    def step(self, action: NDArray[np.int32]) -> Step:
        """Plays one step; action [N] in 0..A-1. Call `reset` after a step that ended the episode."""

    def close(self) -> None:
        """Frees the game's resources; it cannot be played afterwards."""
