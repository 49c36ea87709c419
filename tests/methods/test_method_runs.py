"""Every method in a run of all roles: what defines it holds there too, and each learns a small game."""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from watched_runs import Watched, configuration, running

import environments
from common import checkpoint
from common.config import Config
from common.files import read_lines
from common.run_folder import RunFolder
from common.unroll import Unroll
from common.weights import Weights
from deploy.serial import Serial
from evaluator.self_play import play
from learner.batch import collate
from learner.learner import Learner

SEEING = ["environment.substrate=pettingzoo:seeing_game:environment", "environment.block=1"]


def equal(x: Any, y: Any) -> bool:
    return all(torch.equal(x[name], y[name]) for name in x)


# The others differ in who plays and when phi moves, which is tested below; RandNet learns below, MAPPO in test_serial.
@pytest.mark.slow
@pytest.mark.parametrize("method", ["bidist", "pp", "rpm", "opre", "bidist-all-fictitious"])
def test_it_learns_to_coordinate(redis_url: str, tmp_path: Path, method: str) -> None:
    """Two random players act alike a third of the time; players that have learnt to coordinate always do."""
    more = ["environment.players=2", "actor.environments=16", "learner.batch_unrolls=16"]
    fast = ["learner.learning_rate=0.01", "learner.epochs=2", "learner.minibatches=1"]
    config = configuration(tmp_path, method, *more, *fast)
    with running(config, redis_url) as serial:
        for _ in range(60):
            serial.update()
        assert serial.store.ledger.balance().holds
        before, after = _returns(serial, config, episodes=40)
    assert before == pytest.approx(8 / 3, abs=0.7)
    assert after > 6


@pytest.mark.slow
def test_randnet_learns_from_what_every_filter_preserves(redis_url: str, tmp_path: Path) -> None:
    game = ["environment.substrate=pettingzoo:seeing_game:places", "environment.block=1"]
    more = ["learner.learning_rate=0.003", "learner.epochs=2", "learner.minibatches=1"]
    config = configuration(tmp_path, "randnet", *game, *more)
    with running(config, redis_url) as serial:
        for _ in range(200):
            serial.update()
        before, after = _returns(serial, config, episodes=20)
    assert before == pytest.approx(8 / 3, abs=0.7)
    assert after > 5


def _returns(serial: Watched, config: Config, episodes: int) -> list[float]:
    """Returns what the first and the newest theta earn in self-play."""
    versions = (0, serial.learner.learner.version)
    games = [play(config, serial.published["theta", version].parameters, episodes, seed=1) for version in versions]
    return [float(np.mean([episode.mean_return for episode in played])) for played in games]


@pytest.mark.parametrize("method", ["bidist", "rpm"])
def test_players_do_not_train_on_the_steps_of_others(redis_url: str, tmp_path: Path, method: str) -> None:
    """Rewards and actions of players that are not learning change nothing; those of learning players do."""
    more = ["method.every=1"] if method == "rpm" else []
    with running(configuration(tmp_path, method, *more), redis_url) as serial:
        for _ in range(6):
            serial.update()
        after = _updates_from_here(serial.learner.learner)
        unrolls = serial.unrolls[-8:]
        others = copy.deepcopy(unrolls)
        for unroll in others:
            fictitious = ~np.array(unroll.header.learning)
            assert unroll.reward.shape[1] > fictitious.sum()
            unroll.reward[:, fictitious] += np.linspace(0, 9, unroll.env_steps)[:, None]
            unroll.action[:, fictitious] = (unroll.action[:, fictitious] + 1) % 3
            unroll.log_prob[:, fictitious] -= 1
        assert any(not all(unroll.header.learning) for unroll in unrolls)
        own = copy.deepcopy(unrolls)
        for unroll in own:
            unroll.reward[:, unroll.header.learning] += np.linspace(0, 9, unroll.env_steps)[:, None]
        assert equal(after(unrolls), after(others))
        assert not equal(after(unrolls), after(own))


