"""Draws who plays in each seat of an episode and checks the draw, because a method may be third-party."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from common.errors import ConfigError
from common.weights import PHI, THETA, is_phi_version
from methods import Method


def draw_drivers(method: Method, rng: np.random.Generator, players: int, pool: Mapping[str, float]) -> list[str]:
    """Draws who drives each player: theta, or a name from the pool.

    Raises:
      ConfigError: if there is not one driver per player, or nobody publishes a driver's weights.
    """
    versions = [name for name in pool if is_phi_version(name)]
    newest = max(versions, key=lambda name: pool[name], default=PHI)
    drivers = [newest if name == PHI else name for name in method.drivers(rng, players, pool)]
    name = method.config.method.name
    if len(drivers) != players:
        raise ConfigError(f"method {name} names {len(drivers)} drivers for {players} players")
    for driver in drivers:
        if driver != THETA and driver not in pool:
            raise ConfigError(f"method {name} lets {driver!r} drive a player, but nobody publishes it")
    return drivers


def draw_policy_indices(method: Method, rng: np.random.Generator, players: int) -> NDArray[np.int64]:
    """Draws which of its driver's policies plays in each seat: [players].

    Raises:
      ConfigError: if an index is out of range, or there is not one per player.
    """
    indices, policies = np.asarray(method.policy_indices(rng, players)), method.policies(players)
    if indices.shape != (players,) or not ((indices >= 0) & (indices < policies)).all():
        raise ConfigError(
            f"method {method.config.method.name} gives {players} players the policy indices {indices.tolist()}: "
            f"expected one of 0 to {policies - 1} for each"
        )
    return indices
