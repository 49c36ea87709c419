"""Arguments that several sub-commands take."""

import argparse
from pathlib import Path

from common.settings import REDIS_VARIABLE, RUN_VARIABLE, variable

INTERRUPTED = 130
"""Exit status of what was stopped before it was done and goes on when it is called again."""


def count(text: str) -> int:
    """A number that is not negative, for argparse."""
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"expected 0 or a larger whole number, found {text!r}")
    return int(text)


def add_folder(parser: argparse.ArgumentParser) -> None:
    """Adds `--folder`."""
    parser.add_argument("--folder", type=Path, default=Path("runs"), help="where run folders are (default: runs)")


def add_run(parser: argparse.ArgumentParser) -> None:
    """Adds `--redis` and `--run`: what a role needs to find its run."""
    url, run = variable(REDIS_VARIABLE), variable(RUN_VARIABLE)
    parser.add_argument("--redis", required=url is None, default=url, metavar="URL",
                        help=f"Redis' URL, such as redis://localhost:6379/0 (default: ${REDIS_VARIABLE})")  # fmt: skip
    parser.add_argument("--run", required=run is None, default=run, metavar="NAME",
                        help=f"name of the run (default: ${RUN_VARIABLE})")  # fmt: skip
