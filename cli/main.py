"""The command `bidist`."""

import argparse
import logging
import sys
from collections.abc import Sequence

from cli import crossplay, dashboard, evaluation, experiments, reports, roles, sweeps, training, watching
from common.errors import BidistError

DESCRIPTION = "Trains populations of agents that still work when they meet strangers."
GROUPS = (training, roles, watching, dashboard, evaluation, crossplay, reports, sweeps, experiments)


def parser() -> argparse.ArgumentParser:
    """Of the command line: each group of sub-commands adds its own."""
    top = argparse.ArgumentParser("bidist", description=DESCRIPTION)
    top.add_argument("--debug", action="store_true", help="show tracebacks and debug messages")
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for group in GROUPS:
        group.add_parsers(commands)
    return top


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a sub-command.

    Returns: 0; 1 if what was looked at is not in order; 2 if it cannot be done as asked, 3 if something broke on the
    way and trying again may help; 2 and 3 with one line that says why.
    """
    arguments = parser().parse_args(argv)
    logging.basicConfig(
        level=logging.DEBUG if arguments.debug else logging.INFO,
        format=f"%(asctime)s {arguments.command:<9} %(levelname)-7s %(message)s",
        datefmt="%H:%M:%S",
    )
    try:
        status: int = arguments.handler(arguments)
    except Exception as error:
        if arguments.debug or not isinstance(error, _expected()):
            raise
        print(f"bidist: error: {error}", file=sys.stderr)
        return error.status if isinstance(error, BidistError) else BidistError.status
    return status


def _expected() -> tuple[type[Exception], ...]:
    """Errors that one line explains; imported here because `--help` needs no Redis client."""
    import redis

    return BidistError, redis.RedisError, OSError
