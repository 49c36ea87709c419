"""Symmetries of games, and players who see a game through one."""

from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from serial_runs import configuration

import environments
from actors.perspectives import Perspectives
from common.config import EnvironmentConfig, NetworkConfig
from common.errors import ConfigError
from common.run_folder import RunFolder
from common.unroll import Unroll
from common.weights import THETA, Weights
from deploy.serial import Serial
from environments.other_play import OtherPlay
from environments.substrates import lab2d_settings, substrate_config
from environments.symmetries import COLOURED, Symmetry, symmetries, turn_colours
from networks.network import Network
from networks.players import Players

STEPS = 12


def config(substrate: str, last: bool = True) -> EnvironmentConfig:
    return EnvironmentConfig(substrate=substrate, players=2, episode_length=STEPS, last_action_and_reward=last)


def rewards_and_actions(game: EnvironmentConfig, drawn: int) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
    """An episode of players with opinions who all see the game through the same symmetry: [T, N] each."""
    environment = environments.build(game, seed=1)
    spec = environment.spec
    torch.manual_seed(0)
    network = Network(spec, NetworkConfig(dense=16, core_size=16), 1)
    with torch.no_grad():
        network.policy.weight.mul_(100)
    players = Players(network, spec.players, seed=4)
    players.load(THETA, Weights(0, {name: p.detach().clone() for name, p in network.named_parameters()}))
    players.assign(np.zeros(spec.players, np.int64))
    known = symmetries(game, spec)
    perspectives = Perspectives([known[0], known[drawn]], (1, spec.players), np.random.default_rng(0))
    while not perspectives._drawn.any():
        perspectives.begin(0, np.ones(spec.players, bool))
    observation, rewards, actions = environment.reset(), [], []
    for _ in range(STEPS):
        action, _ = perspectives.act(players, observation.rgb, observation.features)
        step = environment.step(action)
        observation = step.observation
        rewards.append(step.reward)
        actions.append(action)
    environment.close()
    return np.array(rewards), np.array(actions)


@pytest.mark.parametrize("last", [True, False])
@pytest.mark.parametrize("name", ["matrix_coordination", "matrix_conventions"])
def test_everybody_who_sees_through_the_same_symmetry_earns_the_same_by_another_convention(
    name: str, last: bool
) -> None:
    game = config(name, last)
    count = environments.spec(game).actions
    rewards, actions = rewards_and_actions(game, 0)
    assert 0 < rewards.mean() < 1 and len(np.unique(actions)) > 2
    for drawn in range(1, count):
        turned, others = rewards_and_actions(game, drawn)
        np.testing.assert_array_equal(turned, rewards)
        assert (others == (actions - drawn) % count).all()


def test_only_those_who_are_named_see_through_a_symmetry_drawn_for_the_episode() -> None:
    game = config("matrix_coordination")
    known = symmetries(game, environments.spec(game))
    perspectives = Perspectives(known, (2, 4), np.random.default_rng(0))
    through = np.array([True, False, True, False])
    seen = []
    for _ in range(200):
        perspectives.begin(1, through)
        drawn = perspectives._drawn
        assert not drawn[0].any() and not drawn[1, ~through].any()
        assert drawn[1, 0] == drawn[1, 2], "strangers of an episode share a convention"
        seen.append(drawn[1, 0])
    assert np.bincount(seen, minlength=len(known)).min() > 200 / len(known) / 2


def test_the_resources_of_pure_coordination_are_red_green_and_blue() -> None:
    """The first symmetry rotates them along with the counts in the inventory, and changes nothing else."""
    name = f"{COLOURED}arena"
    settings = lab2d_settings(substrate_config(name), substrate_config(name).default_player_roles, False, 1)
    for i in range(3):
        head, lit = f"simulation.prefabs.resource_class{i + 1}.", set()
        for key, value in settings.items():
            if key.startswith(head) and ".palettes." in key and int(value) and key[-1] != "4":  # 1 to 3: red to blue
                lit.add(key[-1])
        assert lit == {str(i + 1)}
    spec = environments.spec(config(name))
    first, second, _ = symmetries(config(name), spec)
    assert first.colours.tolist() == [0, 1, 2] and first.features.tolist() == list(range(spec.features))
    assert second.colours.tolist() == second.features[:3].tolist() == [2, 0, 1]
    assert second.features[3:].tolist() == list(range(3, spec.features))
    assert second.actions.tolist() == list(range(spec.actions))


