"""BiDist: learning policies play with distilled ones, distilled forward and in reverse in turn (arXiv 2505.11100)."""

from collections.abc import Mapping
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from common.config import Section
from common.weights import PHI, THETA, is_phi_version
from methods.base import Direction, Method, Start


class BiDist(Method):
    """Mixed play (eq. 1) over bidirectional distillation (eq. 2)."""

    class Settings(Section):
        """BiDist's own settings."""

        learning_probability: float = Field(0.5, ge=0.01, le=1)
        """p of v_i ~ Bernoulli(p), drawn for every player of every episode; redrawn if all are 0."""
        versions: int = Field(2, ge=1, le=64)
        """K: each player with v_i = 0 is driven by one of phi's newest K versions, drawn for the episode; 2 are the
        newest after a forward and after a reverse event, if directions alternate."""
        alone_until: int = Field(64, ge=0, le=1_000_000_000)
        """The update from which there are fictitious players, or the middle of a shorter run. Until then all players
        learn among themselves: a theta that knows little makes a phi that teaches little."""
        luck: Literal["episode", "step"] = "step"
        """When the randomness of a player driven by phi is drawn. `episode`: once, so that the same observations lead
        to the same action until it ends, as with a stranger who has a convention; `step`: at every step."""
        phi_per_player: bool = False
        """Whether each player i has a phi_i of its own, even if they all share theta."""
        train_on_phi: bool = False
        """Whether theta learns from phi's steps too, weighted by min(1, pi_theta / pi_phi)."""

    settings: Settings
    phi: Start | None = "copy"
    directions: tuple[Direction, ...] = ("forward", "reverse")

    @property
    def alone_until(self) -> int:
        """The configured value."""
        return self.settings.alone_until

    @property
    def phi_versions(self) -> int:
        """K."""
        return self.settings.versions

    @property
    def phi_keeps_luck(self) -> bool:
        """The configured value."""
        return self.settings.luck == "episode"

    def drivers(self, rng: np.random.Generator, players: int, pool: Mapping[str, float]) -> list[str]:
        """v_i ~ Bernoulli(p), redrawn if all are 0: theta would learn nothing from such an episode."""
        while True:
            learning = rng.random(players) < self.settings.learning_probability
            if learning.any():
                versions = [name for name in pool if is_phi_version(name)] or [PHI]
                return [THETA if v else str(rng.choice(versions)) for v in learning]

    def phi_policies(self, players: int) -> int:
        """Returns N if each player has its own phi."""
        return players if self.settings.phi_per_player else self.policies(players)

    def phi_policy_indices(self, policy_indices: NDArray[np.int64]) -> NDArray[np.int64]:
        """Returns each player's number if each has its own phi."""
        if not self.settings.phi_per_player:
            return policy_indices
        return np.broadcast_to(np.arange(policy_indices.shape[-1]), policy_indices.shape)

    def training_mask(self, learning: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Trains on theta's steps, and on phi's if so set."""
        return np.ones_like(learning) if self.settings.train_on_phi else learning
