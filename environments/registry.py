"""Builds games by name."""

from functools import partial

from common.config import EnvironmentConfig
from common.errors import ConfigError
from common.spec import EnvironmentSpec
from environments.guard import Guarded
from environments.interface import Environment
from environments.last_action_reward import WithLast
from environments.matrix_game import PAYOFFS, MatrixGame
from environments.melting_pot import MeltingPot
from environments.other_play import OtherPlay
from environments.pettingzoo import PettingZoo
from environments.symmetries import symmetries


def build(config: EnvironmentConfig, seed: int) -> Environment:
    """Builds a game with the observations that the configuration asks for.

    Raises:
      ConfigError: if there is no such game; the message lists similar names.
      SetupError: if a package that it needs is not installed.
    """
    game = _game(config, seed)
    return WithLast(game) if config.last_action_and_reward else game


def guarded(config: EnvironmentConfig, seed: int, other_play: float = 0.0) -> Environment:
    """Builds a game to train in, which is rebuilt whenever it breaks; see `Guarded`.

    Args:
      config: see `build`.
      seed: of the first game.
      other_play: a player's probability of belonging to the second of two groups that see the game differently, see
        `OtherPlay`; with 0, all players see it as it is.

    Raises: as `build`, and
      ConfigError: if `other_play` is positive and the game has no known symmetries.
    """
    return Guarded(partial(_to_train_in, config, other_play), seed)


def _to_train_in(config: EnvironmentConfig, other_play: float, seed: int) -> Environment:
    game = build(config, seed)
    return OtherPlay(game, symmetries(config, game.spec), other_play, seed) if other_play else game


def _game(config: EnvironmentConfig, seed: int) -> Environment:
    name = config.substrate
    if name in PAYOFFS:
        return MatrixGame(name, config.players or 2, config.episode_length)
    if name.startswith("matrix_"):
        raise ConfigError(f"no matrix game is called {name!r}; the matrix games are {', '.join(PAYOFFS)}")
    if name.startswith("pettingzoo:"):
        return PettingZoo(name.removeprefix("pettingzoo:"), config.block, seed)
    return MeltingPot(name, config.block, seed)


def spec(config: EnvironmentConfig) -> EnvironmentSpec:
    """Returns what a policy must know about a game, by building it once.

    Raises: as `build`.
    """
    environment = build(config, seed=1)
    environment.close()
    return environment.spec
