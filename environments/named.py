"""What a player observes, by name: the form in which Melting Pot's API, and policies trained elsewhere, see a game.

In Melting Pot's substrates the names, shapes and numbers are those that its scenarios show to focal players. In other
games they are `RGB`, if the game has an image, and `FEATURES`.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from environments.images import block_mean
from environments.interface import Environment, Observation
from environments.melting_pot import FEATURES as MELTING_POT_FEATURES
from environments.melting_pot import MeltingPot

RGB, FEATURES, COLLECTIVE_REWARD = "RGB", "FEATURES", "COLLECTIVE_REWARD"

Named = Mapping[str, NDArray[Any]]


def by_name(game: Environment, observation: Observation, row: int, player: int, total: float) -> Named:
    """Returns what one player observes now, by name.

    Args:
      game: without the last action and reward among its features.
      observation: the current one of the players that the game shows.
      row: the player's row in it.
      player: the player's number in the game, from 0.
      total: the sum of all players' last rewards, which Melting Pot shows to each of them.
    """
    image = {RGB: observation.rgb[row]} if observation.rgb[row].size else {}
    if not isinstance(game, MeltingPot):
        return {**image, FEATURES: observation.features[row]}
    own = {name: np.asarray(game.observation(player, name)) for name in game.features}
    return {**image, **own, COLLECTIVE_REWARD: np.asarray(total, np.float64)}


def from_names(seen: Sequence[Named], block: int) -> Observation:
    """Returns what a policy sees, from what N players observe by name; undoes `by_name`.

    Args:
      seen: one observation for each player; all with the same names.
      block: edge in pixels of the squares whose mean the policy sees; 1 leaves images as they are.
    """
    n, names = len(seen), [name for name in (*MELTING_POT_FEATURES, FEATURES) if name in seen[0]]
    rows = [[x for name in names for x in np.ravel(player[name])] for player in seen]
    rgb = block_mean([player[RGB] for player in seen], block) if RGB in seen[0] else np.zeros((n, 0, 0, 3), np.uint8)
    return Observation(rgb, np.array(rows, np.float32).reshape(n, -1), np.ones(n, bool))