def test_population_learners_train_on_their_own_seats_only(redis_url: str, tmp_path: Path) -> None:
    with running(configuration(tmp_path, "pp", "method.population=4"), redis_url) as serial:
        for _ in range(4):
            serial.update()
        unrolls = serial.unrolls[:8]
        headers = [unroll.header for unroll in unrolls]
        seats = {pair for header in headers for pair in zip(header.policy, header.learning, strict=True)}
        assert seats == {(policy_index, True) for policy_index in range(4)}
        after = _updates_from_here(serial.learner.learner)
        plain = after(unrolls)
        for unroll in unrolls:
            unroll.reward[:, np.array(unroll.header.policy) != 2] += np.linspace(0, 9, unroll.env_steps)[:, None]
        paid = after(unrolls)
    differs = [any(not torch.equal(plain[name][k], paid[name][k]) for name in plain) for k in range(4)]
    assert differs == [True, True, False, True]


def _updates_from_here(learner: Learner) -> Callable[[list[Unroll]], dict[str, Tensor]]:
    """Returns a function from a batch to the parameters after one update, always from the learner's present state."""
    tensors, counters = learner.tensors(), copy.deepcopy(learner.counters())

    def after(batch: list[Unroll]) -> dict[str, Tensor]:
        learner.restore(tensors, copy.deepcopy(counters))
        learner.update(collate(batch, 8, torch.device("cpu")))
        return {name: p.detach().clone() for name, p in learner.network.named_parameters()}

    return after


def test_the_population_starts_with_different_policies(redis_url: str, tmp_path: Path) -> None:
    with running(configuration(tmp_path, "pp", "method.population=4"), redis_url) as serial:
        weight = serial.published["theta", 0].parameters["dense.weight"]
    for k in range(1, 4):
        assert not torch.equal(weight[0], weight[k])


def test_ranked_policies_are_kept_and_played_but_not_trained_on(redis_url: str, tmp_path: Path) -> None:
    config = configuration(tmp_path, "rpm", "method.every=2", "method.rank_size=2", "method.rank_width=0.5")
    folder = RunFolder.of(config.run)
    with running(config, redis_url) as serial:
        joined: dict[str, Weights] = {}
        for _ in range(24):
            serial.update()
            pool = serial.store.pool()
            for name in pool.keys() - joined.keys():
                weights = serial.store.weights(name)
                assert weights is not None
                joined[name] = weights
            assert pool == serial.learner.pool.scores
            ranks = [int(np.floor(score / 0.5)) for score in pool.values()]
            assert max(map(ranks.count, ranks), default=0) <= 2, "a rank holds two"
        returns = {line["updates"]: line["return_learning"] for line in read_lines(folder.metrics)}
        for name, weights in joined.items():
            updates = int(name.removeprefix("pool:"))
            assert updates % 2 == 0
            assert equal(weights.parameters, serial.published["theta", weights.version].parameters)
        for name, score in serial.store.pool().items():
            assert score == returns[int(name.removeprefix("pool:"))]
        assert len(joined) == 12 > len(serial.store.pool())
        kept = {f"pool:{int(path.name)}" for path in checkpoint.checkpoints(folder.pool)}
        assert kept == serial.store.pool().keys()
        v = np.array([unroll.header.learning for unroll in serial.unrolls])
        assert v[:8].all(), "the pool is still empty"
        # Each of three players with probability 1/2, given that at least one learns.
        assert v[-96:].mean() == pytest.approx(0.5 / (1 - 0.5**3), abs=0.12)
        assert v.any(1).all()
        _past_policies_acted_as_saved(serial, joined)
        pool = serial.store.pool()

    # The pool survives a Redis that loses it and a learner that returns to an older checkpoint.
    with Serial(config, redis_url) as again:
        assert again.store.pool() == pool
        for key in again.store.client.scan_iter(match=again.store.key("*")):
            again.store.client.delete(key)
        again.learner.report()
        assert again.store.pool() == pool
        name = max(pool, key=lambda name: int(name.removeprefix("pool:")))
        weights = again.store.weights(name)
        assert weights is not None
        assert equal(weights.parameters, joined[name].parameters)
        (first, *_) = checkpoint.checkpoints(folder.pool)
        (first / "theta.safetensors").write_bytes(b"damaged")
        again.learner.pool.restore(updates=24)
        whole = {n: s for n, s in pool.items() if n != f"pool:{int(first.name)}"}
        assert again.store.pool() == whole
        again.learner.pool.restore(updates=20)
        assert again.store.pool() == {n: s for n, s in whole.items() if int(n.removeprefix("pool:")) <= 20}


