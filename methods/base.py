"""What a method says."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from common.config import Config, Section
from common.weights import THETA

if TYPE_CHECKING:
    from torch import Tensor

    from common.spec import EnvironmentSpec
    from networks.network import Network, Outputs
    from networks.sequences import Sequences

Direction = Literal["forward", "reverse"]
Start = Literal["copy", "random"]


class Method:
    """The base: learning policies among themselves, trained by PPO with a centralised critic.

    A method overrides what is its own. It keeps no state: actors, learner and distiller each have one, and what they
    must agree on travels with theta, with an unroll, or in the pool.

    Attributes:
      phi: how phi starts, as a copy of theta or as networks of its own; None if nobody plays phi and it does not exist.
      directions: the directions that distillation events take in turn; empty if phi, should there be one, rests.
      pooled: whether past policies are kept, for `drivers` to choose from.

    Args:
      config: the run's.
      settings: what stands beside the name in its section `method`.
    """

    class Settings(Section):
        """The method's own settings."""

    phi: Start | None = None
    directions: tuple[Direction, ...] = ()
    pooled: bool = False

    def __init__(self, config: Config, settings: Section) -> None:
        self.config = config
        self.settings = settings

    # Who plays.

    def policies(self, players: int) -> int:
        """P, how many learning policies there are in a game of N players."""
        return players if self.config.network.parameters == "per_player" else 1

    def drivers(self, rng: np.random.Generator, players: int, pool: Mapping[str, float]) -> list[str]:
        """Draws, at an episode's start, who drives each of N players: `theta`, `phi`, or a name from the pool.

        Args:
          rng: what to draw with.
          players: N.
          pool: the past policies that there are, each with its rank.
        """
        del rng, pool
        return [THETA] * players

    def policy_indices(self, rng: np.random.Generator, players: int) -> NDArray[np.int64]:
        """Draws, at an episode's start, by which of its driver's P policies each player plays: [N]."""
        del rng
        return np.arange(players) % self.policies(players)

    def training_mask(self, learning: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Whose steps PPO trains on, of players who were driven by theta or not: [R] -> [R]."""
        return learning

    # What is kept of the past.

    def score(self, updates: int, training_return: float, pool: Mapping[str, float]) -> float | None:
        """The rank under which theta, as it is after so many updates, joins the pool; None if it does not.

        Args:
          updates: how many the learner has made.
          training_return: of the learning players, per player, mean over the newest episodes.
          pool: who is in it, each with its rank.
        """
        del updates, training_return, pool
        return None

    def evict(self, pool: Mapping[str, float]) -> list[str]:
        """Who has to leave the pool after somebody joined it."""
        del pool
        return []

    # What is trained, and by what objective.

    def network(self, spec: "EnvironmentSpec", policies: int) -> "Network":
        """A network of P policies, for training and for acting while it is trained."""
        from networks.network import Network

        return Network(spec, self.config.network, policies)

    def evaluation_network(self, spec: "EnvironmentSpec", policies: int) -> "Network":
        """A network with the same parameters, as it acts when it is evaluated."""
        return self.network(spec, policies)

    def penalties(
        self, network: "Network", sequences: "Sequences", embedding: "Tensor", outputs: "Outputs"
    ) -> "dict[str, tuple[float, Tensor]]":
        """What is minimised besides PPO's loss: by name its weight, and its value for each policy, [P].

        Args:
          network: that is trained.
          sequences: the minibatch.
          embedding: [P, T+1, S, dense], what the network made of its observations.
          outputs: what it made of them, in T+1 steps.
        """
        del network, sequences, embedding, outputs
        return {}
