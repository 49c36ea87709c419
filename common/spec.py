"""What roles agree on about a game before any of them has seen it."""

from dataclasses import dataclass


@dataclass(frozen=True)
class EnvironmentSpec:
    """What a policy has to know of a game before it has seen it.

    Attributes:
      name: the game's.
      players: N.
      actions: A, the number of actions of each player.
      rgb_shape: (H, W, 3) of the image a policy sees; (0, 0, 3) if the game has none.
      features: F, the length of what is observed besides.
    """

    name: str
    players: int
    actions: int
    rgb_shape: tuple[int, int, int]
    features: int
