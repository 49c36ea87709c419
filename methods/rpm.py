"""RPM, ranked policy memory: learning policies beside past ones of every level of return (Qiu et al. 2023)."""

import logging
import math
from collections.abc import Mapping

import numpy as np
from pydantic import Field

from common.config import Section
from common.weights import THETA
from methods.base import Method

log = logging.getLogger(__name__)

# What makes a rank's width, by substrate; a tenth of the spread of the returns in the memory elsewhere.
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
    """Every now and then theta joins the memory under the return that it had; players may play what is in there."""

    class Settings(Section):
        """RPM's own."""

        past_probability: float = Field(0.5, ge=0, le=0.99)
        """Of a player to play by a past policy; drawn again when all would."""
        every: int = Field(10, ge=1)
        """Updates from one policy that joins the memory to the next."""
        rank_size: int = Field(8, ge=1)
        """Policies of a rank that are remembered; the oldest leaves first."""
        rank_width: float | None = Field(None, gt=0)
        """psi, of the returns that make a rank; null: by substrate, and where it is unknown a tenth of their spread."""

    settings: Settings
    pooled = True

    def score(self, updates: int, training_return: float, pool: Mapping[str, float]) -> float | None:
        """Its training return, if it is its turn."""
        if updates % self.settings.every or math.isnan(training_return):
            return None
        if updates == WARN_AT * self.settings.every and len(self.ranks(pool)) == 1:
            log.warning(
                "all policies that joined the memory so far have one rank, for their returns lie within %g of one "
                "another: method.rank_width may be too large for this game, or its returns say little in self-play",
                self._width(pool),
            )
        return training_return

    def evict(self, pool: Mapping[str, float]) -> list[str]:
        """The oldest of each rank that has too many."""
        return [name for names in self.ranks(pool).values() for name in names[: -self.settings.rank_size]]

    def drivers(self, rng: np.random.Generator, players: int, pool: Mapping[str, float]) -> list[str]:
        """Theta, or with a probability a past policy: its rank is drawn uniformly, then who it is in that rank."""
        ranks = list(self.ranks(pool).values())
        past = rng.random(players) < (self.settings.past_probability if ranks else 0)
        while past.all():
            past = rng.random(players) < self.settings.past_probability
        return [str(rng.choice(ranks[rng.integers(len(ranks))])) if p else THETA for p in past]

    def ranks(self, pool: Mapping[str, float]) -> dict[int, list[str]]:
        """Who is in each rank, floor(return / psi), oldest first."""
        width = self._width(pool)
        ranks: dict[int, list[str]] = {}
        for name in sorted(pool, key=lambda name: int(name.rpartition(":")[2])):
            ranks.setdefault(math.floor(pool[name] / width), []).append(name)
        return ranks

    def _width(self, pool: Mapping[str, float]) -> float:
        """psi."""
        spread = (max(pool.values()) - min(pool.values())) / SPREAD_RANKS if pool else 0.0
        return self.settings.rank_width or RANK_WIDTHS.get(self.config.environment.substrate) or spread or 1.0
