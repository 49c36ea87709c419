"""Who plays each seat of an episode, as a method draws it: checked, for a method may be anybody's."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from common.errors import ConfigError
from common.weights import PHI, THETA
from methods import Method


def draw_drivers(method: Method, rng: np.random.Generator, players: int, pool: Mapping[str, float]) -> list[str]:
    """Who drives each player.

    Raises:
      ConfigError: if they are not as many as the players, or one of them is nobody whose weights can be had.
    """
    drivers = method.drivers(rng, players, pool)
    name = method.config.method.name
    if len(drivers) != players:
        raise ConfigError(f"method {name} names {len(drivers)} drivers for {players} players")
    for driver in drivers:
        if driver != THETA and driver not in pool and not (driver == PHI and method.phi):
            raise ConfigError(f"method {name} lets {driver!r} drive a player: nobody publishes that")
    return drivers


def draw_policy_indices(method: Method, rng: np.random.Generator, players: int) -> NDArray[np.int64]:
    """By which of its driver's policies each player plays: [players].

    Raises:
      ConfigError: if there is no such policy, or not a place for each player.
    """
    places, policies = np.asarray(method.policy_indices(rng, players)), method.policies(players)
    if places.shape != (players,) or not ((places >= 0) & (places < policies)).all():
        raise ConfigError(
            f"method {method.config.method.name} gives {players} players the places {places.tolist()}: "
            f"expected one of 0 to {policies - 1} for each"
        )
    return places
