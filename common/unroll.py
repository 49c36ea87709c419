"""The unroll: what an actor ships, and the axes of every array in the project.

Axes: T time, B unrolls, N players, A actions, always in the order `[T, B, N, ...]`; an unroll off the wire has no B.
`action[t]` is chosen at row t of the observation; `reward[t]` and `discount[t]` follow it, so there is one more row of
observations than of actions. An unroll never crosses the end of an episode. It is cut short there: its last
observation is the terminal one, and the last `discount` is 0 if the game terminated, 1 if it was truncated. Recurrent
state is therefore needed at row 0 only, and whoever drives a player drives it for the whole unroll.

`FIELDS` is the one table of an unroll's arrays. The actor's buffers, the checks of incoming messages and the learner's
batches are built from it.
"""

import math
from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, FailFast, Field

from common.errors import WireError
from common.spec import EnvironmentSpec
from common.weights import THETA

PROTOCOL = 2

Name = Annotated[str, Field(min_length=1, max_length=200)]
Count = Annotated[int, Field(ge=0, le=2**62)]
# Lists are bounded so that a nonsensical header cannot cost the learner seconds.
MAX_PLAYERS = 1024


@dataclass(frozen=True)
class ArrayField:
    """One array of an unroll.

    Attributes:
      dtype: of its elements.
      axes: the symbols of its axes, resolved by `UnrollSpec.shapes`.
    """

    dtype: type[np.generic]
    axes: tuple[str, ...]

    @property
    def timed(self) -> bool:
        """Whether it has a row for each step, rather than one for the whole unroll."""
        return self.axes[0] in ("T", "T+1")


FIELDS = {
    "rgb": ArrayField(np.uint8, ("T+1", "N", "H", "W", "C")),
    "features": ArrayField(np.float32, ("T+1", "N", "F")),
    "active": ArrayField(np.bool_, ("T", "N")),
    "action": ArrayField(np.int32, ("T", "N")),
    "log_prob": ArrayField(np.float32, ("T", "N")),
    "reward": ArrayField(np.float32, ("T", "N")),
    "discount": ArrayField(np.float32, ("T", "N")),
    "state": ArrayField(np.float32, ("N", "S")),
}
ARRAYS = tuple(FIELDS)


class EpisodeSummary(BaseModel):
    """The episode that ended with an unroll."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    env_steps: Count
    """The episode's length."""
    returns: Annotated[list[float], Field(max_length=MAX_PLAYERS)]
    """Each player's undiscounted return, [N]."""
    statistics: dict[str, float] = Field(default_factory=dict, max_length=64)
    """The game's own counts by name, each averaged over players."""


class UnrollHeader(BaseModel):
    """Frame 0 of an unroll on the wire."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    protocol: int
    kind: Literal["unroll"] = "unroll"
    run: Name
    actor: Name
    incarnation: Name
    """Unique to each start of an actor."""
    sequence: Annotated[int, Field(ge=1, le=2**62)]
    """1, 2, 3, ... within an incarnation, without gaps."""
    environment: Count
    """Which of the actor's environments."""
    theta_version: Count
    drivers: Annotated[list[Name], Field(max_length=MAX_PLAYERS)]
    """Who drove each player, [N]: `theta`, a version of phi with its direction such as `phi:12:reverse`, `pool:40`."""
    policy: Annotated[list[Count], Field(max_length=MAX_PLAYERS)]
    """Each player's policy index, [N]: an index into theta's leading axis P."""
    episode: EpisodeSummary | None
    arrays: Annotated[list[tuple[str, str, Annotated[tuple[Count, ...], FailFast()]]], Field(max_length=16)]
    """Name, dtype and shape of each frame that follows."""

    @property
    def learning(self) -> list[bool]:
        """v, [N]: whether a learning policy drove the player."""
        return [driver == THETA for driver in self.drivers]