def _past_policies_acted_as_saved(serial: Watched, joined: dict[str, Weights]) -> None:
    """Players that were not learning have the log-probabilities of some policy that joined the pool."""
    learner = serial.learner.learner
    network = learner.method.network(environments.spec(serial.learner.config.environment), 1)
    checked = 0
    for unroll in serial.unrolls[-24:]:
        for player in np.flatnonzero(~np.array(unroll.header.learning)).tolist():
            distance = min(_distance(network, weights.parameters, unroll, player) for weights in joined.values())
            assert distance < 1e-5
            checked += 1
    assert checked > 10


def _distance(network: Any, parameters: Any, unroll: Unroll, player: int) -> float:
    """Returns how far the log-probabilities of a player's actions are from those under these parameters."""
    network.load_state_dict(dict(parameters))
    see, sense = (torch.tensor(x[None, :, None, player]) for x in (unroll.rgb, unroll.features))
    state, version = torch.tensor(unroll.state[None, None, player]), torch.tensor([[unroll.header.theta_version]])
    with torch.no_grad():
        log_probs = network.act(see, sense, state, version)[0][0, :-1, 0]
    taken = log_probs.gather(-1, torch.tensor(unroll.action[:, player, None]).long())[:, 0]
    return float((taken - torch.tensor(unroll.log_prob[:, player])).abs().max())


def test_without_distillation_phi_is_independent_and_never_moves(redis_url: str, tmp_path: Path) -> None:
    with running(configuration(tmp_path, "bidist-no-distillation"), redis_url) as serial:
        for _ in range(9):
            serial.update()
        assert [version for name, version in serial.published if name == "phi"] == [0]
        theta, phi = serial.published["theta", 0].parameters, serial.published["phi", 0].parameters
        assert not torch.equal(theta["dense.weight"], phi["dense.weight"])
        assert not all(all(unroll.header.learning) for unroll in serial.unrolls), "it still plays"


def test_all_fictitious_learns_from_the_steps_of_phi(redis_url: str, tmp_path: Path) -> None:
    policy_loss_alone = ["learner.entropy_coef=0", "learner.value_coef=0"]
    config = configuration(tmp_path, "bidist-all-fictitious", *policy_loss_alone)
    with running(config, redis_url) as serial:
        for _ in range(7):
            serial.update()
        assert not any(any(unroll.header.learning) for unroll in serial.unrolls)
        assert [version for name, version in serial.published if name == "phi"] == [0, 1, 2]
        first, last = (serial.published["theta", version].parameters for version in (0, 7))
        assert not equal(first, last)
        # The ratio pi_theta / pi_phi: nothing is learnt from actions that phi was sure of and theta hardly takes.
        learner, unrolls = serial.learner.learner, serial.unrolls[-8:]
        for unroll in unrolls:
            unroll.log_prob[:] = 300.0
        learner._optimiser.state.clear()
        before = {name: p.detach().clone() for name, p in learner.network.named_parameters()}
        learner.update(collate(unrolls, 8, torch.device("cpu")))
        assert equal(before, dict(learner.network.named_parameters()))


def test_without_fictitious_players_phi_moves_but_never_plays(redis_url: str, tmp_path: Path) -> None:
    with running(configuration(tmp_path, "bidist-no-fictitious"), redis_url) as serial:
        for _ in range(7):
            serial.update()
        assert all(all(unroll.header.learning) for unroll in serial.unrolls)
        assert [version for name, version in serial.published if name == "phi"] == [0, 1, 2]


@pytest.mark.parametrize("method", ["randnet", "opre"])
def test_the_learner_computes_what_the_actor_computed(redis_url: str, tmp_path: Path, method: str) -> None:
    """On images, the actor's log-probabilities are those of the version in the header, including its filter."""
    config = configuration(tmp_path, method, *SEEING)
    with running(config, redis_url) as serial:
        for _ in range(5):
            serial.update()
        network = serial.learner.learner.method.network(serial.learner.learner.spec.environment, 1)
        for unroll in serial.unrolls:
            theta = serial.published["theta", unroll.header.theta_version].parameters
            assert max(_distance(network, theta, unroll, player) for player in range(3)) < 1e-4
        versions = {unroll.header.theta_version for unroll in serial.unrolls}
        assert len(versions) > 3
        if method == "randnet":
            metrics = read_lines(RunFolder.of(config.run).metrics)
            assert all(line["feature_loss"] >= 0 for line in metrics)
            assert any(line["feature_loss"] > 0 for line in metrics)
