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
from common.network import Network, arrange
from common.optimisation import clip_gradients, load_optimiser, optimiser_tensors
from common.store import Store, Weights
from common.unroll import Unroll, UnrollSpec
from learner.batch import Batch, Sequences, collate, learning_sequences
from learner.episodes import Episodes
from learner.feed import Feed
from learner.ppo import ppo_terms, standardise
from learner.returns import Targets, gae, vtrace
from learner.value_norm import ValueNorm

log = logging.getLogger(__name__)

COUNTERS = ("updates", "version", "unrolls", "player_steps", "env_steps")


class Learner:
    """Updates theta by recurrent PPO with a centralised critic, on the players with v_i = 1.

    Args:
      config: the run's.
      store: the run's keys.
      spec: what an unroll looks like.
      feed: where batches come from.
      device: where it computes.
    """

    def __init__(self, config: Config, store: Store, spec: UnrollSpec, feed: Feed, device: torch.device) -> None:
        self.config, self.store, self.spec, self.feed, self.device = config, store, spec, feed, device
        self.method = method(config.method)
        torch.manual_seed(config.run.seed)
        self._rng = np.random.default_rng(config.run.seed)
        self.network = Network(spec.environment, config.network, spec.policies).to(device)
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
        return metrics | {"wait_s": received - started, "update_s": time.monotonic() - received}

    def update(self, batch: Batch) -> dict[str, float]:
        """PPO's epochs over the learning players of a batch.

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
                embedding = self._embed(part.rgb, part.features)
                log_probs, values = self._evaluate(embedding, part.state, others[:, :, columns])
                terms = ppo_terms(
                    log_probs[:, :-1], values[:, :-1], part.action, old_log_prob[:, :, columns],
                    advantages[:, :, columns], returns[:, :, columns], old_values[:, :-1, columns], part.mask, config,
                )  # fmt: skip
                self._optimiser.zero_grad()
                terms.loss(config).backward()
                norms = clip_gradients(self.network.parameters(), config.max_grad_norm)
                self._optimiser.step()
                history.append(terms.numbers() | {"gradient_norm": norms.mean()})
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
        """What the epochs need and do not change: the learning players' sequences, what the critic sees of the
        others [P, T+1, S, D]; before the update the log-probabilities of the actions taken [P, T, S] and the values
        [P, T+1, S] in normalised units; and the targets."""
        config = self.config.learner
        everybody = arrange(batch.policy, self.spec.policies).to(self.device)
        seen = self._embed(everybody.gather(batch.rgb, 1), everybody.gather(batch.features, 1))
        embedding = everybody.scatter(seen.transpose(1, 2), len(batch.policy)).transpose(0, 1)
        others = mean_of_others(embedding, batch.players)
        sequences, (own, others) = learning_sequences(batch, self.spec.policies, embedding, others)
        log_probs, values = self._evaluate(own, sequences.state, others)
        raw = self.value_norm.denormalise(values).transpose(0, 1)
        reward, discount, valid = (x.transpose(0, 1) for x in (sequences.reward, sequences.discount, sequences.valid))
        discount = discount * config.gamma
        log_prob = log_probs[:, :-1].gather(-1, sequences.action[..., None]).squeeze(-1)
        if config.targets == "gae":
            targets = gae(reward, discount, raw, valid, config.gae_lambda)
        else:
            log_ratio = (log_prob - sequences.log_prob).transpose(0, 1)
            targets = vtrace(reward, discount, raw, valid, config.gae_lambda, log_ratio)
        return sequences, others, log_prob, values, Targets(*(x.transpose(0, 1) for x in targets))

    def _evaluate(self, embedding: Tensor, state: Tensor, others: Tensor) -> tuple[Tensor, Tensor]:
        """Log-probabilities [P, T+1, S, A] and normalised values [P, T+1, S], from the unrolls' first states on."""
        hidden, _ = self.network.remember(embedding, state)
        return self.network.logits(hidden).log_softmax(-1), self.network.values(hidden, others)

    def _embed(self, rgb: Tensor, features: Tensor) -> Tensor:
        """[P, T+1, S, ...] -> [P, T+1, S, D]."""
        return self.network.embed(rgb.flatten(1, 2), features.flatten(1, 2)).reshape(*rgb.shape[:3], -1)

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