@dataclass(frozen=True)
class Unroll:
    """T steps of one environment with N players; `FIELDS` has the dtypes and axes.

    Attributes:
      rgb: images observed.
      features: everything else observed.
      active: false where a player was frozen or out of the game.
      action: the actions taken.
      log_prob: of `action` under the policy that chose it.
      reward: what followed the action.
      discount: 0 where the episode terminated with this step, else 1.
      state: recurrent state before row 0, of the policy that acted.
    """

    header: UnrollHeader
    rgb: NDArray[np.uint8]
    features: NDArray[np.float32]
    active: NDArray[np.bool_]
    action: NDArray[np.int32]
    log_prob: NDArray[np.float32]
    reward: NDArray[np.float32]
    discount: NDArray[np.float32]
    state: NDArray[np.float32]

    @property
    def env_steps(self) -> int:
        """The number of steps: T, or fewer if the episode ended."""
        return len(self.action)


@dataclass(frozen=True)
class UnrollSpec:
    """The shape of a run's unrolls, against which incoming messages are checked.

    Attributes:
      environment: the game.
      unroll_length: T, the most steps an unroll may have.
      state_size: S, length of a player's recurrent state.
      policies: P, the number of learning policies.
    """

    environment: EnvironmentSpec
    unroll_length: int
    state_size: int
    policies: int

    def shapes(self, env_steps: int) -> dict[str, tuple[type[np.generic], tuple[int, ...]]]:
        """Returns the dtype and shape of every array of an unroll of that many steps."""
        height, width, colours = self.environment.rgb_shape
        sizes = {
            "T": env_steps,
            "T+1": env_steps + 1,
            "N": self.environment.players,
            "H": height,
            "W": width,
            "C": colours,
            "F": self.environment.features,
            "S": self.state_size,
        }
        return {name: (field.dtype, tuple(sizes[axis] for axis in field.axes)) for name, field in FIELDS.items()}

    @property
    def largest_bytes(self) -> int:
        """The size of an unroll's largest array; no longer frame is accepted."""
        return max(
            math.prod(shape) * np.dtype(dtype).itemsize for dtype, shape in self.shapes(self.unroll_length).values()
        )

    def check_header(self, header: UnrollHeader) -> None:
        """Checks a header's claims before any array is read.

        Raises:
          WireError: with reason `players`, `policy` or `arrays`.
        """
        n = self.environment.players
        if len(header.drivers) != n or len(header.policy) != n:
            raise WireError(
                "players", f"{len(header.drivers)} drivers and {len(header.policy)} policy indices for {n} players"
            )
        if header.episode is not None and len(header.episode.returns) != n:
            raise WireError("players", f"{len(header.episode.returns)} returns for {n} players")
        if max(header.policy, default=0) >= self.policies:
            raise WireError("policy", f"policy index {max(header.policy)}, expected 0 to {self.policies - 1}")
        claimed = {name: (dtype, shape) for name, dtype, shape in header.arrays}
        steps = claimed.get("action", ("", (0,)))[1][:1] or (0,)
        if not 1 <= steps[0] <= self.unroll_length:
            raise WireError("arrays", f"{steps[0]} steps, expected 1 to {self.unroll_length}")
        expected = {n: (np.dtype(d).str, s) for n, (d, s) in self.shapes(steps[0]).items()}
        if claimed != expected or len(claimed) != len(header.arrays):
            wrong = sorted(k for k in claimed.keys() | expected.keys() if claimed.get(k) != expected.get(k))
            if not wrong:
                raise WireError("arrays", "the header names an array twice")
            raise WireError("arrays", f"{wrong[0]}: {claimed.get(wrong[0])}, expected {expected.get(wrong[0])}")

    def check_values(self, unroll: Unroll) -> None:
        """Checks that an unroll's numbers are possible.

        Raises:
          WireError: with reason `finite`, `active`, `action` or `discount`.
        """
        for name in (name for name, field in FIELDS.items() if issubclass(field.dtype, np.floating)):
            if not np.isfinite(getattr(unroll, name)).all():
                raise WireError("finite", f"{name} contains a number that is not finite")
        if unroll.active.view(np.uint8).max() > 1:
            raise WireError("active", "a flag that is neither 0 nor 1")
        low, high = int(unroll.action.min()), int(unroll.action.max())
        if low < 0 or high >= self.environment.actions:
            raise WireError("action", f"actions {low} to {high}, expected 0 to {self.environment.actions - 1}")
        if unroll.discount.min() < 0 or unroll.discount.max() > 1:
            raise WireError("discount", "a discount outside 0 to 1")
