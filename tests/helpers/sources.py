"""The project's modules, parsed."""

import ast
from functools import cache
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
PACKAGES = {path.parent.name for path in ROOT.glob("*/__init__.py")} - {"tests"}


class Source(NamedTuple):
    path: str
    package: str
    tree: ast.Module


@cache
def sources() -> list[Source]:
    files = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))
    assert len(files) > 30
    return [Source(str(p.relative_to(ROOT)), p.relative_to(ROOT).parts[0], ast.parse(p.read_text())) for p in files]