def test_nothing_in_an_image_tells_through_which_symmetry_it_is_seen() -> None:
    """Seen through a symmetry, the game has the colours that it always has, and red, green and blue changed places."""
    game = config(f"{COLOURED}arena")
    environment, rng = environments.build(game, 3), np.random.default_rng(0)
    _, second, third = symmetries(game, environment.spec)
    images = [environment.reset().rgb]
    for _ in range(150):
        action = rng.integers(environment.spec.actions, size=environment.spec.players).astype(np.int32)
        images.append(environment.step(action).observation.rgb)
    environment.close()
    plain = np.concatenate(images)
    palette = {tuple(colour) for colour in np.unique(plain.reshape(-1, 3), axis=0).tolist()}
    red, green, blue = (next(c for c in palette if np.argmax(c) == i and sum(c) == max(c) > 0) for i in range(3))
    assert len(palette) > 6, "walls and players are there"
    for symmetry, becomes in ((second, (green, blue, red)), (third, (blue, red, green))):
        turned = turn_colours(plain, np.repeat(symmetry.colours[None], len(plain), 0))
        assert {tuple(colour) for colour in np.unique(turned.reshape(-1, 3), axis=0).tolist()} == palette
        for before, after in zip((red, green, blue), becomes, strict=True):
            assert ((plain == before).all(-1) == (turned == after).all(-1)).all()
        others = (plain > 0).sum(-1) != 1
        assert (turned[others] == plain[others]).all()


def test_a_game_without_known_symmetries_is_refused() -> None:
    game = config("matrix_chicken")
    with pytest.raises(ConfigError, match="no symmetries of matrix_chicken are known"):
        symmetries(game, environments.spec(game))


def test_a_run_records_the_game_as_it_is_and_strangers_who_share_a_symmetry(redis_url: str, tmp_path: Path) -> None:
    """Their log-probabilities are phi's for what they saw and did through one symmetry for each episode."""
    overrides = ["method.name=bidist-symmetric", "environment.players=4", "distiller.every=2"]
    run = configuration(tmp_path, "symmetric", *overrides)
    RunFolder.of(run.run).create(run)
    unrolls: list[Unroll] = []
    published: dict[str, Weights] = {}
    with Serial(run, redis_url, unrolls.extend) as serial:
        for _ in range(12):
            published |= {name: weights for name in serial.store.phis() if (weights := serial.store.weights(name))}
            serial.update()
    spec = environments.spec(run.environment)
    known, network = symmetries(run.environment, spec), Network(spec, run.network, 1)
    found = []
    for unroll in unrolls[-40:]:
        strangers = [i for i, name in enumerate(unroll.header.drivers) if name != "theta"]
        if not strangers:
            continue
        distances = np.zeros(len(known))
        for i in strangers:
            name = unroll.header.drivers[i].rpartition(":")[0]
            network.load_state_dict(dict(published[name].parameters))
            for k, symmetry in enumerate(known):
                distances[k] += _distance(network, symmetry, unroll, i)
        assert distances.min() < 1e-4 * len(strangers)
        assert np.sort(distances)[1] > 1e-3, "only one symmetry explains what they did"
        found.append(int(distances.argmin()))
    assert len(set(found)) > 2


