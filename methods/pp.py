"""PP, population play: independent learners that meet each other in every seat."""

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from common.config import Section
from common.errors import ConfigError
from methods.base import Method


class PopulationPlay(Method):
    """Each seat of each episode goes to one of P learners, drawn uniformly; each learner trains on its own seats.

    A budget is summed over learners, so P of them share what a single learner gets in other methods.
    """

    class Settings(Section):
        """Population play's own settings."""

        population: int = Field(2, ge=1, le=256)
        """P, the number of learners, each initialised independently."""

    settings: Settings

    def policies(self, players: int) -> int:
        """Returns the size of the population.

        Raises:
          ConfigError: if each seat is to have its own parameters: a learner plays all seats.
        """
        if self.config.network.parameters == "per_player":
            raise ConfigError("method.name='pp' lets every learner play every seat: it needs network.parameters=shared")
        return self.settings.population

    def policy_indices(self, rng: np.random.Generator, players: int) -> NDArray[np.int64]:
        """Draws a learner for each seat, with replacement."""
        return rng.integers(0, self.policies(players), players)
