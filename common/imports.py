"""Imports what a setting or an option names: the user's own method, network, game or policy."""

import importlib
import os
import sys
from typing import Any

from common.errors import ConfigError


def load(path: str, source: str, expected: str = "module:Class") -> Any:
    """Returns the attribute of a module that `module:attribute` names.

    The working directory is searched last: a folder `common` in it does not hide ours, as it would on PYTHONPATH.

    Args:
      path: the name.
      source: the setting or option that gave it; error messages begin with it.
      expected: the form of a correct name.

    Raises:
      ConfigError: if there is no such module or attribute, or the module fails to import.
    """
    module, _, attribute = path.partition(":")
    if (here := os.getcwd()) not in sys.path:
        sys.path.append(here)
    try:
        return getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError, ValueError) as error:
        raise ConfigError(
            f"{source}: {error}; expected {expected}; is its folder on PYTHONPATH, or the one you are in?"
        ) from error
    except Exception as error:
        raise ConfigError(f"{source}: importing {module} failed: {error!r}") from error
