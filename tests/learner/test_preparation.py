"""Targets and advantages of a mixed batch against one literal loop over its steps."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from unrolls import make_unroll

from common.settings import load_config
from common.spec import EnvironmentSpec
from common.unroll import Unroll, UnrollSpec
from learner.batch import collate
from learner.objective import Prepared
from learner.preparation import mean_of_others, prepare
from learner.value_norm import VARIANCE_FLOOR, ValueNorm
from methods import make_method
from networks.network import Network

GAME = EnvironmentSpec("made_up", 3, 4, (7, 7, 3), 5)
T, STATE, GAMMA, LAMBDA, BETA = 6, 8, 0.9, 0.8, 0.75
LENGTHS = [T, 4, T, 1]
V = [[True, False, True], [True, True, True], [False, True, True], [True, True, False]]


@dataclass(frozen=True)
class Case:
    """A prepared batch, and what it was prepared from."""

    unrolls: list[Unroll]
    network: Network
    before: ValueNorm
    after: ValueNorm
    prepared: Prepared
    targets: str


def mixed_unrolls(policies: int) -> list[Unroll]:
    """Unrolls of several lengths, some terminated, by older thetas, with frozen players and fictitious ones."""
    spec = UnrollSpec(GAME, T, STATE, policies)
    rng = np.random.default_rng(3)
    made = []
    for i, (v, length) in enumerate(zip(V, LENGTHS, strict=True)):
        unroll = make_unroll(spec, sequence=1 + i, env_steps=length)
        unroll.reward[:] = 3 * rng.normal(size=unroll.reward.shape)
        unroll.log_prob[:] = rng.uniform(-2.5, -0.5, unroll.log_prob.shape)
        unroll.discount[:] = 1
        unroll.discount[-1] = i % 2
        unroll.active[:] = rng.random(unroll.active.shape) > 0.3
        indices = [player % policies for player in range(GAME.players)]
        header = unroll.header.model_copy(
            update={
                "drivers": ["theta" if one else "phi:1:forward" for one in v],
                "policy": indices,
                "theta_version": 12 - i,
            }
        )
        made.append(Unroll(header, **{name: array for name, array in vars(unroll).items() if name != "header"}))
    return made


@pytest.fixture(params=[("gae", "shared"), ("gae", "per_player"), ("vtrace", "shared"), ("vtrace", "per_player")])
def case(request: pytest.FixtureRequest) -> Case:
    targets, parameters = request.param
    sizes = ["network.dense=12", f"network.core_size={STATE}", f"network.parameters={parameters}"]
    update = [f"learner.targets={targets}", f"learner.gamma={GAMMA}", f"learner.gae_lambda={LAMBDA}"]
    config = load_config(overrides=["method.name=mappo", *sizes, *update], environ={})
    method = make_method(config)
    policies = method.policies(GAME.players)
    torch.manual_seed(0)
    network = method.network(GAME, policies)
    with torch.no_grad():
        for parameter in network.parameters():  # policies with opinions, values that differ
            parameter.add_(0.2 * torch.randn_like(parameter))
    before, after = ValueNorm(policies, BETA), ValueNorm(policies, BETA)
    earlier = 2 + 4 * torch.randn(policies, 5, 3)
    for norm in (before, after):
        norm.update(earlier, torch.ones_like(earlier, dtype=torch.bool))
    unrolls = mixed_unrolls(policies)
    batch = collate(unrolls, T, torch.device("cpu"))
    return Case(unrolls, network, before, after, prepare(batch, network, method, after, config.learner), targets)


@dataclass
class Row:
    """One learning player of one unroll, worked out step by step."""

    policy_index: int
    rho: list[float]
    returns: list[float]
    advantages: list[float]
    active: list[bool]


def literal_rows(case: Case) -> list[Row]:
    """Follows every learning player through its unroll, in the order of the batch."""
    rows = []
    for unroll in case.unrolls:
        embeddings = [_embedded(case.network, unroll, player) for player in range(GAME.players)]
        for player in range(GAME.players):
            if unroll.header.learning[player]:
                others = torch.stack([embeddings[n] for n in range(GAME.players) if n != player]).mean(0)
                rows.append(_row(case, unroll, player, embeddings[player], others))
    return rows


def _embedded(network: Network, unroll: Unroll, player: int) -> Tensor:
    """A player's embedding by the network of its own policy: [T+1, dense]."""
    single = _single(network, unroll.header.policy[player])
    rgb, features = (torch.tensor(x[None, :, None, player]) for x in (unroll.rgb, unroll.features))
    with torch.no_grad():
        return single.embed(rgb, features, torch.zeros(1, 1, dtype=torch.long))[0, :, 0]


def _single(network: Network, p: int) -> Network:
    config = load_config(overrides=["network.dense=12", f"network.core_size={STATE}"], environ={}).network
    single = Network(GAME, config, 1)
    single.load_state_dict({name: x[p : p + 1] for name, x in network.state_dict().items()})
    return single


