"""What an actor ships is what happened: every unroll is replayed from its header, state and weights."""

import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from serial_runs import configuration
from waiting import until

import environments
from actors import actor as actor_module
from common import store as store_module
from common.config import Config
from common.run_folder import RunFolder
from common.settings import load_config
from common.store import Store
from common.unroll import Unroll, UnrollHeader
from common.weights import Weights
from deploy.serial import Serial
from environments.lengths import expected_length
from environments.matrix_game import PAYOFFS
from networks.network import Network

PLAYERS, LENGTH, EPISODE, ENVIRONMENTS = 3, 8, 11, 4
GAME = "matrix_chicken"


@pytest.fixture(scope="module", params=["shared", "per_player", "lstm"])
def played(
    request: pytest.FixtureRequest, redis_url: str, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Config, list[Unroll], dict[tuple[str, int], Weights]]:
    """The unrolls of twelve updates, and every version of theta and phi published meanwhile."""
    overrides = [
        f"environment.substrate={GAME}",
        f"environment.players={PLAYERS}",
        f"environment.episode_length={EPISODE}",
        f"actor.environments={ENVIRONMENTS}",
        f"actor.unroll_length={LENGTH}",
        "learner.batch_unrolls=6",
        "distiller.every=2",
        "distiller.burn_in=1",
        "network.dense=8",
        "network.core_size=8",
        *([f"network.core={request.param}"] if request.param == "lstm" else [f"network.parameters={request.param}"]),
        "method.learning_probability=0.6",
        "method.alone_until=0",
        f"run.folder={tmp_path_factory.mktemp('runs')}",
        f"run.name=actor-{request.param}",
    ]
    config = load_config(overrides=overrides, environ={})
    RunFolder.of(config.run).create(config)
    unrolls: list[Unroll] = []
    published: dict[tuple[str, int], Weights] = {}
    with Serial(config, redis_url, unrolls.extend) as serial:

        def keep() -> None:
            for name in ("theta", "phi"):
                weights = serial.store.weights(name)
                assert weights is not None
                published[name, weights.version] = weights

        keep()
        for _ in range(12):
            serial.update()
            keep()
    return config, unrolls, published


Played = tuple[Config, list[Unroll], dict[tuple[str, int], Weights]]


def test_log_probabilities_come_from_the_versions_in_the_header(played: Played) -> None:
    config, unrolls, published = played
    network = Network(environments.spec(config.environment), config.network, 1)
    for unroll in unrolls:
        header = unroll.header
        for player in range(PLAYERS):
            weights = published[driver(header, player)]
            p = header.policy[player]
            network.load_state_dict({k: x[p : p + 1] for k, x in weights.parameters.items()})
            with torch.no_grad():
                rgb, features = (torch.tensor(x[None, :, None, player]) for x in (unroll.rgb, unroll.features))
                state = torch.tensor(unroll.state[None, None, player])
                log_probs, _ = network.act(rgb, features, state, torch.zeros(1, 1, dtype=torch.long))
                log_probs = log_probs[0, :-1, 0]
            expected = log_probs.gather(-1, torch.tensor(unroll.action[:, player, None]).long())[:, 0]
            np.testing.assert_allclose(unroll.log_prob[:, player], expected, atol=1e-5)
    versions = {header.theta_version for header in (unroll.header for unroll in unrolls)}
    assert len(versions) > 5
    drivers = {name for unroll in unrolls for name in unroll.header.drivers}
    assert {name.rpartition(":")[2] for name in drivers} == {"theta", "initial", "forward", "reverse"}


def driver(header: UnrollHeader, player: int) -> tuple[str, int]:
    """Returns whose policy, and which version of it, a header says drove a player."""
    name, _, version = header.drivers[player].partition(":")
    return name, int(version.partition(":")[0] or header.theta_version)


def test_who_drives_a_player_stays_the_same_through_an_episode(played: Played) -> None:
    """Whatever is published in the meantime: there is no responding to a stranger who changes."""
    _, unrolls, published = played
    newest: dict[int, int] = {}
    overtaken = 0
    for environment in range(ENVIRONMENTS):
        before: Unroll | None = None
        for unroll in (unroll for unroll in unrolls if unroll.header.environment == environment):
            header = unroll.header
            if before is not None and before.header.episode is None:
                assert header.drivers == before.header.drivers
                overtaken += header.theta_version > before.header.theta_version
            for name in header.drivers:
                if name != "theta":
                    _, version, direction = name.split(":")
                    assert published["phi", int(version)].direction == direction
                    newest[int(version)] = 1
            before = unroll
    assert overtaken > 5, "new versions were published within episodes"
    assert len(newest) > 4


def test_rewards_and_observations_follow_from_the_actions(played: Played) -> None:
    payoff = PAYOFFS[GAME]
    for unroll in played[1]:
        for t in range(unroll.env_steps):
            actions = unroll.action[t]
            meetings = [[payoff[a, b] for j, b in enumerate(actions) if j != i] for i, a in enumerate(actions)]
            np.testing.assert_allclose(unroll.reward[t], np.mean(meetings, axis=1), atol=1e-6)
            own = np.eye(len(payoff))[actions]
            np.testing.assert_array_equal(unroll.features[t + 1][:, : len(payoff)], own)


