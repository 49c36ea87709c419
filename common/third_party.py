"""Code that a run's configuration names and that does not come with BiDist: your own methods, networks and games.

Anyone who can write to Redis can write a configuration there. A role therefore imports only what its own operator has
allowed, on its command line or in its environment.
"""

from collections.abc import Collection

from common.config import Config
from common.errors import ConfigError


def foreign(config: Config) -> list[str]:
    """Returns the `module:Class` and `pettingzoo:module:function` that a configuration would import."""
    named = (config.method.name, config.network.name, config.environment.substrate)
    return [name for name in named if ":" in name]


def check_allowed(config: Config, allowed: Collection[str]) -> None:
    """Checks a configuration that comes from another party.

    Raises:
      ConfigError: if it names code that is not allowed here.
    """
    if missing := [name for name in foreign(config) if name not in allowed]:
        options = " ".join(f"--allow {name}" for name in missing)
        raise ConfigError(
            f"run {config.run.name} in Redis wants to run code that does not come with BiDist: {', '.join(missing)}; "
            f"if you trust it, add {options}"
        )
