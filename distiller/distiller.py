"""Bidirectional distillation of theta into phi (arXiv 2505.11100, eq. 2)."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from common.spec import EnvironmentSpec
from common.weights import Observations
from distiller.divergence import kl_divergence, mean_entropy
from distiller.initial_phi import each
from methods import Method
from methods.base import Direction
from networks.arrangement import arrange
from networks.network import Network
from networks.optimisation import clip_gradients, load_optimiser, optimiser_tensors


class Distiller:
    """phi, and how it moves towards theta and away from it.

    Args:
      method: its network, the directions that events take in turn, and the settings of the section `distiller`.
      spec: the game.
    """

    def __init__(self, method: Method, spec: EnvironmentSpec) -> None:
        self.method, self._config, self._directions = method, method.config.distiller, method.directions
        self._policies = method.phi_policies(spec.players)
        self._theta = method.network(spec, self._policies).requires_grad_(False)
        self.phi = method.network(spec, self._policies)
        self._optimiser = self._fresh("forward")
        self._rng = np.random.default_rng(method.config.run.seed)
        self._last: Direction | None = None
        self.events = 0

    @property
    def direction(self) -> Direction | None:
        """The direction of the next event; None if the method has none."""
        if not self._directions:
            return None
        return self._directions[self.events // self._config.phase_events % len(self._directions)]

    def event(self, theta: Mapping[str, Tensor], observations: Observations) -> dict[str, float | str]:
        """Runs one distillation event: phi moves towards theta on D, or away from it, up to a bound.

        Args:
          theta: the learning policies' parameters.
          observations: D.

        Returns: its metrics: the direction, eq. 2 before and after, the entropies of phi and theta, the gradient steps.
        """
        direction, config = self.direction, self._config
        if direction is None:
            raise ValueError("this method distils nothing")
        self._theta.load_state_dict(each(theta, self._policies))
        if direction != self._last:
            self._optimiser = self._fresh(direction)
        index = self.method.phi_policy_indices(observations.policy)
        data = _Data.of(observations, index, self._policies, config.burn_in)
        with torch.no_grad():
            teacher = data.log_probs(self._theta)
        before, entropy_before = self._measure(data, teacher)
        steps = self._move(data, teacher, direction)
        after, entropy_after = self._measure(data, teacher)
        self._last = direction
        self.events += 1
        return {
            "events": self.events,
            "direction": direction,
            "update": observations.update,
            "gradient_steps": steps,
            "kl_before_nats": before,
            "kl_after_nats": after,
            "phi_entropy_before_nats": entropy_before,
            "phi_entropy_after_nats": entropy_after,
            "theta_entropy_nats": float(mean_entropy(teacher, data.mask).mean()),
        }

    def tensors(self) -> dict[str, dict[str, Tensor]]:
        """Returns what its checkpoint keeps as tensors."""
        parameters = {name: p.detach().clone() for name, p in self.phi.named_parameters()}
        return {"phi": parameters, "optimiser": optimiser_tensors(self._optimiser, self.phi)}

    def state(self) -> dict[str, Any]:
        """Returns what its checkpoint keeps besides tensors."""
        return {"events": self.events, "last": self._last, "numpy_random": self._rng.bit_generator.state}

    def restore(self, tensors: dict[str, dict[str, Tensor]], state: dict[str, Any]) -> None:
        """Restores what `tensors` and `state` returned."""
        self.phi.load_state_dict(tensors["phi"])
        self.events, self._last = state["events"], state["last"]
        self._rng.bit_generator.state = state["numpy_random"]
        self._optimiser = self._fresh(self._last or "forward")
        load_optimiser(self._optimiser, self.phi, tensors["optimiser"])

    def adopt(self, phi: Mapping[str, Tensor]) -> None:
        """Continues from another phi, with a new optimiser."""
        self.phi.load_state_dict(dict(phi))
        self._last = None

    def _fresh(self, direction: Direction) -> torch.optim.Adam:
        """Returns an optimiser for events of a direction."""
        config = self._config
        rate = config.forward_learning_rate if direction == "forward" else config.reverse_learning_rate
        return torch.optim.Adam(self.phi.parameters(), lr=rate)

    def _smoothed(self, teacher: Tensor) -> Tensor:
        """Mixes theta with the uniform distribution."""
        if (share := self._config.forward_smoothing) == 0:
            return teacher
        uniform = teacher.new_tensor(math.log(share) - math.log(teacher.shape[-1]))
        return torch.logaddexp(teacher + math.log1p(-share), uniform)

    def _move(self, data: "_Data", teacher: Tensor, direction: Direction) -> int:
        """Moves phi until L has reached the direction's bound on a minibatch; returns the gradient steps taken.

        Forward: phi <- phi - eta_f grad L(phi), with theta smoothed in L; reverse: phi <- phi + eta_r grad L(phi).
        """
        config = self._config
        if direction == "forward":
            teacher, sign, epochs, bound = self._smoothed(teacher), 1.0, config.forward_epochs, config.forward_bound
        else:
            sign, epochs, bound = -1.0, config.reverse_epochs, config.reverse_bound
        parts = self._parts(data, epochs)
        for taken, columns in enumerate(parts):
            if not self._step(data, teacher, columns, sign, bound):
                return taken
        return len(parts)

    def _parts(self, data: "_Data", epochs: int) -> list[Tensor]:
        columns = data.mask.shape[-1]
        shuffles = (torch.from_numpy(self._rng.permutation(columns)) for _ in range(epochs))
        count = min(self._config.minibatches, columns)
        return [part for shuffled in shuffles for part in shuffled.tensor_split(count)]

    def _step(self, data: "_Data", teacher: Tensor, columns: Tensor, sign: float, bound: float | None) -> bool:
        """Takes a gradient step on a minibatch; returns False without one if its L has reached the bound."""
        part = data.columns(columns)
        divergence = kl_divergence(teacher[:, :, columns], part.log_probs(self.phi), part.mask)
        if bound is not None and sign * divergence.detach().mean() <= sign * bound:
            return False
        self._optimiser.zero_grad()
        (sign * divergence.sum()).backward()
        clip_gradients(self.phi.parameters(), self._config.max_grad_norm)
        self._optimiser.step()
        return True

    @torch.no_grad()
    def _measure(self, data: "_Data", teacher: Tensor) -> tuple[float, float]:
        """Returns L(phi) of eq. 2 and phi's entropy, over the whole of D."""
        student = data.log_probs(self.phi)
        divergence = kl_divergence(teacher, student, data.mask)
        return float(divergence.mean()), float(mean_entropy(student, data.mask).mean())


