"""Symmetries of games, and players who see a game through one."""

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

import environments
from actors.sight import Sight
from common.config import EnvironmentConfig, NetworkConfig
from common.errors import ConfigError
from common.weights import THETA, Weights
from environments.substrates import lab2d_settings, substrate_config
from environments.symmetries import COLOURED, symmetries
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
    sight = Sight([symmetries(game, spec)[drawn]], (1, spec.players), np.random.default_rng(0))
    sight.begin(0, np.ones(spec.players, bool))
    observation, rewards, actions = environment.reset(), [], []
    for _ in range(STEPS):
        action, _ = sight.act(players, observation.rgb, observation.features)
        step = environment.step(action)
        observation = step.observation
        rewards.append(step.reward)
        actions.append(action)
    environment.close()
    return np.array(rewards), np.array(actions)


@pytest.mark.parametrize("last", [True, False])
def test_everybody_who_sees_through_the_same_symmetry_earns_the_same_by_another_convention(last: bool) -> None:
    game = config("matrix_coordination", last)
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
    sight = Sight(known, (2, 4), np.random.default_rng(0))
    through = np.array([True, False, True, False])
    seen = []
    for _ in range(200):
        sight.begin(1, through)
        drawn = sight._drawn
        assert not drawn[0].any() and not drawn[1, ~through].any()
        assert drawn[1, 0] == drawn[1, 2], "strangers of an episode share a convention"
        seen.append(drawn[1, 0])
    assert np.bincount(seen, minlength=len(known)).min() > 200 / len(known) / 2


def test_the_resources_of_pure_coordination_are_red_green_and_blue() -> None:
    """The first symmetry turns them round with what the inventory counts, and nothing else."""
    name = f"{COLOURED}arena"
    settings = lab2d_settings(substrate_config(name), substrate_config(name).default_player_roles, False, 1)
    prefabs = settings["simulation"]["prefabs"]
    for i in range(3):
        components = prefabs[f"resource_class{i + 1}"]["components"]
        (appearance,) = [part["kwargs"] for part in components if part["component"] == "Appearance"]
        for palette in appearance["palettes"]:
            for red_green_blue in (colour[:3] for colour in palette.values() if any(colour[:3])):
                assert np.argmax(red_green_blue) == i and np.count_nonzero(red_green_blue) == 1
    spec = environments.spec(config(name))
    first, second, _ = symmetries(config(name), spec)
    assert first.colours.tolist() == [0, 1, 2] and first.features.tolist() == list(range(spec.features))
    assert second.colours.tolist() == second.features[:3].tolist() == [2, 0, 1]
    assert second.features[3:].tolist() == list(range(3, spec.features))
    assert second.actions.tolist() == list(range(spec.actions))


def test_a_game_without_known_symmetries_is_refused() -> None:
    game = config("matrix_chicken")
    with pytest.raises(ConfigError, match="no symmetries of matrix_chicken are known"):
        symmetries(game, environments.spec(game))
