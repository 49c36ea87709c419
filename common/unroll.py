"""The unroll: what an actor ships, and the axes that every array in the project keeps.

Axes: T time, B unrolls, N players, A actions, always in the order `[T, B, N, ...]`; an unroll off the wire has no B.
`action[t]` is chosen at row t of the observation; `reward[t]` and `discount[t]` follow it, so observations have one
row more than actions. An unroll never crosses an episode's end: it is cut short there, its last observation row is
the terminal one, and `discount` is 0 in front of it if the game terminated, 1 if it was truncated. Hence recurrent
state is given once, at row 0, and who drives a player is one fact per unroll.
"""

from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, FailFast, Field

from common.errors import WireError
from common.spec import EnvironmentSpec

PROTOCOL = 1

Name = Annotated[str, Field(min_length=1, max_length=200)]
Count = Annotated[int, Field(ge=0, le=2**62)]
# Lists are bounded, so that a header full of nonsense does not cost seconds of the learner's time.
MAX_PLAYERS = 1024


class EpisodeSummary(BaseModel):
    """An episode that ended with this unroll."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    env_steps: Count
    """Its length."""
    returns: Annotated[list[float], Field(max_length=MAX_PLAYERS)]
    """Each player's undiscounted return, [N]."""
    statistics: dict[str, float] = Field(default_factory=dict, max_length=64)
    """What else the game counted, by name, each the mean over players."""


class UnrollHeader(BaseModel):
    """Frame 0 of an unroll on the wire."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    protocol: int
    kind: Literal["unroll"] = "unroll"
    run: Name
    actor: Name
    incarnation: Name
    """One life of an actor: a restarted actor has another."""
    sequence: Annotated[int, Field(ge=1, le=2**62)]
    """1, 2, 3, ... within an incarnation, without gaps."""
    environment: Count
    """Which of the actor's environments."""
    theta_version: Count
    phi_version: Count
    learning: Annotated[list[bool], Field(max_length=MAX_PLAYERS)]
    """v, [N]: whether a player was driven by a learning policy."""
    policy: Annotated[list[Count], Field(max_length=MAX_PLAYERS)]
    """Which learning policy a player belongs to, [N]: an index into theta's leading axis."""
    episode: EpisodeSummary | None
    arrays: Annotated[list[tuple[str, str, Annotated[tuple[Count, ...], FailFast()]]], Field(max_length=16)]
    """Name, dtype and shape of each frame that follows."""


@dataclass(frozen=True)
class Unroll:
    """T steps of one environment, all N players.

    Attributes:
      rgb: [T+1, N, H, W, 3] uint8.
      features: [T+1, N, F] float32, what is observed besides RGB.
      active: [T, N] bool, false where a player was frozen or out of the game.
      action: [T, N] int32.
      log_prob: [T, N] float32, of `action` under the policy that chose it.
      reward: [T, N] float32.
      discount: [T, N] float32, 0 where the episode terminated with this step.
      state: [N, S] float32, recurrent state before row 0, of the policy that acts.
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
        """Steps in it: T, or fewer where an episode ended."""
        return len(self.action)


ARRAYS = ("rgb", "features", "active", "action", "log_prob", "reward", "discount", "state")


@dataclass(frozen=True)
class UnrollSpec:
    """What an unroll of a run looks like: the bounds that incoming messages are held against."""

    environment: EnvironmentSpec
    unroll_length: int
    state_size: int
    policies: int

    def shapes(self, env_steps: int) -> dict[str, tuple[type[np.generic], tuple[int, ...]]]:
        """Dtype and shape of every array of an unroll of that many steps."""
        t, n = env_steps, self.environment.players
        return {
            "rgb": (np.uint8, (t + 1, n, *self.environment.rgb_shape)),
            "features": (np.float32, (t + 1, n, self.environment.features)),
            "active": (np.bool_, (t, n)),
            "action": (np.int32, (t, n)),
            "log_prob": (np.float32, (t, n)),
            "reward": (np.float32, (t, n)),
            "discount": (np.float32, (t, n)),
            "state": (np.float32, (n, self.state_size)),
        }

    def check_header(self, header: UnrollHeader) -> None:
        """Holds a header's claims against the run's, before any array is looked at.

        Raises:
          WireError: with reason `players`, `policy` or `arrays`.
        """
        n = self.environment.players
        if len(header.learning) != n or len(header.policy) != n:
            raise WireError(
                "players",
                f"{len(header.learning)} learning flags and {len(header.policy)} policies for {n} players",
            )
        if header.episode is not None and len(header.episode.returns) != n:
            raise WireError("players", f"{len(header.episode.returns)} returns for {n} players")
        if max(header.policy, default=0) >= self.policies:
            raise WireError("policy", f"policy {max(header.policy)}, but there are {self.policies}")
        claimed = {name: (dtype, shape) for name, dtype, shape in header.arrays}
        steps = claimed.get("action", ("", (0,)))[1][:1] or (0,)
        if not 1 <= steps[0] <= self.unroll_length:
            raise WireError("arrays", f"{steps[0]} steps, expected 1 to {self.unroll_length}")
        expected = {n: (np.dtype(d).str, s) for n, (d, s) in self.shapes(steps[0]).items()}
        if claimed != expected or len(claimed) != len(header.arrays):
            wrong = sorted(k for k in claimed.keys() | expected.keys() if claimed.get(k) != expected.get(k)) or [
                "the same name twice"
            ]
            raise WireError("arrays", f"{wrong[0]}: {claimed.get(wrong[0])}, expected {expected.get(wrong[0])}")

    def check_values(self, unroll: Unroll) -> None:
        """Holds an unroll's numbers against what they can be.

        Raises:
          WireError: with reason `finite`, `active`, `action` or `discount`.
        """
        for name in ("features", "log_prob", "reward", "discount", "state"):
            if not np.isfinite(getattr(unroll, name)).all():
                raise WireError("finite", f"{name} holds a number that is not finite")
        if unroll.active.view(np.uint8).max() > 1:
            raise WireError("active", "a flag that is neither 0 nor 1")
        low, high = int(unroll.action.min()), int(unroll.action.max())
        if low < 0 or high >= self.environment.actions:
            raise WireError("action", f"actions {low} to {high}, expected 0 to {self.environment.actions - 1}")
        if unroll.discount.min() < 0 or unroll.discount.max() > 1:
            raise WireError("discount", "a discount outside 0 to 1")
