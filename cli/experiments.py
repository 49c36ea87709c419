"""The commands that measure what methods make of strangers, and what a run survives."""

import argparse
import tempfile
from pathlib import Path

from cli.arguments import count, minutes, positive
from cli.commands import Commands
from cli.signals import exit_on_sigterm
from common.errors import ConfigError


def add_parsers(commands: Commands) -> None:
    """Adds `conventions` and `chaos`."""
    summary = "measure whether meeting phi or past policies helps with strangers, in a small game"
    conventions = commands.add("many runs", "conventions", summary, _conventions)
    conventions.add_argument("--methods", nargs="+", metavar="METHOD", help="which methods (default: all)")
    conventions.add_argument("--seeds", type=positive, default=10, metavar="N", help="runs per method (default: 10)")
    conventions.add_argument(
        "--updates", type=positive, default=300, metavar="N", help="updates per run (default: 300)"
    )
    conventions.add_argument("--workers", type=positive, default=2, metavar="N", help="runs at a time (default: 2)")
    conventions.add_argument("--out", type=Path, required=True, metavar="FOLDER", help="where to write")

    summary = "kill and stop every part of a real run, in random order, and check its ledger"
    chaos = commands.add("many runs", "chaos", summary, _chaos)
    chaos.add_argument("--minutes", type=minutes, default=10.0, metavar="N", help="how long (default: 10)")
    chaos.add_argument("--seed", type=count, default=0, metavar="N", help="seed of the faults (default: 0)")
    chaos.add_argument(
        "--actors",
        type=positive,
        metavar="N",
        help="instead: N synthetic actors that come and go, and a learner that is stopped now and then; checks memory",
    )
    chaos.add_argument(
        "--compose",
        type=Path,
        metavar="FILE",
        help="a run in containers instead of processes; FILE is docker-compose.yml (needs a Docker engine)",
    )
    chaos.add_argument("--out", type=Path, metavar="FILE.json", help="write the report as JSON")


def _chaos(arguments: argparse.Namespace) -> int:
    from experiments.stress import chaos, load

    exit_on_sigterm()

    def say(line: str) -> None:
        print(line, flush=True)

    if arguments.actors and arguments.compose:
        raise ConfigError("--actors and --compose exclude each other: synthetic actors load a learner on this machine")
    seconds, seed, out = 60 * arguments.minutes, arguments.seed, arguments.out
    if out is not None:
        _check_writable(out)
    report: chaos.Report | load.Report
    if arguments.actors:
        report = load.run(arguments.actors, seconds, seed, out, say)
    else:
        report = chaos.run(seconds, seed, out, say, arguments.compose)
    sides = {name: value for name, value in report.ledger.items() if name != "reasons"}
    print("ledger: " + ", ".join(f"{name} {value}" for name, value in sides.items()))
    print("\n".join(report.problems) or "every promise was kept")
    return 1 if report.problems else 0


def _check_writable(out: Path) -> None:
    """Checks before hours of work that its result can be written.

    Raises:
      ConfigError: if not.
    """
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=out.parent):
            pass
    except OSError as error:
        raise ConfigError(f"--out {out}: nothing can be written there: {error.strerror}") from None


def _conventions(arguments: argparse.Namespace) -> int:
    from experiments.conventions import experiment as conventions

    names = arguments.methods or list(conventions.TRIED)
    conventions.run(names, arguments.seeds, arguments.updates, arguments.workers, arguments.out)
    return 0
