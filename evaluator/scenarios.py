"""The official scenarios: the game, the focal players, and the bots that can fill the other seats.

All of it is Melting Pot's configuration, read without importing the code that runs it there. As in Melting Pot, each
episode draws, for every background seat, one of the bots of its role, with replacement.
"""

import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from common.errors import ConfigError, SetupError
from environments.substrates import light_meltingpot

NOOP = "noop_bot"
OFFICIAL = 5


@dataclass(frozen=True)
class Scenario:
    """One scenario.

    Attributes:
      name: Melting Pot's name for it.
      substrate: the game.
      roles: one per player.
      is_focal: which players belong to the evaluated population.
      bots: for each role, the sorted names of the bots that can fill it.
    """

    name: str
    substrate: str
    roles: tuple[str, ...]
    is_focal: tuple[bool, ...]
    bots: Mapping[str, tuple[str, ...]]

    @property
    def focal(self) -> list[int]:
        """The seats of the focal players, from 0."""
        return [i for i, focal in enumerate(self.is_focal) if focal]

    @property
    def background(self) -> list[int]:
        """The seats that bots play, from 0."""
        return [i for i, focal in enumerate(self.is_focal) if not focal]


def scenario(name: str) -> Scenario:
    """Finds a scenario by name.

    Raises:
      ConfigError: if there is none; the message lists similar names.
      SetupError: if Melting Pot is not installed.
    """
    configs = _scenario_configs()
    if name not in configs:
        near = difflib.get_close_matches(name, configs, n=4, cutoff=0.4)
        raise ConfigError(f"no scenario is called {name!r}; similar names: {', '.join(near) or 'none'}")
    config = configs[name]
    bots = {role: tuple(sorted(set(names))) for role, names in config.bots_by_role.items()}
    return Scenario(name, config.substrate, tuple(config.roles), tuple(config.is_focal), bots)


def scenarios_of(substrate: str, count: int | None = OFFICIAL) -> list[Scenario]:
    """Returns the first scenarios of a game, by number; all if `count` is None.

    Raises:
      ConfigError: if it has none.
    """
    numbers = {
        int(name.rpartition("_")[2]): name for name, c in _scenario_configs().items() if c.substrate == substrate
    }
    if not numbers:
        raise ConfigError(f"{substrate!r} has no official scenarios; only Melting Pot's substrates do")
    return [scenario(numbers[number]) for number in sorted(numbers)[:count]]


@dataclass(frozen=True)
class BotConfig:
    """A bot for a background seat.

    Attributes:
      model: the folder of its SavedModel; None if it does nothing.
      puppeteer: creates the puppeteer that chooses its goals; None if it has no goals.
    """

    model: Path | None
    puppeteer: Any


def bot_config(name: str) -> BotConfig:
    """Finds a bot's configuration by name."""
    if name == NOOP:
        return BotConfig(None, None)
    light_meltingpot()
    from meltingpot.configs import bots

    config = bots.BOT_CONFIGS[name]
    return BotConfig(Path(config.model_path), config.puppeteer_builder)


def models_of(scenarios: list[Scenario]) -> set[Path]:
    """Returns the SavedModel folders of all bots of some scenarios."""
    names = {name for s in scenarios for bots in s.bots.values() for name in bots}
    return {config.model for name in names if (config := bot_config(name)).model is not None}


def require_bots(scenarios: list[Scenario]) -> None:
    """Checks that all bots of some scenarios are installed.

    Raises:
      SetupError: if not; the message names the missing ones.
    """
    missing = {
        s.name: [f"{m.parent.name}/{m.name}" for m in models_of([s]) if not (m / "saved_model.pb").is_file()]
        for s in scenarios
    }
    lacking = [name for name, bots in missing.items() if bots]
    if lacking:
        bots = sorted({bot for bots in missing.values() for bot in bots})
        raise SetupError(
            f"{', '.join(lacking)}: these bots are not installed: {', '.join(bots)}; set BIDIST_MELTINGPOT_ASSETS to "
            "Melting Pot's asset archive and run `make setup` in a checkout; elsewhere, see docs/install.md; training "
            "needs no bots"
        )


@cache
def _scenario_configs() -> Mapping[str, Any]:
    light_meltingpot()
    from meltingpot.configs import scenarios

    configs: Mapping[str, Any] = scenarios.SCENARIO_CONFIGS
    return configs
