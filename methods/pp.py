"""PP, population play: independent learners that meet one another in every seat."""

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from common.config import Section
from common.errors import ConfigError
from methods.base import Method


class PopulationPlay(Method):
    """Each seat of each episode goes to one of P learners, drawn uniformly; each trains on its own seats.

    Steps are summed over learners where budgets are compared, so P learners share what one learner gets elsewhere.
    """

    class Settings(Section):
        """Population play's own."""

        population: int = Field(4, ge=1)
        """P, the learners, each initialised by itself."""

    settings: Settings

    def policies(self, players: int) -> int:
        """The population.

        Raises:
          ConfigError: if parameters are to be those of a seat, for a learner plays all of them.
        """
        if self.config.network.parameters == "per_player":
            raise ConfigError("method.name='pp' draws who plays a seat: it needs network.parameters=shared")
        return self.settings.population

    def policy_indices(self, rng: np.random.Generator, players: int) -> NDArray[np.int64]:
        """A learner for each seat, drawn with replacement."""
        return rng.integers(0, self.policies(players), players)
