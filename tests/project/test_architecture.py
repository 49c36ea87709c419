"""What packages may import, read and contain."""

import ast
import re
import tomllib
from graphlib import TopologicalSorter

import pytest
from sources import PACKAGES, ROOT, sources

from common.store import PREFIX

# The map, lowest first: what a package may import besides itself. See docs/architecture.md.
BASE = {"common", "environments", "networks", "methods"}
SERVICES = {"actors", "learner", "distiller", "evaluator"}
MAY_IMPORT: dict[str, set[str]] = {
    "common": set(),
    "environments": {"common"},
    "networks": {"common"},
    "methods": {"common", "networks"},
    **{service: BASE for service in SERVICES},
    "reports": {*BASE, "evaluator"},
    "deploy": BASE | SERVICES - {"evaluator"},
    "dashboard": {"common", "deploy", "evaluator", "reports"},
    "experiments": {*BASE, *SERVICES, "reports", "deploy"},
    "cli": {*BASE, *SERVICES, "reports", "deploy", "dashboard", "experiments"},
    "bidist": {*BASE, "evaluator"},
}
MAX_LINES, MAX_LINES_OF_CLI = 300, 200
# Who reads the process' environment besides the configuration, and why.
MAY_READ_ENVIRON = {
    "common/settings.py": "it is where settings come from",
    "deploy/supervisor.py": "it passes its environment on to the roles it starts",
}


def imported(tree: ast.Module) -> set[str]:
    """Every module imported in a file, also inside functions."""
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names.add("." if node.level else str(node.module))
    return names


def test_every_package_is_on_the_map() -> None:
    assert MAY_IMPORT.keys() == PACKAGES
    TopologicalSorter(MAY_IMPORT).prepare()  # raises if there is a cycle


def test_every_package_is_built_checked_and_shipped() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())
    tools = settings["tool"]
    assert set(tools["setuptools"]["packages"]["find"]["include"]) == {f"{package}*" for package in PACKAGES}
    assert set(tools["ruff"]["lint"]["isort"]["known-first-party"]) == PACKAGES
    assert set(tools["mypy"]["files"]) == {*PACKAGES, "scripts/setup", "tests"}
    assert set(tools["coverage"]["run"]["source_pkgs"]) == PACKAGES
    assert {*tools["mutmut"]["source_paths"], *tools["mutmut"]["also_copy"]} == PACKAGES
    copied = re.findall(r"^COPY (\w+) \1$", (ROOT / "deploy" / "Dockerfile").read_text(), re.MULTILINE)
    assert set(copied) == PACKAGES
    sent = (ROOT / ".dockerignore").read_text().splitlines()
    assert {f"!{package}" for package in PACKAGES} <= set(sent)


@pytest.mark.parametrize("package", sorted(PACKAGES))
def test_a_package_imports_what_the_map_allows(package: str) -> None:
    """Services never import each other: processes share bytes, not code."""
    for source in sources():
        if source.package == package:
            siblings = {name.partition(".")[0] for name in imported(source.tree)} & PACKAGES
            wrong = siblings - MAY_IMPORT[package] - {package}
            assert not wrong, f"{source.path} imports {sorted(wrong)}; {package} may not"
            assert "." not in imported(source.tree), f"{source.path}: use absolute imports"


def test_no_module_is_long() -> None:
    paths = [source.path for source in sources()] + [
        str(path.relative_to(ROOT)) for path in (ROOT / "tests").rglob("*.py")
    ]
    lines = {path: len((ROOT / path).read_text().splitlines()) for path in paths}
    assert {p: n for p, n in lines.items() if n > (MAX_LINES_OF_CLI if p.startswith("cli/") else MAX_LINES)} == {}


def test_only_the_configuration_reads_the_environment() -> None:
    found = set()
    for source in sources():
        attributes = {ast.unparse(node) for node in ast.walk(source.tree) if isinstance(node, ast.Attribute)}
        names = {alias.name for n in ast.walk(source.tree) if isinstance(n, ast.ImportFrom) for alias in n.names}
        if attributes & {"os.environ", "os.getenv", "os.environb"} or names & {"environ", "getenv"}:
            found.add(source.path)
    assert found == MAY_READ_ENVIRON.keys()


def test_every_module_has_a_docstring() -> None:
    for source in sources():
        docstring = ast.get_docstring(source.tree)
        assert docstring, f"{source.path} has no docstring"
        if source.path.endswith("__init__.py"):
            assert len(docstring.splitlines()) >= 3, f"{source.path}: say what it is for and what belongs into it"


def test_only_the_store_names_keys() -> None:
    for source in sources():
        if source.path != "common/store.py":
            strings = {
                n.value for n in ast.walk(source.tree) if isinstance(n, ast.Constant) and isinstance(n.value, str)
            }
            assert not any(re.match(rf"{PREFIX}:\S|{PREFIX}:$", s) for s in strings), source.path
