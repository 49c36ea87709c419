"""The policies that an actor or evaluator holds, and one batched forward pass for all players they drive."""

import functools
from collections.abc import Collection, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from common.weights import THETA, Weights
from networks.arrangement import Arrangement, batches
from networks.network import Network


class Players:
    """R players, each driven by one policy from one of several sets: theta, phi, past ones.

    Args:
      network: acts; its parameters are replaced by those of the policies in use.
      rows: R, the number of players in all environments together.
      seed: of the draws of actions.
    """

    def __init__(self, network: Network, rows: int, seed: int) -> None:
        self._network = network.eval().requires_grad_(False)
        self._generator = torch.Generator().manual_seed(seed)
        self.state = torch.zeros(rows, network.state_size)
        self._keeps = torch.zeros(rows, dtype=torch.bool)
        self._begins = torch.ones(rows, dtype=torch.bool)
        self._times: Tensor | None = None  # of the last draw, [R, A]
        self._weights: dict[str, Weights] = {}
        self._used: list[tuple[str, int]] = []
        self._batches: list[tuple[list[int], Arrangement]] = []
        self._parameters: list[list[Tensor]] = []  # of each batch

    def load(self, name: str, weights: Weights) -> None:
        """Loads a set of policies, or a newer version of it."""
        self._weights[name] = weights
        if name in dict(self._used):
            self._stack()

    def version(self, name: str) -> int:
        """Returns the loaded version of a set of policies; -1 if it is not loaded."""
        return self._weights[name].version if name in self._weights else -1

    def label(self, name: str) -> str:
        """Returns a loaded set's name with, for a version of phi, the direction that made it: `phi:12:reverse`."""
        direction = self._weights[name].direction
        return f"{name}:{direction}" if direction else name

    def keep(self, names: Collection[str]) -> None:
        """Drops every set of policies except these and those in use."""
        kept = {*names, *dict(self._used)}
        self._weights = {name: weights for name, weights in self._weights.items() if name in kept}

    def assign(self, policy_index: NDArray[np.int64], driver: Sequence[str] | None = None) -> None:
        """Sets which policy drives each row.

        Args:
          policy_index: [R], an index into its driver's policies; negative where nobody plays.
          driver: R names of loaded sets; None for theta everywhere.
        """
        pairs = list(zip([THETA] * len(policy_index) if driver is None else driver, policy_index.tolist(), strict=True))
        self._used = sorted({pair for pair in pairs if pair[1] >= 0})
        number = {pair: i for i, pair in enumerate(self._used)}
        self._batches = batches(np.array([number.get(pair, -1) for pair in pairs]), len(self._used))
        self._stack()

    def begin(self, rows: slice, keeps_luck: NDArray[np.bool_]) -> None:
        """Begins an episode of K players: resets their recurrent states.

        A player that keeps its luck takes each action with its policy's probability over episodes rather than over
        steps: within an episode, the same observations always lead to the same action.

        Args:
          rows: of the K players.
          keeps_luck: [K]; the others draw again at every step.
        """
        self.state[rows] = 0
        self._keeps[rows], self._begins[rows] = torch.from_numpy(keeps_luck), True

    @torch.no_grad()
    def act(
        self, rgb: NDArray[np.uint8], features: NDArray[np.float32], race: NDArray[np.float64] | None = None
    ) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
        """Draws an action for every row, and advances the recurrent states.

        Args:
          rgb: [R, H, W, 3].
          features: [R, F].
          race: the exponential times for `draw`; None draws them from these players' generator.

        Returns: actions [R] and their log-probabilities [R].
        """
        if not self._batches:
            raise ValueError("assign has to be called before act")
        log_probs = self._advance(torch.from_numpy(rgb), torch.from_numpy(features))
        if race is None:
            times = torch.empty_like(log_probs).exponential_(generator=self._generator)
            times = self._with_luck(times)
        else:
            times = torch.from_numpy(race).to(log_probs.dtype)
        action = draw(log_probs, times)
        log_prob = log_probs.gather(-1, action[:, None])[:, 0]
        return action.to(torch.int32).numpy(), log_prob.numpy()

    def _advance(self, rgb: Tensor, features: Tensor) -> Tensor:
        """Advances the recurrent states; returns the log-probabilities of all actions, [R, A], 0 for idle rows."""
        parts = []
        for (_, arrangement), parameters in zip(self._batches, self._parameters, strict=True):
            for parameter, data in zip(self._network.parameters(), parameters, strict=True):
                parameter.data = data
            take = arrangement.gather
            see, sense = (take(x)[:, None] for x in (rgb, features))
            version = torch.full(arrangement.index.shape, self.version(THETA))
            acts, state = self._network.act(see, sense, take(self.state), version)
            parts.append([arrangement.scatter(x, len(self.state)) for x in (acts[:, 0], state)])
        log_probs: Tensor
        log_probs, self.state = (functools.reduce(torch.add, part) for part in zip(*parts, strict=True))
        return log_probs

    def _with_luck(self, times: Tensor) -> Tensor:
        """Replaces the fresh draws of players who keep their luck by those of their previous step, if there is one."""
        if self._keeps.any():
            if self._times is not None:
                times = torch.where((self._keeps & ~self._begins)[:, None], self._times, times)
            self._times = times
            self._begins[:] = False
        return times

    def _stack(self) -> None:
        """Stacks the parameters of each batch of policies along P."""
        names = [name for name, _ in self._network.named_parameters()]
        self._parameters = []
        for numbers, _ in self._batches:
            used = [self._used[number] for number in numbers]
            sets = [torch.stack([self._weights[driver].parameters[name][i] for driver, i in used]) for name in names]
            self._parameters.append(sets)


def draw(logits: Tensor, race: Tensor) -> Tensor:
    """Draws actions by an exponential race: argmin of E / p with E ~ Exp(1) has distribution p.

    Args:
      logits: [R, A].
      race: E, [R, A].

    Returns: [R] int64.
    """
    return (logits - race.log()).argmax(-1)
