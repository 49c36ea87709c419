"""How players draw their actions, and by whose policy they act."""

import math

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from common.config import NetworkConfig
from common.spec import EnvironmentSpec
from common.weights import PHI, THETA, Weights
from networks.arrangement import batches
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


def observations(rows: int) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    return np.zeros((rows, 0, 0, 3), np.uint8), np.tile(np.linspace(-2, 2, GAME.features, dtype=np.float32), (rows, 1))


def test_players_must_be_assigned_before_they_act() -> None:
    network = Network(GAME, CONFIG, 1)
    players = Players(network, 2, seed=0)
    assert not any(p.requires_grad for p in network.parameters()) and not network.training
    with pytest.raises(ValueError, match="assign has to be called before act"):
        players.act(*observations(2))
    players.load(THETA, made(1, 1))
    with pytest.raises(ValueError, match="argument"):
        players.assign(np.array([0, 0]), [THETA])


def test_rows_that_nobody_plays_keep_a_state_of_zeros() -> None:
    players = Players(Network(GAME, CONFIG, 1), 3, seed=0)
    players.load(THETA, made(2, 1))
    players.assign(np.array([1, -1, 0]))
    players.act(*observations(3))
    assert players.state[[0, 2]].any(1).all() and not players.state[1].any()


def test_players_draw_as_their_seed_says() -> None:
    def draws(seed: int) -> list[list[int]]:
        players = Players(Network(GAME, CONFIG, 1), 50, seed)
        players.load(THETA, made(1, 1))
        players.assign(np.zeros(50, np.int64))
        return [players.act(*observations(50))[0].tolist() for _ in range(2)]

    assert draws(3) == draws(3) != draws(4)


def test_a_race_given_decides_alone() -> None:
    players = Players(Network(GAME, CONFIG, 1), 4, seed=0)
    players.load(THETA, made(1, 1))
    players.assign(np.zeros(4, np.int64))
    race = np.full((4, GAME.actions), 1e9)
    winners = [2, 0, 3, 1]
    race[range(4), winners] = 1e-9
    assert players.act(*observations(4), race)[0].tolist() == winners


def test_a_newer_version_acts_at_once_and_unused_ones_are_dropped() -> None:
    players = Players(Network(GAME, CONFIG, 1), 2, seed=0)
    assert players.version(THETA) == -1
    for name, seed in ((THETA, 1), (PHI, 2), ("pool:3", 3)):
        players.load(name, made(1, seed))
    assert [players.version(name) for name in (THETA, PHI, "pool:3")] == [1, 2, 3]
    players.assign(np.zeros(2, np.int64), [THETA, "pool:3"])
    race = np.ones((2, GAME.actions))
    players.state[:] = 0
    players.act(*observations(2), race)
    first = players.state.clone()
    players.load(THETA, made(1, 5))
    players.state[:] = 0
    players.act(*observations(2), race)
    assert players.version(THETA) == 5
    assert not torch.equal(players.state[0], first[0]) and torch.equal(players.state[1], first[1])
    players.keep([])
    assert [players.version(name) for name in (THETA, PHI, "pool:3")] == [5, -1, 3], "those in use stay"
    players.load(PHI, made(1, 2))
    players.keep([PHI])
    assert players.version(PHI) == 2


def test_players_remember_and_tell_the_network_the_version_of_theta() -> None:
    versions: list[list[list[int]]] = []

    class Watched(Network):
        """Notes the versions it is told."""

        def act(self, rgb: Tensor, features: Tensor, state: Tensor, version: Tensor) -> tuple[Tensor, Tensor]:
            versions.append(version.tolist())
            return super().act(rgb, features, state, version)

    players = Players(Watched(GAME, CONFIG, 1), 3, seed=0)
    weights = made(1, 7)
    players.load(THETA, weights)
    players.assign(np.zeros(3, np.int64))
    rgb, features = observations(3)
    players.act(rgb, features)
    players.act(rgb, 2 * features)
    assert versions == [[[7, 7, 7]]] * 2
    network = Network(GAME, CONFIG, 1)
    network.load_state_dict(dict(weights.parameters))
    see, sense = (
        torch.tensor(rgb)[None, None].expand(1, 2, -1, -1, -1, -1),
        torch.tensor(np.stack([features, 2 * features])),
    )
    _, state = network.act(see, sense[None], torch.zeros(1, 3, 8), torch.full((1, 3), 7))
    torch.testing.assert_close(players.state, state[0].detach())


def test_one_policy_that_drives_most_rows_does_not_pad_those_that_drive_few() -> None:
    rows = np.array([0] * 30 + [1, 2, 2, -1, 3] + [0] * 10)
    found = batches(rows, 4)
    assert [numbers for numbers, _ in found] == [[0], [2, 1, 3]]
    assert sum(arrangement.index.numel() for _, arrangement in found) == 40 + 3 * 2
    for numbers, arrangement in found:
        for own, number in zip(range(len(numbers)), numbers, strict=True):
            assert arrangement.index[own][arrangement.valid[own]].tolist() == np.flatnonzero(rows == number).tolist()


def test_several_batches_act_and_remember_as_each_policy_does_alone() -> None:
    """Theta drives nine rows and phi two of them, so that they are computed apart."""
    drivers = [THETA] * 4 + [PHI] + [THETA] * 5 + [PHI]
    weights = {THETA: made(1, 1), PHI: made(1, 2)}
    rgb, features = observations(11)
    features = features * np.arange(1, 12, dtype=np.float32)[:, None]
    race = np.random.default_rng(0).exponential(size=(11, GAME.actions))

    def played(names: list[str]) -> NDArray[np.float64]:
        players = Players(Network(GAME, CONFIG, 1), 11, seed=0)
        for name, loaded in weights.items():
            players.load(name, loaded)
        players.assign(np.zeros(11, np.int64), names)
        players.act(rgb, features, race)
        return np.column_stack([*players.act(rgb, features, race), players.state.numpy()])

    mixed, alone = played(drivers), {name: played([name] * 11) for name in weights}
    for row, name in enumerate(drivers):
        np.testing.assert_allclose(mixed[row], alone[name][row], rtol=1e-5, atol=1e-6)
    assert mixed[:, 2:].any(1).all() and not np.allclose(alone[THETA], alone[PHI])


def test_labels_say_which_direction_made_a_version_of_phi() -> None:
    players = Players(Network(GAME, CONFIG, 1), 1, seed=0)
    players.load(THETA, made(1, 1))
    players.load("12", Weights(12, made(1, 2).parameters, 12, "reverse"))
    assert [players.label(name) for name in (THETA, "12")] == [THETA, "12:reverse"]
