"""The learner: next batch, update, publish, account, log."""

import logging
import math
import time
from typing import Any

import numpy as np
import torch
from torch import Tensor

from common.config import Config
from common.errors import ConfigError
from common.methods import method
from common.network import arrange
from common.optimisation import clip_gradients, load_optimiser, optimiser_tensors
from common.sequences import Sequences
from common.store import Store, Weights
from common.unroll import Unroll, UnrollSpec
from learner.batch import Batch, collate, trained_sequences
from learner.episodes import Episodes
from learner.feed import Feed
from learner.pool import Pool
from learner.ppo import ppo_terms, standardise
from learner.returns import Targets, gae, vtrace
from learner.value_norm import ValueNorm

log = logging.getLogger(__name__)

COUNTERS = ("updates", "version", "unrolls", "player_steps", "env_steps")


class Learner:
    """Updates theta by recurrent PPO with a centralised critic, on the players whom the method trains.

    Args:
      config: the run's.
      store: the run's keys.
      spec: what an unroll looks like.
      feed: where batches come from.
      pool: where past policies are kept.
      device: where it computes.
    """

    def __init__(
        self, config: Config, store: Store, spec: UnrollSpec, feed: Feed, pool: Pool, device: torch.device
    ) -> None:
        self.config, self.store, self.spec, self.feed, self.device = config, store, spec, feed, device
        self.pool = pool
        self.method = method(config)
        torch.manual_seed(config.run.seed)
        self._rng = np.random.default_rng(config.run.seed)
        self.network = self.method.network(spec.environment, spec.policies).to(device)
        self.value_norm = ValueNorm(spec.policies, config.learner.value_norm_beta).to(device)
        self._optimiser = torch.optim.Adam(
            self.network.parameters(), lr=config.learner.learning_rate, eps=config.learner.adam_eps, fused=True
        )
        self.updates = self.version = self.unrolls = self.player_steps = self.env_steps = 0
        self.episodes = Episodes()

    @property
    def finished(self) -> bool:
        """Whether the run's budget is used up."""
        return self.player_steps >= self.config.run.player_steps

    def step(self, timeout_s: float) -> dict[str, float] | None:
        """Makes one update of one batch; None if no batch came together within the timeout."""
        started = time.monotonic()
        unrolls = self.feed.next_batch(self.version, timeout_s)
        if unrolls is None:
            return None
        received = time.monotonic()
        batch = collate(unrolls, self.spec.unroll_length, self.device)
        metrics = self.update(batch)
        self.updates += 1
        self.version += 1
        self.unrolls += len(unrolls)
        self.env_steps += sum(unroll.env_steps for unroll in unrolls)
        self.player_steps += batch.player_steps
        self.publish()
        if self.method.directions and self.updates % self.config.distiller.every == 0:
            self.store.put_observations(batch.observations(self.updates))
        self.feed.account()
        metrics |= self._progress(unrolls)
        self._remember()
        return metrics | {"wait_s": received - started, "update_s": time.monotonic() - received}

    def update(self, batch: Batch) -> dict[str, float]:
        """PPO's epochs over a batch.

        Raises:
          ConfigError: if it diverged; nothing of it was published.
        """
        config = self.config.learner
        sequences, others, old_log_prob, old_values, targets = self._prepare(batch)
        self.value_norm.update(targets.returns, sequences.mask)
        returns = self.value_norm.normalise(targets.returns)
        # An unroll acted on an older theta: its steps count by rho = min(1, pi / mu), and the clip range lies around
        # theta as it is now, not as it was then (Hilton et al. 2022).
        rho = (old_log_prob - sequences.log_prob).exp().clamp(max=1.0)
        advantages = standardise(targets.advantages, sequences.mask) * rho
        history: list[dict[str, Tensor]] = []
        for _ in range(config.epochs):
            shuffled = torch.from_numpy(self._rng.permutation(old_values.shape[-1])).to(self.device)
            for columns in shuffled.tensor_split(min(config.minibatches, len(shuffled))):
                part = sequences.columns(columns)
                embedding = self.network.embed(part.rgb, part.features, part.version)
                outputs = self.network.evaluate(embedding, part.state, others[:, :, columns])
                terms = ppo_terms(
                    outputs.log_probs[:, :-1], outputs.values[:, :-1], part.action, old_log_prob[:, :, columns],
                    advantages[:, :, columns], returns[:, :, columns], old_values[:, :-1, columns], part.mask, config,
                )  # fmt: skip
                penalties = self.method.penalties(self.network, part, embedding, outputs)
                loss = terms.loss(config) + sum(weight * penalty.sum() for weight, penalty in penalties.values())
                self._optimiser.zero_grad()
                loss.backward()
                norms = clip_gradients(self.network.parameters(), config.max_grad_norm)
                self._optimiser.step()
                own = {name: penalty.detach().mean() for name, (_, penalty) in penalties.items()}
                history.append(terms.numbers() | own | {"gradient_norm": norms.mean()})
        means = {name: float(torch.stack([entry[name] for entry in history]).mean()) for name in history[0]}
        if not math.isfinite(means["policy_loss"] + means["value_loss"] + means["gradient_norm"]):
            raise ConfigError(
                f"update {self.updates + 1} diverged, its policy loss is {means['policy_loss']:g} and its value loss "
                f"{means['value_loss']:g}: learner.learning_rate={config.learning_rate:g} may be too high"
            )
        return means | {"explained_variance": _explained(old_values[:, :-1], returns, sequences.mask)}

    def publish(self) -> None:
        """Writes theta to Redis under its version."""
        self.store.publish("theta", Weights(self.version, dict(self.network.named_parameters()), self.version))

    def tensors(self) -> dict[str, dict[str, Tensor]]:
        """What a checkpoint keeps as tensors: parameters, optimiser, normaliser, random state."""
        return {
            "theta": {name: p.detach().cpu().clone() for name, p in self.network.named_parameters()},
            "optimiser": {
                name: x.cpu().clone() for name, x in optimiser_tensors(self._optimiser, self.network).items()
            },
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
        self.value_norm.load_state_dict(tensors["value_norm"])
        load_optimiser(self._optimiser, self.network, tensors["optimiser"])
        torch.set_rng_state(tensors["random"]["torch"])
        self._rng.bit_generator.state = counters["numpy_random"]
        self.episodes.restore(counters["episodes"])
        for name in COUNTERS:
            setattr(self, name, counters[name])

    @torch.no_grad()
    def _prepare(self, batch: Batch) -> tuple[Sequences, Tensor, Tensor, Tensor, Targets]:
        """What the epochs need and do not change: the sequences to train on, what the critic sees of the others
        [P, T+1, S, D]; before the update the log-probabilities of the actions taken [P, T, S] and the values
        [P, T+1, S] in normalised units; and the targets."""
        config = self.config.learner
        everybody = arrange(batch.policy, self.spec.policies).to(self.device)
        seen = self.network.embed(
            everybody.gather(batch.rgb, 1), everybody.gather(batch.features, 1), everybody.gather(batch.version)
        )
        embedding = everybody.scatter(seen.transpose(1, 2), len(batch.policy)).transpose(0, 1)
        others = mean_of_others(embedding, batch.players)
        trained = self.method.trained(batch.learning)
        sequences, (own, others) = trained_sequences(batch, trained, self.spec.policies, embedding, others)
        before = self.network.evaluate(own, sequences.state, others)
        raw = self.value_norm.denormalise(before.values).transpose(0, 1)
        reward, discount, valid = (x.transpose(0, 1) for x in (sequences.reward, sequences.discount, sequences.valid))
        discount = discount * config.gamma
        log_prob = before.log_probs[:, :-1].gather(-1, sequences.action[..., None]).squeeze(-1)
        if config.targets == "gae":
            targets = gae(reward, discount, raw, valid, config.gae_lambda)
        else:
            log_ratio = (log_prob - sequences.log_prob).transpose(0, 1)
            targets = vtrace(reward, discount, raw, valid, config.gae_lambda, log_ratio)
        return sequences, others, log_prob, before.values, Targets(*(x.transpose(0, 1) for x in targets))

    def _remember(self) -> None:
        """Lets theta join the pool, if the method wants it to."""
        ranks = self.pool.ranks
        rank = self.method.rank(self.updates, self.episodes.means().get("return_learning", math.nan), ranks)
        if rank is not None:
            self.pool.add(self.updates, Weights(self.version, dict(self.network.named_parameters())), rank)
            for name in self.method.leaving(self.pool.ranks):
                self.pool.remove(name)

    def _progress(self, unrolls: list[Unroll]) -> dict[str, float]:
        lags = [self.version - 1 - unroll.header.theta_version for unroll in unrolls]
        self.episodes.take(unrolls)
        return self.episodes.means() | {
            "updates": self.updates, "version": self.version, "player_steps": self.player_steps,
            "env_steps": self.env_steps, "episodes": self.episodes.count,
            "policy_lag_min": min(lags), "policy_lag_mean": float(np.mean(lags)), "policy_lag_max": max(lags),
        }  # fmt: skip


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
