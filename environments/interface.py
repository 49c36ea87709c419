"""What a game is to an actor: N players who observe, act together and are rewarded one by one."""

from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from common.spec import EnvironmentSpec


class Observation(NamedTuple):
    """What all players see, and whether what they do now matters.

    Attributes:
      rgb: [N, H, W, 3] uint8.
      features: [N, F] float32.
      active: [N] bool, false for a player who is frozen or out of the game; no policy sees it, no loss counts the step.
    """

    rgb: NDArray[np.uint8]
    features: NDArray[np.float32]
    active: NDArray[np.bool_]


@dataclass(frozen=True)
class Step:
    """What follows an action: the next observation, reward [N] float32, and whether and how the episode ended.

    `statistics` may be filled at an episode's end: what else the game counted, each the mean over players.
    """

    observation: Observation
    reward: NDArray[np.float32]
    terminated: bool = False
    truncated: bool = False
    statistics: dict[str, float] = field(default_factory=dict)


class Environment(Protocol):
    """A game that is played in episodes."""

    @property
    def spec(self) -> EnvironmentSpec:
        """What a policy has to know."""

    def reset(self, seed: int | None = None) -> Observation:
        """Starts the next episode; a seed starts everything random in the game anew, None continues."""

    def step(self, action: NDArray[np.int32]) -> Step:
        """Plays one step; action [N] in 0..A-1. After a step that ended the episode, `reset` is due."""

    def close(self) -> None:
        """Frees what the game holds; it cannot be played any more."""
