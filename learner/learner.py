"""The learner: the update, and the state that a checkpoint keeps."""

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel

from common.config import LearnerConfig, RunConfig
from common.errors import ConfigError
from common.unroll import Unroll, UnrollSpec
from common.weights import Weights
from learner.batch import Batch
from learner.episodes import Episodes
from learner.objective import Objective, Prepared
from learner.preparation import prepare
from learner.ranks import Ranks
from learner.returns import explained_variance
from learner.value_norm import ValueNorm
from methods import Method
from networks.optimisation import clip_gradients, load_optimiser, optimiser_tensors

# Per policy. Learning depends on the number of gradient steps more than on the number of samples: results/tuning.
MINIBATCH_STEPS = 256
COUNTERS = ("updates", "version", "unrolls", "player_steps", "env_steps")


class Learner:
    """Updates theta by recurrent PPO with a centralised critic, on the players that the method trains.

    Args:
      config: the update's settings.
      run: the seed, and the budget over which settings are annealed.
      method: whose network and penalties are trained.
      spec: the shape of unrolls.
      ranks: the processes that share an update; each has a learner and is given the same batches.
    """

    def __init__(self, config: LearnerConfig, run: RunConfig, method: Method, spec: UnrollSpec, ranks: Ranks) -> None:
        self.method, self.spec = method, spec
        self._config, self._budget, self._ranks = config, run.player_steps, ranks
        torch.manual_seed(run.seed)
        self._rng = np.random.default_rng(run.seed)
        self.network = method.network(spec.environment, spec.policies).to(ranks.device)
        self.value_norm = ValueNorm(spec.policies, config.value_norm_beta).to(ranks.device)
        objective = Objective(self.network, method, config, ranks.mean)
        self._objective = objective if ranks.size == 1 else DistributedDataParallel(objective)
        parameters = self.network.parameters()
        self._optimiser = torch.optim.Adam(parameters, lr=config.learning_rate, eps=config.adam_eps, fused=True)
        self._average = {name: p.detach().clone() for name, p in self.network.named_parameters()}
        self.updates = self.version = self.unrolls = self.player_steps = self.env_steps = 0
        self.episodes = Episodes()

    @property
    def finished(self) -> bool:
        """Whether the run's budget is used up."""
        return self.player_steps >= self._budget

    def update(self, batch: Batch) -> dict[str, float]:
        """Runs PPO's epochs over a batch and returns their metrics.

        Adds the batch's player steps, by which step size and entropy bonus are annealed.

        Raises:
          ConfigError: if the update diverged.
        """
        config = self._config
        rate = self._annealed(config.learning_rate, config.final_learning_rate)
        entropy_coef = self._annealed(config.entropy_coef, config.final_entropy_coef)
        for group in self._optimiser.param_groups:
            group["lr"] = rate
        prepared = prepare(batch, self.network, self.method, self.value_norm, config)
        history = [self._step(minibatch, entropy_coef) for minibatch in self._minibatches(prepared)]
        means = {name: float(torch.stack([entry[name] for entry in history]).mean()) for name in history[0]}
        self._check(means)
        for name, parameter in self.network.named_parameters():
            self._average[name].lerp_(parameter.detach(), 1 - config.average_decay)
        self.player_steps += batch.player_steps
        explained = explained_variance(prepared.fixed.values, prepared.returns, prepared.sequences.valid)
        return means | {"explained_variance": explained, "learning_rate": rate, "entropy_coef": entropy_coef}

    def count(self, unrolls: Sequence[Unroll]) -> dict[str, float]:
        """Counts an update of these unrolls; returns the counters, the policy lag and the newest episodes' means."""
        lags = [self.version - unroll.header.theta_version for unroll in unrolls]
        self.updates += 1
        self.version += 1
        self.unrolls += len(unrolls)
        self.env_steps += sum(unroll.env_steps for unroll in unrolls)
        self.episodes.take(unrolls)
        return self.episodes.means() | {
            "updates": self.updates,
            "version": self.version,
            "player_steps": self.player_steps,
            "env_steps": self.env_steps,
            "episodes": self.episodes.count,
            "policy_lag_min": min(lags),
            "policy_lag_mean": float(np.mean(lags)),
            "policy_lag_max": max(lags),
        }

    @property
    def theta(self) -> Weights:
        """The learning policies as they are now."""
        return Weights(self.version, dict(self.network.named_parameters()), self.version)

    def tensors(self) -> dict[str, dict[str, Tensor]]:
        """Returns what a checkpoint keeps as tensors: parameters, optimiser, return statistics, random state."""
        groups: dict[str, dict[str, Tensor]] = {
            "theta": dict(self.network.named_parameters()),
            "optimiser": optimiser_tensors(self._optimiser, self.network),
            "average": self._average,
            "value_norm": dict(self.value_norm.named_buffers()),
            "random": {"torch": torch.get_rng_state()},
        }
        return {
            group: {name: x.detach().cpu().clone() for name, x in tensors.items()} for group, tensors in groups.items()
        }

    def counters(self) -> dict[str, Any]:
        """Returns what a checkpoint keeps besides tensors."""
        numbers = {name: getattr(self, name) for name in COUNTERS}
        return {**numbers, "episodes": self.episodes.state(), "numpy_random": self._rng.bit_generator.state}

    def restore(self, tensors: dict[str, dict[str, Tensor]], counters: dict[str, Any]) -> None:
        """Restores what `tensors` and `counters` returned."""
        self.network.load_state_dict(tensors["theta"])
        for name, x in tensors.get("average", tensors["theta"]).items():
            self._average[name].copy_(x)
        self.value_norm.load_state_dict(tensors["value_norm"])
        load_optimiser(self._optimiser, self.network, tensors["optimiser"])
        torch.set_rng_state(tensors["random"]["torch"])
        self._rng.bit_generator.state = counters["numpy_random"]
        self.episodes.restore(counters["episodes"])
        for name in COUNTERS:
            setattr(self, name, counters[name])

    def _minibatches(self, prepared: Prepared) -> Iterator[Prepared]:
        """Yields this rank's share of every minibatch, epoch by epoch."""
        _, steps, sequences = prepared.returns.shape
        parts = self._config.minibatches or max(1, round(steps * sequences / MINIBATCH_STEPS))
        for _ in range(self._config.epochs):
            shuffled = torch.from_numpy(self._rng.permutation(sequences)).to(self._ranks.device)
            for columns in shuffled.tensor_split(min(parts, sequences)):
                yield prepared.columns(self._ranks.share(columns))

    def _step(self, minibatch: Prepared, entropy_coef: float) -> dict[str, Tensor]:
        """Takes one gradient step; returns the loss terms and the gradient norm."""
        loss, terms = self._objective(minibatch, entropy_coef)
        self._optimiser.zero_grad()
        loss.backward()
        norms = clip_gradients(self.network.parameters(), self._config.max_grad_norm)
        self._optimiser.step()
        return {**terms, "gradient_norm": norms.mean()}

    def _check(self, means: dict[str, float]) -> None:
        policy, value = means["policy_loss"], means["value_loss"]
        if not math.isfinite(policy + value + means["gradient_norm"]):
            raise ConfigError(
                f"update {self.updates + 1} diverged: policy loss {policy:g}, value loss {value:g}; "
                f"learner.learning_rate={self._config.learning_rate:g} may be too high"
            )

    def _annealed(self, start: float, end: float | None) -> float:
        """Moves a setting linearly from `start` to `end`, if it has an end, over the run's player steps."""
        share = min(1.0, self.player_steps / self._budget)
        return start if end is None else start + share * (end - start)
