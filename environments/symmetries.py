"""The symmetries of games: what can change places without changing the game (Hu et al. 2020, "other-play").

Seen through a symmetry, a policy plays as well as before but keeps to another convention: where it went for red, it now
goes for green. Add a game of your own to `symmetries`.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from common.config import EnvironmentConfig
from common.errors import ConfigError
from common.spec import EnvironmentSpec

COLOURS = 3
COLOURED = "pure_coordination_in_the_matrix__"
"""Substrates whose resources 1, 2, 3 are red, green, blue and differ in nothing else."""
MATRICES = ("matrix_coordination", "matrix_conventions")
"""Matrix games in which any action is as good as any other."""

Index = NDArray[np.int64]


@dataclass(frozen=True)
class Symmetry:
    """What a player sees and does in place of what is there: an index into each axis.

    Attributes:
      colours: [3], of what is purely red, green or blue in the image; see `turn_colours`.
      features: [F].
      actions: [A]; a player that takes action a takes `actions[a]` in the game.
    """

    colours: Index
    features: Index
    actions: Index


def symmetries(config: EnvironmentConfig, spec: EnvironmentSpec) -> list[Symmetry]:
    """Returns a game's symmetries, the identity first; each turns a convention into another one.

    Raises:
      ConfigError: if none are known.
    """
    if spec.name.startswith(COLOURED):
        return [_turn_colours(by, spec) for by in range(COLOURS)]
    if spec.name in MATRICES:
        return [_turn_actions(by, config.last_action_and_reward, spec) for by in range(spec.actions)]
    known = ", ".join(MATRICES)
    raise ConfigError(
        f"no symmetries of {spec.name} are known: environments/symmetries.py has those of {known} and {COLOURED}*"
    )


def turn_colours(rgb: NDArray[np.uint8], colours: Index) -> NDArray[np.uint8]:
    """Shows images through symmetries.

    Only what is purely red, green or blue changes, as resources are. Walls and players keep their colours, or a policy
    could tell from them which symmetry it sees the game through, and undo it.

    Args:
      rgb: [R, H, W, 3].
      colours: [R, 3], the `colours` of each image's symmetry.
    """
    turned = np.take_along_axis(rgb, colours[:, None, None], -1)
    return np.where((rgb > 0).sum(-1, keepdims=True) == 1, turned, rgb)


def _turn_colours(by: int, spec: EnvironmentSpec) -> Symmetry:
    """Rotates red, green and blue, in the image and in the inventory, which comes first among the features."""
    turned = np.roll(np.arange(COLOURS), by)
    features = np.concatenate([turned, np.arange(COLOURS, spec.features)])
    return Symmetry(turned, features, np.arange(spec.actions))


def _turn_actions(by: int, last: bool, spec: EnvironmentSpec) -> Symmetry:
    """Rotates actions, and features that show them: the last own, the others' mean and, past a flag, the last own."""
    turned, features = np.roll(np.arange(spec.actions), by), np.arange(spec.features)
    for begin in (0, spec.actions, 2 * spec.actions + 1)[: 3 if last else 2]:
        features[begin : begin + spec.actions] = begin + turned
    return Symmetry(np.arange(COLOURS), features, turned)
