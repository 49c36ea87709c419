"""What an update computes once before its epochs: values, targets and advantages under theta as it is."""

import torch
from torch import Tensor

from common.config import LearnerConfig
from learner.batch import Batch, trained_sequences
from learner.objective import Prepared
from learner.ppo import standardise
from learner.returns import gae, vtrace
from learner.value_norm import ValueNorm
from methods import Method
from networks.arrangement import arrange
from networks.network import Network


@torch.no_grad()
def prepare(batch: Batch, network: Network, method: Method, value_norm: ValueNorm, config: LearnerConfig) -> Prepared:
    """Evaluates a batch under theta before the update.

    Args:
      batch: the unrolls, all players.
      network: theta.
      method: decides whose steps are trained on.
      value_norm: the return statistics; the returns of this batch are added to them.
      config: discount, trace and kind of targets.
    """
    policies = method.policies(batch.players)
    embedding = _embed(batch, network, policies)
    others = mean_of_others(embedding, batch.players)
    trained = method.training_mask(batch.learning)
    sequences, (own, others) = trained_sequences(batch, trained, policies, embedding, others)
    before = network.evaluate(own, sequences.state, others)
    log_prob = before.log_probs[:, :-1].gather(-1, sequences.action[..., None]).squeeze(-1)
    # A frozen player's choice changed nothing, so it counts in full whatever theta thinks of it now.
    log_ratio = torch.where(sequences.mask, log_prob - sequences.log_prob, 0.0)
    # The estimators take time first: these are views.
    raw = value_norm.denormalise(before.values).transpose(0, 1)
    reward, discount, valid = (x.transpose(0, 1) for x in (sequences.reward, sequences.discount, sequences.valid))
    discount = discount * config.gamma
    if config.targets == "gae":
        targets = gae(reward, discount, raw, valid, config.gae_lambda)
    else:
        targets = vtrace(reward, discount, raw, valid, config.gae_lambda, log_ratio.transpose(0, 1))
    returns, advantages = (x.transpose(0, 1) for x in targets)
    value_norm.update(returns, sequences.valid)
    # An unroll was played by an older theta: its steps are weighted by rho = min(1, pi / mu), and the clip range is
    # centred on theta as it is now rather than as it was then (Hilton et al. 2022).
    rho = log_ratio.exp().clamp(max=1.0)
    weighted = standardise(advantages, sequences.mask) * rho
    return Prepared(sequences, others, log_prob, before.values, value_norm.normalise(returns), weighted)


def _embed(batch: Batch, network: Network, policies: int) -> Tensor:
    """Embeds what every player saw, each by the network of its own policy: [T+1, R, D]."""
    everybody = arrange(batch.policy_index, policies).to(batch.reward.device)
    seen = network.embed(
        everybody.gather(batch.rgb, 1), everybody.gather(batch.features, 1), everybody.gather(batch.version)
    )
    return everybody.scatter(seen.transpose(1, 2), len(batch.policy_index)).transpose(0, 1)


def mean_of_others(embedding: Tensor, players: int) -> Tensor:
    """Returns for every player the mean of the other players' embeddings: [T, R, D] -> [T, R, D], R = B * players."""
    grouped = embedding.reshape(len(embedding), -1, players, embedding.shape[-1])
    others = (grouped.sum(2, keepdim=True) - grouped) / max(players - 1, 1)
    return others.flatten(1, 2)