def _row(case: Case, unroll: Unroll, player: int, own: Tensor, others: Tensor) -> Row:
    p = unroll.header.policy[player]
    with torch.no_grad():
        state = torch.tensor(unroll.state[None, None, player])
        outputs = _single(case.network, p).evaluate(own[None, :, None], state, others[None, :, None])
    mean, deviation = (float(x[p]) for x in case.before.moments())
    values = [mean + deviation * float(v) for v in outputs.values[0, :, 0]]
    active = [bool(a) for a in unroll.active[:, player]]
    rho = []
    for t in range(unroll.env_steps):
        pi = float(outputs.log_probs[0, t, 0, unroll.action[t, player]])
        ratio = math.exp(pi - float(unroll.log_prob[t, player]))
        rho.append(min(1.0, ratio) if active[t] else 1.0)
    reward = [float(r) for r in unroll.reward[:, player]]
    discount = [GAMMA * float(d) for d in unroll.discount[:, player]]
    estimate: Callable[..., tuple[list[float], list[float]]] = {"gae": _gae, "vtrace": _vtrace}[case.targets]
    returns, advantages = estimate(reward, discount, values, rho)
    return Row(p, rho, returns, advantages, active)


def _gae(reward: Any, discount: Any, values: Any, rho: Any) -> tuple[list[float], list[float]]:
    """A_t as the sum of lambda-discounted temporal differences; the return is V_t + A_t."""
    steps, advantages = len(reward), []
    for t in range(steps):
        total, weight = 0.0, 1.0
        for k in range(t, steps):
            total += weight * (reward[k] + discount[k] * values[k + 1] - values[k])
            weight *= LAMBDA * discount[k]
        advantages.append(total)
    return [values[t] + advantages[t] for t in range(steps)], advantages


def _vtrace(reward: Any, discount: Any, values: Any, rho: Any) -> tuple[list[float], list[float]]:
    """v_s as the sum of rho-weighted temporal differences; the advantage bootstraps from v_{s+1}."""
    steps, vs = len(reward), []
    for t in range(steps):
        total, weight = values[t], 1.0
        for k in range(t, steps):
            total += weight * rho[k] * (reward[k] + discount[k] * values[k + 1] - values[k])
            weight *= discount[k] * LAMBDA * rho[k]
        vs.append(total)
    vs.append(values[steps])
    return vs[:-1], [reward[t] + discount[t] * vs[t + 1] - values[t] for t in range(steps)]


def test_targets_and_advantages_are_those_of_a_literal_loop(case: Case) -> None:
    rows, policies = literal_rows(case), len(case.before.mean)
    assert any(min(row.rho) < 0.9 for row in rows) and not all(all(row.active) for row in rows)
    for p in range(policies):
        own = [row for row in rows if row.policy_index == p]
        returns = np.array([r for row in own for r in row.returns])
        mean, deviation = _moments_after(case, p, returns)
        acted = np.array([a for row in own for a, on in zip(row.advantages, row.active, strict=True) if on])
        for column, row in enumerate(own):
            for t, active in enumerate(row.active):
                found = {name: float(getattr(case.prepared, name)[p, t, column]) for name in ("returns", "advantages")}
                assert found["returns"] == pytest.approx((row.returns[t] - mean) / deviation, abs=2e-4)
                if active:
                    expected = (row.advantages[t] - acted.mean()) / (acted.std() + 1e-5) * row.rho[t]
                    assert found["advantages"] == pytest.approx(expected, abs=2e-4)
        valid, mask = case.prepared.sequences.valid[p], case.prepared.sequences.mask[p]
        assert int(valid.sum()) == len(returns) and int(mask.sum()) == len(acted)


def _moments_after(case: Case, p: int, returns: Any) -> tuple[float, float]:
    """The return statistics with this batch: old averages times beta, this batch's times 1 - beta, debiased."""
    before, share = case.before, 1 - BETA
    weight = BETA * float(before.weight[p]) + share
    mean = (BETA * float(before.mean[p]) + share * returns.mean()) / weight
    square = (BETA * float(before.mean_square[p]) + share * (returns**2).mean()) / weight
    return mean, math.sqrt(max(square - mean**2, VARIANCE_FLOOR))


def test_the_critic_sees_the_mean_of_the_other_players() -> None:
    embedding = torch.randn(T, 2 * GAME.players, 4)
    others = mean_of_others(embedding, GAME.players)
    for row in range(2 * GAME.players):
        group = range(GAME.players) if row < GAME.players else range(GAME.players, 2 * GAME.players)
        expected = torch.stack([embedding[:, other] for other in group if other != row]).mean(0)
        torch.testing.assert_close(others[:, row], expected)
    assert not mean_of_others(embedding, 1).any()
