"""The interface of a method."""

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
    from networks.sequences import Mean, Sequences

Direction = Literal["forward", "reverse"]
Start = Literal["copy", "random"]


class Method:
    """The base: learning policies play among themselves and are trained by PPO with a centralised critic.

    A method overrides what it does differently. It keeps no state: actors, learner and distiller each have their own
    instance, and whatever they must agree on travels with theta, with an unroll, or in the pool.

    Attributes:
      phi: how phi starts, as a copy of theta or as independent networks; None if the method has no phi.
      directions: the directions that distillation events take in turn; empty if phi, should there be one, never moves.
      symmetric: whether players driven by phi see the game through one of its symmetries, drawn for the episode.
      pooled: whether past policies are kept, from which `drivers` may choose.

    Args:
      config: the run's.
      settings: the method's own, from the section `method`.
    """

    class Settings(Section):
        """The method's own settings."""

    phi: Start | None = None
    directions: tuple[Direction, ...] = ()
    symmetric: bool = False
    pooled: bool = False

    def __init__(self, config: Config, settings: Section) -> None:
        self.config = config
        self.settings = settings

    # Who plays.

    @property
    def alone_until(self) -> int:
        """The update until which theta drives everybody, whatever `drivers` says, or the middle of a shorter run."""
        return 0

    @property
    def phi_versions(self) -> int:
        """How many of phi's newest versions `drivers` may choose from."""
        return 1

    @property
    def other_play(self) -> float:
        """Probability that a player joins the second symmetry group; 0 disables other-play.

        In training, each of the two groups sees an episode through its own symmetry.
        """
        return 0.0

    def policies(self, players: int) -> int:
        """Returns P, the number of learning policies in a game of N players."""
        return players if self.config.network.parameters == "per_player" else 1

    @property
    def phi_keeps_luck(self) -> bool:
        """Whether the randomness of a player driven by phi is drawn once for an episode, rather than at every step."""
        return False

    def drivers(self, rng: np.random.Generator, players: int, pool: Mapping[str, float]) -> list[str]:
        """Draws, at the start of an episode, who drives each of N players until it ends.

        Args:
          rng: the source of randomness.
          players: N.
          pool: the available drivers by name: past policies, `pool:N`, with their scores; kept versions of phi,
            `phi:N`, with N.

        Returns: for each player `theta`, `phi` for its newest version, or a name from the pool.
        """
        del rng, pool
        return [THETA] * players

    def policy_indices(self, rng: np.random.Generator, players: int) -> NDArray[np.int64]:
        """Draws, at the start of an episode, which of its driver's P policies plays in each seat: [N]."""
        del rng
        return np.arange(players) % self.policies(players)

    def phi_policies(self, players: int) -> int:
        """Returns the number of distilled policies in a game of N players."""
        return self.policies(players)

    def phi_policy_indices(self, policy_indices: NDArray[np.int64]) -> NDArray[np.int64]:
        """Returns which of phi's policies belongs to each player, given which of theta's does: [..., N] -> [..., N]."""
        return policy_indices

    def training_mask(self, learning: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Returns whose steps PPO trains on, given who was driven by theta: [R] -> [R]."""
        return learning

    # What is kept of the past.

    def score(self, updates: int, training_return: float, pool: Mapping[str, float]) -> float | None:
        """Returns the score with which theta joins the pool after an update; None if it does not join.

        Args:
          updates: how many the learner has made.
          training_return: per learning player, the mean over the newest episodes; NaN until one has ended.
          pool: the score of every past policy by its name.
        """
        del updates, training_return, pool
        return None

    def evict(self, pool: Mapping[str, float]) -> list[str]:
        """Returns which past policies leave the pool after one has joined it."""
        del pool
        return []

    # What is trained, and on what objective.

    def network(self, spec: "EnvironmentSpec", policies: int) -> "Network":
        """Returns a network of P policies, for training and for acting during training."""
        from networks.registry import network_class

        return network_class(self.config.network)(spec, self.config.network, policies)

    def evaluation_network(self, spec: "EnvironmentSpec", policies: int) -> "Network":
        """Returns a network with the same parameters that acts as it should in evaluation."""
        return self.network(spec, policies)

    def penalties(
        self, network: "Network", sequences: "Sequences", embedding: "Tensor", outputs: "Outputs", mean: "Mean"
    ) -> "dict[str, tuple[float, Tensor]]":
        """Returns what is minimised besides PPO's loss: by name its weight, and its value for each policy, [P].

        Args:
          network: the one that is trained.
          sequences: the minibatch.
          embedding: [P, T+1, S, dense], the network's embedding of the observations.
          outputs: the network's outputs on them, for T+1 steps.
          mean: averages a sum over steps (`networks.sequences.sum_steps`) over the whole minibatch.
        """
        del network, sequences, embedding, outputs, mean
        return {}
