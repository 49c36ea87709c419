"""RPM, ranked policy memory: learning policies play with past ones of every level of return (Qiu et al. 2023).

The paper calls a level a rank: floor(return / psi). A past policy's score is its training return.
"""

import logging
import math
from collections.abc import Mapping

import numpy as np
from pydantic import Field

from common.config import Section
from common.weights import THETA
from methods.base import Method

log = logging.getLogger(__name__)

# psi by substrate; elsewhere a tenth of the spread of the scores in the memory.
RANK_WIDTHS = {
    "coins": 5.0,
    "coop_mining": 20.0,
    "prisoners_dilemma_in_the_matrix__arena": 3.0,
    "chicken_in_the_matrix__arena": 4.0,
    "pure_coordination_in_the_matrix__arena": 0.5,
}
SPREAD_RANKS = 10
WARN_AT = 10


class RankedPolicyMemory(Method):
    """Theta joins the memory from time to time, scored by its training return; past policies may drive players."""

    class Settings(Section):
        """RPM's own settings."""

        past_probability: float = Field(0.5, ge=0, le=0.99)
        """Probability that a past policy drives a player; redrawn if all players would be driven by one."""
        every: int = Field(10, ge=1, le=1_000_000)
        """Updates between policies that join the memory."""
        rank_size: int = Field(8, ge=1, le=1000)
        """Policies kept per rank; the oldest leaves first."""
        rank_width: float | None = Field(None, gt=0, le=1_000_000)
        """psi, the width of a rank in return; null: the substrate's, or a tenth of the spread of the scores."""

    settings: Settings
    pooled = True

    def score(self, updates: int, training_return: float, pool: Mapping[str, float]) -> float | None:
        """Returns the training return, if an update is due to join."""
        if updates % self.settings.every or math.isnan(training_return):
            return None
        if updates == WARN_AT * self.settings.every and len(self.ranks(pool)) == 1:
            log.warning(
                "all policies in the memory have the same rank because their returns lie within %g of each other: "
                "method.rank_width may be too large for this game, or self-play returns may say little about it",
                self._width(pool),
            )
        return training_return

    def evict(self, pool: Mapping[str, float]) -> list[str]:
        """Returns the oldest of every rank that has too many."""
        return [name for names in self.ranks(pool).values() for name in names[: -self.settings.rank_size]]

    def drivers(self, rng: np.random.Generator, players: int, pool: Mapping[str, float]) -> list[str]:
        """Theta, or with some probability a past policy: first its rank is drawn uniformly, then the policy."""
        ranks = list(self.ranks(pool).values())
        past = rng.random(players) < (self.settings.past_probability if ranks else 0)
        while past.all():
            past = rng.random(players) < self.settings.past_probability
        return [str(rng.choice(ranks[rng.integers(len(ranks))])) if p else THETA for p in past]

    def ranks(self, pool: Mapping[str, float]) -> dict[int, list[str]]:
        """Returns the policies of each rank, floor(return / psi), oldest first."""
        width = self._width(pool)
        ranks: dict[int, list[str]] = {}
        for name in sorted(pool, key=lambda name: int(name.rpartition(":")[2])):
            ranks.setdefault(math.floor(pool[name] / width), []).append(name)
        return ranks

    def _width(self, pool: Mapping[str, float]) -> float:
        """Returns psi, the width of a rank."""
        spread = (max(pool.values()) - min(pool.values())) / SPREAD_RANKS if pool else 0.0
        return self.settings.rank_width or RANK_WIDTHS.get(self.config.environment.substrate) or spread or 1.0
