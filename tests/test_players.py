"""How players draw their actions, and by whose policy they act."""

import math

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from common.config import NetworkConfig
from common.spec import EnvironmentSpec
from common.weights import PHI, THETA, Weights
from networks.network import Network
from networks.players import Players, draw

DRAWS = 40_000
GAME = EnvironmentSpec("blind", 2, 4, (0, 0, 3), 6)
CONFIG = NetworkConfig(dense=10, core_size=8)


def error(p: float) -> float:
    """Five standard errors of a frequency."""
    return 5 * math.sqrt(p * (1 - p) / DRAWS)


@pytest.mark.parametrize("probabilities", [[0.5, 0.3, 0.15, 0.05], [0.97, 0.01, 0.02], [0.25] * 4])
def test_actions_are_drawn_with_their_probabilities(probabilities: list[float]) -> None:
    logits = torch.tensor(probabilities).log().expand(DRAWS, -1)
    times = torch.empty(DRAWS, len(probabilities)).exponential_(generator=torch.Generator().manual_seed(0))
    counts = np.bincount(draw(logits, times), minlength=len(probabilities))
    for count, p in zip(counts, probabilities, strict=True):
        assert count / DRAWS == pytest.approx(p, abs=error(p))


def made(policies: int, seed: int) -> Weights:
    """Policies with opinions."""
    torch.manual_seed(seed)
    network = Network(GAME, CONFIG, policies)
    with torch.no_grad():
        network.policy.weight.mul_(500)
    return Weights(seed, {name: p.detach() for name, p in network.named_parameters()})


def test_each_row_acts_with_the_frequencies_of_its_own_policy() -> None:
    """Four rows of theta's and phi's policies, seen through what `act` returns, including its log-probabilities."""
    pairs = [(THETA, 0), (THETA, 1), (PHI, 1), (PHI, 0)]
    weights = {THETA: made(2, 1), PHI: made(2, 2)}
    players = Players(Network(GAME, CONFIG, 1), DRAWS, seed=3)
    for name, version in weights.items():
        players.load(name, version)
    rows = [pairs[i % len(pairs)] for i in range(DRAWS)]
    players.assign(np.array([index for _, index in rows]), [name for name, _ in rows])
    features = np.tile(np.linspace(-2, 2, GAME.features, dtype=np.float32), (DRAWS, 1))
    action, log_prob = players.act(np.zeros((DRAWS, 0, 0, 3), np.uint8), features)
    single, seen = Network(GAME, CONFIG, 1), []
    for i, (name, index) in enumerate(pairs):
        single.load_state_dict({n: x[index : index + 1] for n, x in weights[name].parameters.items()})
        rgb, own = torch.zeros(1, 1, 1, 0, 0, 3, dtype=torch.uint8), torch.tensor(features[None, None, :1])
        log_probs, _ = single.act(rgb, own, torch.zeros(1, 1, 8), torch.zeros(1, 1, dtype=torch.long))
        probabilities = log_probs[0, 0, 0].detach().exp().numpy()
        mine = slice(i, None, len(pairs))
        frequencies = np.bincount(action[mine], minlength=GAME.actions) / len(action[mine])
        np.testing.assert_allclose(frequencies, probabilities, atol=2 * error(0.5))
        np.testing.assert_allclose(np.exp(log_prob[mine]), probabilities[action[mine]], rtol=1e-4)
        seen.append(probabilities)
    assert min(np.abs(x - y).max() for i, x in enumerate(seen) for y in seen[:i]) > 0.1


def lucky(keeps: bool) -> tuple[Players, NDArray[np.int32]]:
    """DRAWS players of one policy who begin an episode, and what they take in two steps with the same observations."""
    players = Players(Network(GAME, CONFIG, 1), DRAWS, seed=3)
    players.load(THETA, made(1, 1))
    players.assign(np.zeros(DRAWS, np.int64))
    players.begin(slice(None), np.full(DRAWS, keeps))
    return players, two_steps(players)


def two_steps(players: Players) -> NDArray[np.int32]:
    """The actions of two steps with the same observations and memory, [2, R]."""
    taken = []
    for _ in range(2):
        players.state[:] = 0
        features = np.zeros((DRAWS, GAME.features), np.float32)
        taken.append(players.act(np.zeros((DRAWS, 0, 0, 3), np.uint8), features)[0])
    return np.array(taken)


def test_a_player_that_keeps_its_luck_meets_the_same_observations_with_the_same_action() -> None:
    players, kept = lucky(True)
    assert (kept[0] == kept[1]).all()
    _, fresh = lucky(False)
    frequencies = [np.bincount(taken, minlength=GAME.actions) / DRAWS for taken in (kept[0], fresh[0], fresh[1])]
    np.testing.assert_allclose(frequencies[0], frequencies[1], atol=2 * error(0.5))
    assert (fresh[0] == fresh[1]).mean() == pytest.approx(np.square(frequencies[1]).sum(), abs=2 * error(0.5))
    # Until its next episode begins, and only for those whose does.
    half = DRAWS // 2
    players.begin(slice(half), np.full(half, True))
    again = two_steps(players)
    assert (again[:, half:] == kept[0, half:]).all()
    assert (again[0, :half] == again[1, :half]).all()
    assert (again[0, :half] == kept[0, :half]).mean() == pytest.approx(np.square(frequencies[1]).sum(), abs=0.03)


def test_beginning_an_episode_resets_the_memory_of_its_players_alone() -> None:
    players, _ = lucky(False)
    players.state[:] = 1
    players.begin(slice(1, 3), np.array([False, True]))
    assert not players.state[1:3].any() and players.state[0].all() and players.state[3:].all()
