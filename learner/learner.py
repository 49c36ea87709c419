"""The learner: the update, what it is made from, and what a checkpoint keeps of it."""

import logging
import math
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel

from common.config import Config
from common.errors import ConfigError
from common.unroll import Unroll, UnrollSpec
from common.weights import Weights
from learner.batch import Batch, trained_sequences
from learner.episodes import Episodes
from learner.objective import Objective, Prepared
from learner.ppo import standardise
from learner.ranks import Ranks
from learner.returns import gae, vtrace
from learner.value_norm import ValueNorm
from methods import make_method
from networks.arrangement import arrange
from networks.optimisation import clip_gradients, load_optimiser, optimiser_tensors

log = logging.getLogger(__name__)

# Of each policy. Learning follows the number of gradient steps more than that of samples: results/tuning.
MINIBATCH_STEPS = 256
COUNTERS = ("updates", "version", "unrolls", "player_steps", "env_steps")


class Learner:
    """Updates theta by recurrent PPO with a centralised critic, on the players whom the method trains.

    Args:
      config: the run's.
      spec: what an unroll looks like.
      ranks: the processes that share the work of an update; each has a learner, and gives it the same batches.
    """

    def __init__(self, config: Config, spec: UnrollSpec, ranks: Ranks) -> None:
        self.config, self.spec, self.ranks, self.device = config, spec, ranks, ranks.device
        self.method = make_method(config)
        torch.manual_seed(config.run.seed)
        self._rng = np.random.default_rng(config.run.seed)
        self.network = self.method.network(spec.environment, spec.policies).to(self.device)
        self.value_norm = ValueNorm(spec.policies, config.learner.value_norm_beta).to(self.device)
        objective = Objective(self.network, self.method, config.learner)
        self._objective = objective if ranks.size == 1 else DistributedDataParallel(objective)
        self._optimiser = torch.optim.Adam(
            self.network.parameters(), lr=config.learner.learning_rate, eps=config.learner.adam_eps, fused=True
        )
        self._average = {name: p.detach().clone() for name, p in self.network.named_parameters()}
        self.updates = self.version = self.unrolls = self.player_steps = self.env_steps = 0
        self.episodes = Episodes()

    @property
    def finished(self) -> bool:
        """Whether the run's budget is used up."""
        return self.player_steps >= self.config.run.player_steps

    def learn(self, unrolls: list[Unroll], batch: Batch) -> dict[str, float]:
        """Makes one update of one batch of unrolls, and counts; returns its metrics."""
        metrics = self.update(batch)
        self.updates += 1
        self.version += 1
        self.unrolls += len(unrolls)
        self.env_steps += sum(unroll.env_steps for unroll in unrolls)
        self.episodes.take(unrolls)
        lags = [self.version - 1 - unroll.header.theta_version for unroll in unrolls]
        return metrics | self.episodes.means() | {
            "updates": self.updates, "version": self.version, "player_steps": self.player_steps,
            "env_steps": self.env_steps, "episodes": self.episodes.count,
            "policy_lag_min": min(lags), "policy_lag_mean": float(np.mean(lags)), "policy_lag_max": max(lags),
        }  # fmt: skip

    def update(self, batch: Batch) -> dict[str, float]:
        """PPO's epochs over a batch; counts its player steps, by which step size and entropy bonus are annealed.

        Raises:
          ConfigError: if it diverged; nothing of it was published.
        """
        config = self.config.learner
        rate = self._annealed(config.learning_rate, config.final_learning_rate)
        for group in self._optimiser.param_groups:
            group["lr"] = rate
        prepared = self._prepare(batch)
        history: list[dict[str, Tensor]] = []
        _, steps, sequences = prepared.returns.shape
        parts = config.minibatches or max(1, round(steps * sequences / MINIBATCH_STEPS))
        for _ in range(config.epochs):
            shuffled = torch.from_numpy(self._rng.permutation(sequences)).to(self.device)
            for columns in shuffled.tensor_split(min(parts, sequences)):
                loss, numbers = self._objective(prepared.columns(self.ranks.mine(columns)))
                self._optimiser.zero_grad()
                loss.backward()
                norms = clip_gradients(self.network.parameters(), config.max_grad_norm)
                self._optimiser.step()
                history.append(numbers | {"gradient_norm": norms.mean()})
        means = {name: float(torch.stack([entry[name] for entry in history]).mean()) for name in history[0]}
        if not math.isfinite(means["policy_loss"] + means["value_loss"] + means["gradient_norm"]):
            raise ConfigError(
                f"update {self.updates + 1} diverged, its policy loss is {means['policy_loss']:g} and its value loss "
                f"{means['value_loss']:g}: learner.learning_rate={config.learning_rate:g} may be too high"
            )
        for name, parameter in self.network.named_parameters():
            self._average[name].lerp_(parameter.detach(), 1 - config.average_decay)
        self.player_steps += batch.player_steps
        explained = _explained(prepared.values[:, :-1], prepared.returns, prepared.sequences.valid)
        return means | {"explained_variance": explained, "learning_rate": rate, "entropy_coef": prepared.entropy_coef}

    @property
    def theta(self) -> Weights:
        """The learning policies as they are now."""
        return Weights(self.version, dict(self.network.named_parameters()), self.version)

    def tensors(self) -> dict[str, dict[str, Tensor]]:
        """What a checkpoint keeps as tensors: parameters, optimiser, normaliser, random state."""
        return {
            "theta": {name: p.detach().cpu().clone() for name, p in self.network.named_parameters()},
            "optimiser": {
                name: x.cpu().clone() for name, x in optimiser_tensors(self._optimiser, self.network).items()
            },
            "average": {name: x.cpu().clone() for name, x in self._average.items()},
            "value_norm": {name: x.cpu().clone() for name, x in self.value_norm.named_buffers()},
            "random": {"torch": torch.get_rng_state()},
        }

    def counters(self) -> dict[str, Any]:
        """What a checkpoint keeps besides tensors."""
        numbers = {name: getattr(self, name) for name in COUNTERS}
        return {**numbers, "episodes": self.episodes.state(), "numpy_random": self._rng.bit_generator.state}

    def restore(self, tensors: dict[str, dict[str, Tensor]], counters: dict[str, Any]) -> None:
        """The inverse of `tensors` and `counters`."""
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

    def _annealed(self, start: float, end: float | None) -> float:
        """A setting that moves linearly from its start to its end, if it has one, over the run's player steps."""
        share = min(1.0, self.player_steps / self.config.run.player_steps)
        return start if end is None else start + share * (end - start)

    @torch.no_grad()
    def _prepare(self, batch: Batch) -> Prepared:
        """What the epochs need and do not change; takes the batch's returns into the normaliser."""
        config = self.config.learner
        everybody = arrange(batch.policy, self.spec.policies).to(self.device)
        seen = self.network.embed(
            everybody.gather(batch.rgb, 1), everybody.gather(batch.features, 1), everybody.gather(batch.version)
        )
        embedding = everybody.scatter(seen.transpose(1, 2), len(batch.policy)).transpose(0, 1)
        others = mean_of_others(embedding, batch.players)
        trained = self.method.training_mask(batch.learning)
        sequences, (own, others) = trained_sequences(batch, trained, self.spec.policies, embedding, others)
        before = self.network.evaluate(own, sequences.state, others)
        raw = self.value_norm.denormalise(before.values).transpose(0, 1)
        reward, discount, valid = (x.transpose(0, 1) for x in (sequences.reward, sequences.discount, sequences.valid))
        discount = discount * config.gamma
        log_prob = before.log_probs[:, :-1].gather(-1, sequences.action[..., None]).squeeze(-1)
        # What a frozen player chose changed nothing, so it counts in full whatever theta thinks of it now.
        log_ratio = torch.where(sequences.mask, log_prob - sequences.log_prob, 0.0)
        if config.targets == "gae":
            targets = gae(reward, discount, raw, valid, config.gae_lambda)
        else:
            targets = vtrace(reward, discount, raw, valid, config.gae_lambda, log_ratio.transpose(0, 1))
        returns, advantages = (x.transpose(0, 1) for x in targets)
        self.value_norm.update(returns, sequences.valid)
        # An unroll acted on an older theta: its steps count by rho = min(1, pi / mu), and the clip range lies around
        # theta as it is now, not as it was then (Hilton et al. 2022).
        rho = log_ratio.exp().clamp(max=1.0)
        return Prepared(
            sequences, others, log_prob, before.values, self.value_norm.normalise(returns),
            standardise(advantages, sequences.mask) * rho,
            self._annealed(config.entropy_coef, config.final_entropy_coef),
        )  # fmt: skip


def mean_of_others(embedding: Tensor, players: int) -> Tensor:
    """For every player the mean of the other players' embeddings: [T, R, D] -> [T, R, D], R = B * players."""
    grouped = embedding.reshape(len(embedding), -1, players, embedding.shape[-1])
    others = (grouped.sum(2, keepdim=True) - grouped) / max(players - 1, 1)
    return others.flatten(1, 2)


def _explained(values: Tensor, returns: Tensor, mask: Tensor) -> float:
    """Share of the returns' variance that the values explain, over all policies."""
    x, y = values[mask], returns[mask]
    variance = float(y.var()) if y.numel() > 1 else math.nan
    return 1 - float((y - x).var()) / variance if variance > 0 else math.nan
