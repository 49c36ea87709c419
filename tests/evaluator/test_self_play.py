"""Self-play of checkpoints and of random players, on matrix games with known outcomes."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

import environments
from common import checkpoint
from common.config import ActorConfig, Config, EnvironmentConfig, NetworkConfig, RunConfig
from common.errors import CheckpointError
from common.run_folder import RunFolder
from evaluator.self_play import play, read_checkpoint
from networks.network import Network

LENGTH = 5


def configuration(game: str, players: int, parameters: str = "shared") -> Config:
    return Config(
        run=RunConfig(name="r"),
        environment=EnvironmentConfig(substrate=game, players=players, episode_length=LENGTH),
        network=NetworkConfig(parameters=parameters, dense=8, core_size=8),
        actor=ActorConfig(unroll_length=32),
    )


def parameters(config: Config, actions: list[int] | None = None, seed: int = 0) -> dict[str, Tensor]:
    """Random parameters; `actions` gives each policy an action that it always takes."""
    torch.manual_seed(seed)
    spec = environments.spec(config.environment)
    policies = spec.players if config.network.parameters == "per_player" else 1
    theta = {name: p.detach() for name, p in Network(spec, config.network, policies).named_parameters()}
    for policy, action in enumerate(actions or []):
        theta["policy.weight"][policy] = 0
        theta["policy.bias"][policy, action] = 100
    return theta


@pytest.mark.parametrize("copies", [1, 3, 4, 20])
def test_every_seat_is_played_by_its_own_policy(copies: int) -> None:
    config = configuration("matrix_prisoners_dilemma", 3, "per_player")
    theta = parameters(config, actions=[0, 1, 1])
    episodes = list(play(config, theta, episodes=7, seed=1, copies=copies))
    # The cooperator meets two defectors; they meet it and each other.
    assert sorted(e.episode for e in episodes) == list(range(7))
    assert all(e.env_steps == LENGTH and e.returns == [0, 3 * LENGTH, 3 * LENGTH] for e in episodes)
    assert episodes[0].mean_return == 2 * LENGTH


def test_one_shared_policy_plays_all_seats() -> None:
    config = configuration("matrix_prisoners_dilemma", 4)
    (episode,) = play(config, parameters(config, actions=[0]), episodes=1, seed=1)
    assert episode.returns == [3 * LENGTH] * 4


def test_random_players_earn_the_mean_of_the_payoffs() -> None:
    config = configuration("matrix_coordination", 2)
    returns = [e.mean_return for e in play(config, None, episodes=400, seed=3)]
    # A step pays 1 with probability 1/3: the mean's standard error is 0.053.
    assert np.mean(returns) == pytest.approx(LENGTH / 3, abs=0.2)
    assert np.var(returns) == pytest.approx(LENGTH * 2 / 9, rel=0.4)


@pytest.mark.parametrize("trained", [False, True])
def test_the_seed_determines_the_episodes(trained: bool) -> None:
    config = configuration("matrix_chicken", 3)
    theta = parameters(config) if trained else None
    first, again, other = (list(play(config, theta, episodes=6, seed=seed)) for seed in (5, 5, 6))
    assert first == again
    assert [e.returns for e in first] != [e.returns for e in other]


@pytest.mark.parametrize("copies", [1, 2])
def test_every_episode_begins_without_memory(copies: int) -> None:
    config = configuration("matrix_prisoners_dilemma", 2)
    theta = {name: torch.zeros_like(x) for name, x in parameters(config).items()}
    # The hidden state is 0, 1/2, 3/4, 7/8, ... over the steps of an episode; from 7/8 on, the players defect.
    theta["core.input_bias"][0, 16:] = 10
    theta["policy.weight"][0, 1, 0] = 1000
    theta["policy.bias"][0, 0] = 810
    episodes = list(play(config, theta, episodes=6, seed=1, copies=copies))
    assert [e.returns for e in episodes] == [[3 + 3 + 1 + 1 + 1] * 2] * 6


def test_no_episodes_are_played_if_none_are_requested() -> None:
    assert list(play(configuration("matrix_chicken", 2), None, episodes=0, seed=1)) == []


def test_checkpoints_are_read_by_name_or_the_newest(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    with pytest.raises(CheckpointError, match="no complete checkpoint"):
        read_checkpoint(folder)
    for number in (3, 12):
        theta = {"x": torch.full((1,), float(number))}
        checkpoint.save(folder.checkpoints, number, {"theta": theta}, {"player_steps": number}, keep=5)
    assert read_checkpoint(folder).state["player_steps"] == 12
    assert read_checkpoint(folder, "00000003").tensors["theta"]["x"] == 3
    with pytest.raises(CheckpointError):
        read_checkpoint(folder, "00000004")
