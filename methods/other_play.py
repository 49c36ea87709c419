"""Other-play: self-play of players who disagree about what is what (Hu et al. 2020); beyond the paper.

Policies that agreed on red earn nothing with one that agreed on green. Here half of the players may see green where the
others see red, so no agreement on a colour pays off: a policy has to watch what the others do, and follow.
"""

from pydantic import Field

from common.config import Section
from methods.base import Method


class OtherPlay(Method):
    """MAPPO whose players fall into two groups in each episode, each seeing the game through its own symmetry."""

    class Settings(Section):
        """Other-play's own settings."""

        share: float = Field(0.5, gt=0, le=1)
        """A player's probability of belonging to the second group."""

    settings: Settings

    @property
    def other_play(self) -> float:
        """As set."""
        return self.settings.share
