"""How players draw their actions, and by whose policy they act."""

import math

import numpy as np
import pytest
import torch

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
