"""Makes methods by their names."""

import difflib
from typing import get_args

from common import imports
from common.config import Config, MethodConfig
from common.errors import ConfigError
from common.settings import build
from methods.base import Direction, Method, Start

# Imported on demand: some load torch, which a process that only looks at a run does not need.
METHODS = {
    "bidist": "methods.bidist:BiDist",
    "mappo": "methods.mappo:MAPPO",
    "pp": "methods.pp:PopulationPlay",
    "rpm": "methods.rpm:RankedPolicyMemory",
    "randnet": "methods.randnet:RandNet",
    "opre": "methods.opre:OPRE",
    "bidist-forward-only": "methods.ablations:ForwardOnly",
    "bidist-no-distillation": "methods.ablations:NoDistillation",
    "bidist-no-fictitious": "methods.ablations:NoFictitious",
    "bidist-all-fictitious": "methods.ablations:AllFictitious",
    "bidist-symmetric": "methods.symmetric:SymmetricBiDist",
    "other-play": "methods.other_play:OtherPlay",
}


def make_method(config: Config) -> Method:
    """Makes the method that a configuration names.

    Raises:
      ConfigError: if there is no such method, or one of its settings is wrong.
    """
    kind = _load(config.method.name)
    if config.network.name and kind.network is not Method.network:
        raise ConfigError(f"network.name={config.network.name!r}: {config.method.name} has a network of its own")
    settings = build(kind.Settings, config.method.model_extra or {}, "method")
    return kind(config, settings)


def resolve(config: Config, source: str = "") -> Config:
    """Returns the configuration with all of its method's own settings filled in.

    Args:
      config: may lack settings of its method.
      source: where it comes from, as a prefix of error messages.

    Raises:
      ConfigError: if there is no such method, or one of its settings is wrong.
    """
    try:
        settings = make_method(config).settings.model_dump()
    except ConfigError as error:
        raise ConfigError(f"{source}{error}") from None
    return config.model_copy(update={"method": MethodConfig(name=config.method.name, **settings)})


def _load(name: str) -> type[Method]:
    path = METHODS.get(name, name)
    if ":" not in path:
        near = difflib.get_close_matches(name, METHODS, n=1)
        hint = f"did you mean {near[0]}? " if near else ""
        raise ConfigError(
            f"method.name={name!r}: {hint}the methods are {', '.join(METHODS)}, or module:Class for your own"
        )
    kind = imports.load(path, f"method.name={name!r}")
    if not (isinstance(kind, type) and issubclass(kind, Method)):
        raise ConfigError(f"method.name={name!r}: {kind!r} is not a subclass of methods.Method")
    if wrong := _contradiction(kind):
        raise ConfigError(f"method.name={name!r}: {kind.__name__}.{wrong}")
    return kind


def _contradiction(kind: type[Method]) -> str:
    """Describes a contradiction between a class's attributes; empty if there is none."""
    starts, directions = get_args(Start), get_args(Direction)
    if kind.phi not in (None, *starts):
        return f"phi={kind.phi!r}: expected None or one of {starts}"
    if not isinstance(kind.directions, tuple) or not {*kind.directions} <= {*directions}:
        return f"directions={kind.directions!r}: expected a tuple of {directions}"
    if kind.directions and kind.phi is None:
        return f"directions={kind.directions!r} move phi, but phi=None says there is none: set phi to one of {starts}"
    if kind.symmetric and kind.phi is None:
        return (
            f"symmetric=True is for players driven by phi, but phi=None says there is none: set it to one of {starts}"
        )
    if kind.score is not Method.score and not kind.pooled:
        return "score adds policies to a pool that pooled = False says does not exist: set pooled = True"
    return ""
