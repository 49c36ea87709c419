"""Melting Pot's substrates by name: their configurations, and the settings that dmlab2d builds them from.

Importing Melting Pot itself brings TensorFlow and JAX along; the functions here import only its sub-packages.
"""

import difflib
import importlib.util
import logging
import random
import sys
import types
from collections.abc import Sequence
from functools import cache
from typing import Any

from common.errors import ConfigError, SetupError

# Besides the matrix games, the substrates where restarting the game is the same as building it again, as tests show.
# Not everywhere: commons_harvest__open draws random numbers of its own, and coop_mining fails to restart in about half
# of its builds, depending on the order in which Lua resets the components of an ore.
_RESTARTING = ("clean_up", "coins", "territory__")


@cache
def light_meltingpot() -> None:
    """Makes Melting Pot's sub-packages importable without running the package's own `__init__`.

    `__init__` imports the code for bots, and with it TensorFlow. An empty module of the same name and path is enough
    to find the sub-packages; if the real package is already imported, it stays.

    Raises:
      SetupError: if Melting Pot is not installed.
    """
    if "meltingpot" not in sys.modules:
        spec = importlib.util.find_spec("meltingpot")
        if spec is None or spec.submodule_search_locations is None:
            raise SetupError(
                "dm-meltingpot is not installed: run `make setup` in a checkout, "
                "`pip install --no-deps dm-meltingpot==2.4.1` elsewhere (docs/install.md)"
            )
        module = types.ModuleType("meltingpot")
        module.__path__ = list(spec.submodule_search_locations)
        module.__spec__ = spec
        sys.modules["meltingpot"] = module
    logging.getLogger("absl").setLevel(logging.WARNING)


def substrates() -> list[str]:
    """Returns the names of all substrates in the installed Melting Pot."""
    return sorted(_package().SUBSTRATES)


def substrate_config(name: str) -> Any:
    """Returns Melting Pot's configuration of a substrate.

    Raises:
      ConfigError: if there is no such substrate.
      SetupError: if Melting Pot is not installed.
    """
    known = substrates()
    if name not in known:
        near = difflib.get_close_matches(name, known, n=4, cutoff=0.4) or known
        raise ConfigError(f"no substrate is called {name!r}; similar names: {', '.join(near)}")
    return _package().get_config(name)


def default_roles(name: str) -> tuple[str, ...]:
    """Returns the roles of a substrate's players.

    Raises: as `substrate_config`.
    """
    return tuple(substrate_config(name).default_player_roles)


def restarts(name: str) -> bool:
    """Returns whether restarting a substrate's game gives the same episode as building it again."""
    return name.startswith(_RESTARTING) or "_in_the_matrix__" in name


def lab2d_settings(config: Any, roles: Sequence[str], located: bool, seed: int) -> dict[str, Any]:
    """Prepares a substrate's settings for dmlab2d as Melting Pot's builder does.

    Args:
      config: see `substrate_config`.
      roles: one for each player.
      located: whether players get a component that reports their position.
      seed: seeds what a substrate draws while its settings are made, with Python's own generator: coins draws its map.
    """
    light_meltingpot()
    from meltingpot.utils.substrates import builder
    from ml_collections import config_dict

    before = random.getstate()
    random.seed(seed)
    try:
        made = config.lab2d_settings_builder(config=config, roles=roles)
    finally:
        random.setstate(before)
    settings = config_dict.ConfigDict(made).unlock()
    builder.apply_prefab_overrides(settings)
    builder.maybe_build_and_add_avatar_objects(settings)
    if located:
        for thing in settings.simulation.gameObjects:
            kinds = {component["component"] for component in thing["components"]}
            if "Avatar" in kinds and "LocationObserver" not in kinds:
                thing["components"].append({"component": "LocationObserver", "kwargs": {"objectIsAvatar": True}})
    builder.locate_and_overwrite_level_directory(settings)
    return builder.parse_python_settings_for_dmlab2d(settings)  # type: ignore[no-any-return]


def _package() -> types.ModuleType:
    light_meltingpot()
    from meltingpot.configs import substrates

    return substrates  # type: ignore[no-any-return]
