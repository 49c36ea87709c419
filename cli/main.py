"""The command `bidist`."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from cli import (
    bench,
    completion,
    config,
    crossplay,
    dashboard,
    diversity,
    evaluation,
    experiments,
    hub,
    keys,
    listing,
    logs,
    reports,
    roles,
    settings,
    sweeps,
    tracking,
    training,
    watching,
)
from cli.arguments import expand_settings
from cli.commands import Commands, ShowVersion
from cli.signals import restored_handlers
from common.errors import BidistError
from common.settings import LOG_VARIABLE, variable

DESCRIPTION = "Train populations of agents that play with strangers, on DeepMind's Melting Pot."
NOTES = """\
Start with `bidist doctor`, which checks this machine, then `bidist train`. `bidist COMMAND --help` explains a command
and `bidist settings` every setting. The documentation is in docs/.
"""
# In the order in which `bidist --help` shows their commands.
GROUPS = (
    training,
    watching,
    tracking,
    hub,
    listing,
    settings,
    config,
    completion,
    evaluation,
    diversity,
    crossplay,
    reports,
    sweeps,
    bench,
    experiments,
    roles,
    keys,
    dashboard,
)


def parser() -> argparse.ArgumentParser:
    """Builds the parser of the command line; each group adds its own sub-commands."""
    top = argparse.ArgumentParser(
        "bidist",
        usage="bidist [--debug] COMMAND [OPTION ...]",
        epilog=NOTES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    top.add_argument("--version", action=ShowVersion, nargs=0, help="print the version and exit")
    top.add_argument("--debug", action="store_true", help="show tracebacks and debug messages")
    commands = Commands(top)
    for group in GROUPS:
        group.add_parsers(commands)
    top.description = f"{DESCRIPTION}\n\n{commands.overview()}"
    return top


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a sub-command.

    Returns: 0 on success; 1 if a check failed; 2 if the request cannot be carried out as given; 3 if something broke
      along the way and trying again may help. With 2 and 3 it prints one line that says why.
    """
    arguments = parser().parse_args(expand_settings(sys.argv[1:] if argv is None else argv))
    form = variable(LOG_VARIABLE)
    try:
        logs.start(form, arguments.command, _run(arguments), arguments.debug)
        with restored_handlers():
            status: int = arguments.handler(arguments)
    except Exception as error:
        if arguments.debug or not isinstance(error, _expected()):
            raise
        logs.failure(form, error)
        return error.status if isinstance(error, BidistError) else BidistError.status
    return status


def _run(arguments: argparse.Namespace) -> str | None:
    """Returns the name of the run that a command is about; None if that is none, one without a name yet, or several."""
    given = [getattr(arguments, name, None) for name in ("run", "resume")] + [*getattr(arguments, "runs", [])]
    runs = {Path(run).absolute().name for run in given if run}
    return runs.pop() if len(runs) == 1 else None


def _expected() -> tuple[type[Exception], ...]:
    """Returns the errors that one line explains; `--help` must not load the Redis client, so it is imported here."""
    import redis

    return BidistError, redis.RedisError, OSError
