"""The commands that start or compare many runs: their arguments, and what each does."""

import argparse
from pathlib import Path
from typing import Any

from common.config import parse_overrides
from common.errors import ConfigError
from common.lifecycle import stop_on_signals

INTERRUPTED = 130


def add_parsers(commands: Any) -> None:
    """Adds them to the sub-commands of `bidist`."""
    sweep = commands.add_parser("sweep", help="many runs: methods x variants x substrates x seeds, resumable")
    sweep.add_argument("plan", nargs="?", type=Path, metavar="FILE", help="the plan (YAML), or a sweep's folder")
    sweep.add_argument("--method", metavar="A,B", help="methods")
    sweep.add_argument("--substrate", metavar="X,Y", help="games")
    sweep.add_argument("--seeds", metavar="0-4", help="such as 0-4 or 0,2,5")
    sweep.add_argument("--steps", type=int, metavar="N", help="player steps of each run")
    sweep.add_argument("--preset", help="as for train")
    sweep.add_argument("--set", action="append", default=[], metavar="SECTION.KEY=VALUE", dest="overrides",
                       help="a setting of every run; may be given more than once")  # fmt: skip
    sweep.add_argument("--scenario", metavar="5,6", help="evaluate each run in these, numbers or names")
    sweep.add_argument("--episodes", type=int, metavar="N", help="of each scenario (default: 20)")
    sweep.add_argument("--games", type=int, metavar="N", help="as for train (default: 0)")
    sweep.add_argument("--out", type=Path, metavar="FOLDER", help="the sweep's folder (default: sweeps/NAME)")
    sweep.add_argument("--jobs", type=int, default=1, metavar="N", help="runs at a time (default: 1)")
    sweep.add_argument("--actors", type=int, metavar="N", help="actor processes of each run")
    sweep.add_argument("--status", action="store_true", help="print how far it is, write its rows, and leave")


def sweep(arguments: argparse.Namespace) -> int:
    """`bidist sweep`."""
    from experiments.sweep import Sweep, make_plan, open_sweep, read_plan, show

    if arguments.jobs < 1:
        raise ConfigError(f"--jobs {arguments.jobs}: expected 1 or more")
    changes = _changes(arguments)
    plan = make_plan(changes) if arguments.plan is None else read_plan(arguments.plan, changes)
    folder = arguments.out or _folder(arguments.plan)
    if arguments.status:
        return 0 if show(folder) else 1
    open_sweep(plan, folder)
    options = [] if arguments.actors is None else ["--actors", str(arguments.actors)]
    stopping = stop_on_signals()
    done = Sweep(plan, folder, arguments.jobs, options, stopping).run()
    if stopping.is_set():
        print(f"stopped; go on with: bidist sweep {folder}")
        return INTERRUPTED
    return 0 if done else 1


def _folder(plan: Path | None) -> Path:
    """Where a sweep lives if the command line does not say."""
    if plan is not None and plan.is_dir():
        return plan
    return Path("sweeps") / ("sweep" if plan is None else plan.stem)


def _changes(arguments: argparse.Namespace) -> dict[str, Any]:
    """What the command line says of a plan."""
    found: dict[str, Any] = {
        "methods": _listed(arguments.method), "substrates": _listed(arguments.substrate), "seeds": arguments.seeds,
        "steps": arguments.steps, "preset": arguments.preset, "games": arguments.games,
        "settings": parse_overrides(arguments.overrides) or None,
    }  # fmt: skip
    if arguments.scenario is not None:
        scenarios = [int(part) if part.isdecimal() else part for part in arguments.scenario.split(",")]
        found["evaluation"] = {"scenarios": scenarios, "episodes": arguments.episodes or 20}
    elif arguments.episodes is not None:
        raise ConfigError("--episodes says how many of each scenario: name them with --scenario")
    return {key: value for key, value in found.items() if value is not None}


def _listed(text: str | None) -> list[str] | None:
    return None if text is None else [part.strip() for part in text.split(",")]


COMMANDS = {"sweep": sweep}