def _distance(network: Network, symmetry: Symmetry, unroll: Unroll, player: int) -> float:
    """How far a player's log-probabilities are from those of a network that sees the game through a symmetry."""
    features = torch.tensor(unroll.features[None, :, None, player][..., symmetry.features])
    rgb = torch.tensor(unroll.rgb[None, :, None, player])
    state = torch.tensor(unroll.state[None, None, player])
    with torch.no_grad():
        log_probs, _ = network.act(rgb, features, state, torch.zeros(1, 1, dtype=torch.long))
    of_game = np.argsort(symmetry.actions)[unroll.action[:, player]]
    expected = log_probs[0, :-1, 0].numpy()[np.arange(unroll.env_steps), of_game]
    return float(np.abs(expected - unroll.log_prob[:, player]).max())


def test_in_other_play_each_of_two_groups_sees_and_acts_through_its_symmetry() -> None:
    plain = EnvironmentConfig(substrate="matrix_coordination", players=6, episode_length=STEPS)
    bare, known = environments.build(plain, 1), symmetries(plain, environments.spec(plain))
    game = OtherPlay(environments.build(plain, 1), known, 0.3, seed=3)
    rng, drawn, smaller = np.random.default_rng(0), [], []
    for _ in range(150):
        game.reset(), bare.reset()
        groups = np.bincount(game._drawn, minlength=len(known))
        assert np.count_nonzero(groups) <= 2
        drawn.append(game._drawn[0])
        smaller.append(groups[groups > 0].min() if np.count_nonzero(groups) == 2 else np.nan)
        for _ in range(3):
            action = rng.integers(game.spec.actions, size=6).astype(np.int32)
            taken = [known[k].actions[a] for k, a in zip(game._drawn, action, strict=True)]
            after, truth = game.step(action), bare.step(np.array(taken, np.int32))
            np.testing.assert_array_equal(after.reward, truth.reward)
            for i, k in enumerate(game._drawn):
                seen, expected = after.observation.features[i], truth.observation.features[i]
                np.testing.assert_array_equal(seen, expected[known[k].features])
    assert np.bincount(drawn, minlength=len(known)).min() > 150 / len(known) / 2.5, "any player, any symmetry"
    assert 1.3 < np.nanmean(smaller) < 2.2, "a share of 0.3 of six players"


def test_other_play_is_for_training_alone_and_for_games_with_symmetries() -> None:
    game = EnvironmentConfig(substrate="matrix_coordination", players=4)
    trained, evaluated = environments.guarded(game, 1, 0.5), environments.build(game, 1)
    assert isinstance(trained._game, OtherPlay) and not isinstance(evaluated, OtherPlay)  # type: ignore[attr-defined]
    assert not isinstance(environments.guarded(game, 1)._game, OtherPlay)  # type: ignore[attr-defined]
    with pytest.raises(ConfigError, match="no symmetries of matrix_chicken are known"):
        environments.guarded(EnvironmentConfig(substrate="matrix_chicken"), 1, 0.5)


@pytest.mark.parametrize(("method", "agree"), [("mappo", True), ("other-play", False)])
def test_a_run_of_other_play_trains_players_who_see_different_games(
    redis_url: str, tmp_path: Path, method: str, agree: bool
) -> None:
    """What the others did, by a player's own observation, is what they chose only if all see the same game."""
    run = configuration(tmp_path, method, f"method.name={method}", "environment.players=4")
    RunFolder.of(run.run).create(run)
    unrolls: list[Unroll] = []
    with Serial(run, redis_url, unrolls.extend) as serial:
        for _ in range(3):
            serial.update()
        assert serial.store.ledger.balance().holds
    actions = environments.spec(run.environment).actions
    matches = []
    for unroll in unrolls:
        assert all(unroll.header.learning)
        chosen = np.eye(actions)[unroll.action]
        others = (chosen.sum(1, keepdims=True) - chosen) / 3
        seen = unroll.features[1:, :, actions : 2 * actions]
        matches += np.isclose(seen, others[: len(seen)]).all((1, 2)).tolist()[:-1]
    assert np.mean(matches) == 1 if agree else 0.1 < np.mean(matches) < 0.6
