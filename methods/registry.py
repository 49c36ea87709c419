"""From a name to a method."""

import difflib
import importlib
from typing import get_args

from common.config import Config, MethodConfig
from common.errors import ConfigError
from common.settings import build
from methods.base import Direction, Method, Start

# Imported when needed: some load torch, which who only looks at a run need not do.
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
}


def make_method(config: Config) -> Method:
    """The method that a configuration names.

    Raises:
      ConfigError: if there is none of that name, or a setting of it is wrong.
    """
    kind = _load(config.method.name)
    settings = build(kind.Settings, config.method.model_extra or {}, "method")
    return kind(config, settings)


def resolve(config: Config, source: str = "") -> Config:
    """The configuration with all of its method's own settings in it.

    Args:
      config: of which the method's settings may be missing.
      source: where it comes from, for the message of an error.

    Raises:
      ConfigError: if there is no such method, or a setting of it is wrong.
    """
    try:
        settings = make_method(config).settings.model_dump()
    except ConfigError as error:
        raise ConfigError(f"{source}{error}") from None
    return config.model_copy(update={"method": MethodConfig(name=config.method.name, **settings)})


def _load(name: str) -> type[Method]:
    place = METHODS.get(name, name)
    if ":" not in place:
        near = difflib.get_close_matches(name, METHODS, n=1)
        hint = f"did you mean {near[0]}? " if near else ""
        raise ConfigError(
            f"method.name={name!r}: {hint}the methods are {', '.join(METHODS)}, and module:Class for one of your own"
        )
    module, _, attribute = place.partition(":")
    try:
        kind = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise ConfigError(f"method.name={name!r}: {error}; is its folder on PYTHONPATH?") from error
    except Exception as error:
        raise ConfigError(f"method.name={name!r}: {module} broke as it was imported: {error!r}") from error
    if not (isinstance(kind, type) and issubclass(kind, Method)):
        raise ConfigError(f"method.name={name!r}: {kind!r} is no subclass of methods.Method")
    if wrong := _contradiction(kind):
        raise ConfigError(f"method.name={name!r}: {kind.__name__}.{wrong}")
    return kind


def _contradiction(kind: type[Method]) -> str:
    """What a method's class says that cannot be; nothing if all is well."""
    starts, directions = get_args(Start), get_args(Direction)
    if kind.phi not in (None, *starts):
        return f"phi={kind.phi!r}: expected None or one of {starts}"
    if not isinstance(kind.directions, tuple) or not {*kind.directions} <= {*directions}:
        return f"directions={kind.directions!r}: expected a tuple of {directions}"
    if kind.directions and kind.phi is None:
        return f"directions={kind.directions!r} move phi, and phi=None says there is none: set phi to one of {starts}"
    if kind.score is not Method.score and not kind.pooled:
        return "score adds policies to a pool that pooled = False says does not exist: set pooled = True"
    return ""