class _Data:
    """D sorted by policy: rgb [P, T, S, H, W, 3], features [P, T, S, F], mask [P, T, S] without the burn-in."""

    def __init__(self, rgb: Tensor, features: Tensor, mask: Tensor) -> None:
        self.rgb, self.features, self.mask = rgb, features, mask

    @classmethod
    def of(cls, observations: Observations, index: NDArray[np.int64], policies: int, burn_in: int) -> "_Data":
        arrangement = arrange(index.ravel(), policies)
        parts = (observations.rgb, observations.features, observations.mask)
        rgb, features, mask = (arrangement.gather(torch.tensor(x).flatten(1, 2), 1) for x in parts)
        mask = mask & arrangement.valid[:, None]
        mask[:, :burn_in] = False
        return cls(rgb, features, mask)

    def columns(self, which: Tensor) -> "_Data":
        return _Data(self.rgb[:, :, which], self.features[:, :, which], self.mask[:, :, which])

    def log_probs(self, network: Network) -> Tensor:
        """Returns [P, T, S, A]; the recurrent states start as zeros and are carried along the sequences."""
        policies, _, sequences = self.mask.shape
        state = self.features.new_zeros(policies, sequences, network.state_size)
        log_probs, _ = network.act(self.rgb, self.features, state, torch.zeros(policies, sequences, dtype=torch.long))
        return log_probs
