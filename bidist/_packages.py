"""Makes the packages that belong to this one win over folders of the same names in a script's own directory.

Python looks in a script's directory first, and `common` or `learner` are names that a project of yours may use as well.
"""

import contextlib
import importlib
import sys
from collections.abc import Iterator
from pathlib import Path

USED = ("common", "environments", "networks", "methods", "evaluator")


@contextlib.contextmanager
def own_packages() -> Iterator[None]:
    """Imports `USED` from where this package is installed.

    Raises:
      ImportError: if another module of such a name has been imported before.
    """
    home = str(Path(__file__).resolve().parents[1])
    for name in USED:
        found = getattr(sys.modules.get(name), "__file__", home) or "a folder without an __init__.py"
        if not found.startswith(home):
            raise ImportError(
                f"{found} was imported before bidist, which has a package called {name} of its own: import bidist "
                f"first, or rename yours"
            )
    sys.path.insert(0, home)
    try:
        for name in USED:
            importlib.import_module(name)
        yield
    finally:
        sys.path.remove(home)
