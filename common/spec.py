"""The shape of a game, which all roles must agree on."""

from dataclasses import dataclass


@dataclass(frozen=True)
class EnvironmentSpec:
    """What a policy must know about a game.

    Attributes:
      name: the game's name.
      players: N.
      actions: A, the number of actions of each player.
      rgb_shape: (H, W, 3) of the image that a policy sees; (0, 0, 3) if the game has no images.
      features: F, the number of other observed values.
    """

    name: str
    players: int
    actions: int
    rgb_shape: tuple[int, int, int]
    features: int
