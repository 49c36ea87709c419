"""Finds the class of the network: the project's, or the user's own by its name."""

from common import imports
from common.config import NetworkConfig
from common.errors import ConfigError
from networks.network import Network


def network_class(config: NetworkConfig) -> type[Network]:
    """Returns the class that `network.name` names.

    Raises:
      ConfigError: if there is no such class, or it is not a `Network`.
    """
    if not config.name:
        return Network
    kind = imports.load(config.name, f"network.name={config.name!r}")
    if not (isinstance(kind, type) and issubclass(kind, Network)):
        raise ConfigError(f"network.name={config.name!r}: {kind!r} is not a subclass of networks.network.Network")
    return kind
