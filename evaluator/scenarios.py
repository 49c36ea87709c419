"""The official scenarios: who plays in which game, and by which bots the other slots are filled.

All of it is Melting Pot's configuration, read without importing what runs it there. What is drawn anew for each episode
is drawn as Melting Pot draws it: for every background slot one of the bots of its role, with replacement.
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
      name: Melting Pot's name of it.
      substrate: the game.
      roles: one a player.
      is_focal: which players are of the population that is evaluated.
      bots: for each role the names of the bots that can fill it, sorted.
    """

    name: str
    substrate: str
    roles: tuple[str, ...]
    is_focal: tuple[bool, ...]
    bots: Mapping[str, tuple[str, ...]]

    @property
    def focal(self) -> list[int]:
        """The focal players, from 0."""
        return [i for i, focal in enumerate(self.is_focal) if focal]

    @property
    def background(self) -> list[int]:
        """The players that bots play, from 0."""
        return [i for i, focal in enumerate(self.is_focal) if not focal]


def scenario(name: str) -> Scenario:
    """The scenario of a name.

    Raises:
      ConfigError: if there is none; the message lists the near ones.
      SetupError: if Melting Pot is not installed.
    """
    configs = _scenario_configs()
    if name not in configs:
        near = difflib.get_close_matches(name, configs, n=4, cutoff=0.4)
        raise ConfigError(f"no scenario is called {name!r}; near it are {', '.join(near) or 'none'}")
    config = configs[name]
    bots = {role: tuple(sorted(set(names))) for role, names in config.bots_by_role.items()}
    return Scenario(name, config.substrate, tuple(config.roles), tuple(config.is_focal), bots)


def scenarios_of(substrate: str, count: int | None = OFFICIAL) -> list[Scenario]:
    """A game's first scenarios, by number; all of them if `count` is None.

    Raises:
      ConfigError: if it has none.
    """
    numbers = {
        int(name.rpartition("_")[2]): name for name, c in _scenario_configs().items() if c.substrate == substrate
    }
    if not numbers:
        raise ConfigError(f"{substrate!r} has no official scenarios: they are Melting Pot's")
    return [scenario(numbers[number]) for number in sorted(numbers)[:count]]


@dataclass(frozen=True)
class BotConfig:
    """What plays a background slot.

    Attributes:
      model: the folder of its SavedModel; None if it does nothing.
      puppeteer: makes the puppeteer that decides its goals; None if it has no goals.
    """

    model: Path | None
    puppeteer: Any


def bot_config(name: str) -> BotConfig:
    """The configuration of a bot by its name."""
    if name == NOOP:
        return BotConfig(None, None)
    light_meltingpot()
    from meltingpot.configs import bots

    config = bots.BOT_CONFIGS[name]
    return BotConfig(Path(config.model_path), config.puppeteer_builder)


def models_of(scenarios: list[Scenario]) -> set[Path]:
    """The folders of all networks that the bots of some scenarios have."""
    names = {name for s in scenarios for bots in s.bots.values() for name in bots}
    return {config.model for name in names if (config := bot_config(name)).model is not None}


def require_bots(scenarios: list[Scenario]) -> None:
    """Says which bots are not there.

    Raises:
      SetupError: if any that these scenarios need is not installed.
    """
    missing = {
        s.name: [f"{m.parent.name}/{m.name}" for m in models_of([s]) if not (m / "saved_model.pb").is_file()]
        for s in scenarios
    }
    lacking = [name for name, bots in missing.items() if bots]
    if lacking:
        bots = sorted({bot for bots in missing.values() for bot in bots})
        raise SetupError(
            f"{', '.join(lacking)}: bots that are not installed: {', '.join(bots)}; set BIDIST_MELTINGPOT_ASSETS to "
            "Melting Pot's archive of assets and run `make setup` (bidist doctor says more); training needs none"
        )


@cache
def _scenario_configs() -> Mapping[str, Any]:
    light_meltingpot()
    from meltingpot.configs import scenarios

    configs: Mapping[str, Any] = scenarios.SCENARIO_CONFIGS
    return configs
