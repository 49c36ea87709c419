"""`bidist list`: the names that other commands take, and the runs on this machine."""

import argparse
import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

from cli.arguments import add_folder
from cli.commands import Commands
from common.errors import ConfigError
from common.files import is_locked, last_record
from common.run_folder import RunFolder
from common.settings import PRESETS, preset_names

Rows = Iterator[tuple[str, ...]]


def add_parsers(commands: Commands) -> None:
    """Adds `list`."""
    summary = f"list {', '.join(LISTS)}"
    listing = commands.add("look", "list", summary, _list, f"{{{','.join(LISTS)}}} [WORD]")
    listing.add_argument("what", choices=[*LISTS], help="what to list")
    listing.add_argument("word", nargs="?", default="", metavar="WORD", help="show only names that contain this")
    add_folder(listing)


def _list(arguments: argparse.Namespace) -> int:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    columns, rows = LISTS[arguments.what]
    found = [row for row in rows(arguments.folder) if arguments.word in row[0]]
    if not found:
        where = f" in {arguments.folder}" if arguments.what == "runs" else ""
        named = f" with {arguments.word!r} in their name" if arguments.word else ""
        advice = "; start one with `bidist train`" if arguments.what == "runs" else ""
        raise ConfigError(f"there are no {arguments.what}{where}{named}{advice}")
    console = Console()
    if not console.is_terminal:
        console.width = 10_000  # whole lines, for other programs
    table = Table(*columns, box=None, pad_edge=False)
    for row in found:
        table.add_row(*map(Text, row))
    console.print(table)
    return 0


def _substrates(folder: Path) -> Rows:
    from environments.matrix_game import PAYOFFS
    from environments.substrates import substrates

    del folder
    yield from ((name, "matrix game") for name in PAYOFFS)
    yield from ((name, "Melting Pot") for name in substrates())


def _scenarios(folder: Path) -> Rows:
    from environments.substrates import substrates
    from evaluator.scenarios import scenarios_of

    del folder
    for substrate in substrates():
        with contextlib.suppress(ConfigError):  # a substrate without scenarios
            for scenario in scenarios_of(substrate, None):
                yield scenario.name, str(len(scenario.focal)), str(len(scenario.background))


def _methods(folder: Path) -> Rows:
    from common.config import Config, MethodConfig
    from methods import METHODS, make_method

    del folder
    for name in METHODS:
        kind = type(make_method(Config(method=MethodConfig(name=name))))
        yield name, (kind.__doc__ or "").partition("\n")[0]


def _presets(folder: Path) -> Rows:
    del folder
    for name in preset_names():
        first = (PRESETS / f"{name}.yaml").read_text().partition("\n")[0]
        yield name, first.removeprefix("# ") if first.startswith("#") else ""


def _runs(folder: Path) -> Rows:
    found = [RunFolder(path.parent) for path in folder.glob("*/config.yaml")]
    for run in sorted(found, key=lambda run: run.config.stat().st_mtime, reverse=True):
        try:
            config, last = run.read_config(), last_record(run.metrics) or {}
        except ConfigError:
            yield run.path.name, "?", "?", "?", "config.yaml is damaged"
            continue
        if is_locked(run.lock("train")) or is_locked(run.lock("learner")):
            state = "running"
        else:
            state = "finished" if run.summary.exists() else "stopped"
        steps = f"{last.get('player_steps', 0):,} of {config.run.player_steps:,}"
        yield run.path.name, config.method.name, config.environment.substrate, steps, state


LISTS: dict[str, tuple[tuple[str, ...], Callable[[Path], Rows]]] = {
    "substrates": (("substrate", "from"), _substrates),
    "scenarios": (("scenario", "focal players", "bots"), _scenarios),
    "methods": (("method", "what it is"), _methods),
    "presets": (("preset", "what it is"), _presets),
    "runs": (("run", "method", "substrate", "player steps", "state"), _runs),
}
