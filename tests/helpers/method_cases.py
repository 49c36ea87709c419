"""Shared by the tests of several methods: methods by name, many draws, a minibatch."""

import math
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from common.config import Config
from common.settings import load_config
from common.spec import EnvironmentSpec
from methods import Method, make_method
from networks.network import Network
from networks.sequences import Sequences

DRAWS = 20_000
GAME = EnvironmentSpec("made_up", 3, 4, (7, 7, 3), 5)
P, T, S = 2, 5, 6


def made(name: str, *overrides: str) -> Any:
    return make_method(configuration(name, *overrides))


def configuration(name: str, *overrides: str) -> Config:
    sizes = ["network.dense=10", "network.core_size=8", "environment.substrate=matrix_coordination"]
    return load_config(overrides=[f"method.name={name}", *sizes, *overrides], environ={})


def drawn(chosen: Method, players: int, pool: dict[str, float] | None = None) -> NDArray[np.str_]:
    """Draws the drivers of many episodes: [DRAWS, players]."""
    rng = np.random.default_rng(0)
    return np.array([chosen.drivers(rng, players, pool or {}) for _ in range(DRAWS)])


def error(p: float) -> float:
    """Five standard errors of a frequency."""
    return 5 * math.sqrt(p * (1 - p) / DRAWS)


def sequences() -> Sequences:
    g = torch.Generator().manual_seed(2)
    rgb = torch.randint(0, 256, (P, T + 1, S, *GAME.rgb_shape), dtype=torch.uint8, generator=g)
    action, numbers = torch.randint(0, GAME.actions, (P, T, S), generator=g), torch.rand(P, T, S, generator=g)
    features, state = torch.randn(P, T + 1, S, GAME.features, generator=g), torch.randn(P, S, 8, generator=g)
    return Sequences(
        rgb,
        features,
        action,
        log_prob=numbers,
        reward=numbers,
        discount=numbers,
        valid=numbers > 0.1,
        mask=numbers > 0.3,
        state=state,
        version=torch.arange(P * S).reshape(P, S) % 3,
    )


def shaken(network: Network) -> Any:
    """Moves the weights away from where they start, so that options differ and policies have opinions."""
    torch.manual_seed(4)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.5 * torch.randn_like(parameter))
    return network
