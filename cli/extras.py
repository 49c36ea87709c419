"""Packages that not every installation has, and the optional extras that bring them."""

import importlib.util

from common.errors import SetupError

NEEDED = {
    "dashboard": ("starlette", "uvicorn"),
    "metrics": ("prometheus_client",),
    "hub": ("huggingface_hub",),
    "completion": ("shtab",),
}


def require(extra: str, *packages: str) -> None:
    """Checks that packages of an extra are installed, by default all in `NEEDED`.

    Raises:
      SetupError: if one is missing; the message says how to install it.
    """
    missing = [name for name in packages or NEEDED[extra] if importlib.util.find_spec(name) is None]
    if missing:
        raise SetupError(f"found no {', '.join(missing)}: run pip install 'bidist[{extra}]'")