def test_unrolls_of_an_environment_join_into_episodes(played: Played) -> None:
    config, unrolls, _ = played
    policies = list(range(PLAYERS)) if config.network.parameters == "per_player" else [0] * PLAYERS
    draws = []
    for environment in range(ENVIRONMENTS):
        own = [unroll for unroll in unrolls if unroll.header.environment == environment]
        steps, returns = 0, np.zeros(PLAYERS)
        for before, unroll in zip([None, *own], own, strict=False):
            header = unroll.header
            assert header.policy == policies
            starts = before is None or before.header.episode is not None
            if starts:
                steps, returns = 0, np.zeros(PLAYERS)
                draws.append(header.learning)
                assert not unroll.state.any()
                assert unroll.features[0, :, 2 * len(PAYOFFS[GAME])].all()
            else:
                assert before is not None
                assert header.learning == before.header.learning
                np.testing.assert_array_equal(unroll.features[0], before.features[-1])
                assert unroll.state.any()
            steps += unroll.env_steps
            returns += unroll.reward.sum(0)
            if header.episode is None:
                assert unroll.discount.all()
                continue
            assert steps == header.episode.env_steps == EPISODE
            assert not unroll.discount[-1].any()
            assert unroll.discount[:-1].all()
            np.testing.assert_allclose(header.episode.returns, returns, rtol=1e-5)
    assert all(any(v) for v in draws)
    assert 0.4 < np.mean(draws) < 0.95


def test_sequence_numbers_have_no_gaps(played: Played) -> None:
    assert [unroll.header.sequence for unroll in played[1]] == list(range(1, len(played[1]) + 1))


@pytest.mark.slow
def test_first_episodes_are_cut_so_that_the_copies_end_theirs_one_after_another(redis_url: str, tmp_path: Path) -> None:
    """Of two copies, the first is cut in the middle of an expected episode."""
    game = "prisoners_dilemma_in_the_matrix__arena"
    middle = round((expected_length(game) or 0) / 2)
    config = configuration(
        tmp_path, "cut", f"environment.substrate={game}", "actor.unroll_length=50", "actor.environments=2"
    )
    RunFolder.of(config.run).create(config)
    unrolls: list[Unroll] = []
    with Serial(config, redis_url, unrolls.extend) as serial:
        while sum(unroll.env_steps for unroll in unrolls) < 2 * (middle + 100):
            serial.update()
    first, second = ([unroll for unroll in unrolls if unroll.header.environment == i] for i in range(2))
    lengths = [unroll.env_steps for unroll in first]
    cut = middle // 50
    assert lengths[: cut + 2] == [50] * cut + [middle % 50, 50 - middle % 50]
    assert first[cut].discount.all() and not first[cut + 1].state.any()
    assert all(unroll.header.episode is None for unroll in unrolls)
    assert {unroll.env_steps for unroll in second} == {50}


# Runs that end.


@pytest.fixture
def short(redis_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Serial]:
    monkeypatch.setattr(store_module, "JOIN_S", 0.0)
    for name in ("SILENCE_S", "FLUSH_S"):
        monkeypatch.setattr(actor_module, name, 0.5)
    overrides = [
        f"environment.substrate={GAME}",
        "environment.episode_length=8",
        "actor.environments=2",
        "actor.unroll_length=8",
        "learner.batch_unrolls=4",
        "network.dense=8",
        "network.core_size=8",
        "run.player_steps=64",
        "run.heartbeat_s=0.5",
        "method.alone_until=0",
        "distiller.burn_in=1",
        f"run.folder={tmp_path}",
        f"run.name=short-{tmp_path.name}",
    ]
    config = load_config(overrides=overrides, environ={})
    RunFolder.of(config.run).create(config)
    with Serial(config, redis_url) as serial:
        yield serial


@pytest.mark.parametrize("settings", [["method.alone_until=3"], ["method.alone_until=64", "run.player_steps=1536"]])
def test_all_players_learn_among_themselves_until_the_update_that_is_set_or_half_of_the_run(
    redis_url: str, tmp_path: Path, settings: list[str]
) -> None:
    """1,536 player steps are six updates of eight unrolls, each of eight steps of four players."""
    config = configuration(tmp_path, tmp_path.name, *settings, "environment.players=4")
    RunFolder.of(config.run).create(config)
    unrolls: list[Unroll] = []
    with Serial(config, redis_url, unrolls.extend) as serial:
        for _ in range(6):
            serial.update()
    fictitious = {False: 0, True: 0}
    for header in (unroll.header for unroll in unrolls):
        fictitious[header.theta_version >= 3] += not all(header.learning)
    assert fictitious[False] == 0 < fictitious[True]


def test_an_actor_that_joins_a_finished_run_leaves_without_playing(short: Serial) -> None:
    store, learner = Store(short.store.url, short.store.run), short.learner
    while not learner.learner.finished:
        short.update()
    short.actor.flush()
    learner.leave()
    before = store.ledger.balance()
    actor_module.run(store, "late")
    assert store.ledger.balance() == before and before.in_flight == 0


def test_an_actor_that_is_not_told_of_the_end_leaves_and_its_unrolls_are_lost(short: Serial) -> None:
    """The learner is alive but silent: it never polls."""
    store = Store(short.store.url, short.store.run)
    thread = threading.Thread(target=actor_module.run, args=(store, "unheard"), daemon=True)
    thread.start()
    until(lambda: store.ledger.balance().produced)
    store.put_progress({"state": "finished"})
    thread.join(60)
    assert not thread.is_alive()
    balance = store.ledger.balance()
    assert balance.holds and balance.in_flight == 0 and balance.lost == balance.produced
