"""Arguments that several sub-commands take."""

import argparse
import math
import re
from collections.abc import Sequence
from decimal import Decimal, InvalidOperation
from pathlib import Path

from common.errors import SetupError
from common.settings import ALLOW_VARIABLE, KEYS_VARIABLE, PASSWORD_VARIABLE, REDIS_VARIABLE, RUN_VARIABLE, variable

INTERRUPTED = 130
"""Exit status of a command that was stopped early and resumes when it is repeated."""
SETTABLE = ("train", "config", "learner", "sweep", "tune")
"""The commands that take `--set`."""
_SETTING = re.compile(r"[A-Za-z_]+\.[A-Za-z_]+=")


def count(text: str) -> int:
    """Parses a whole number that is not negative."""
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"expected 0 or a larger whole number, found {text!r}")
    return int(text)


def positive(text: str) -> int:
    """Parses a whole number above 0."""
    if not text.isdecimal() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"expected 1 or a larger whole number, found {text!r}")
    return int(text)


def address(text: str) -> str:
    """Checks where to listen: at a port, which actors find through Redis together with `--host`."""
    if not text.startswith("tcp://"):
        raise argparse.ArgumentTypeError(f"expected an address with tcp://, such as tcp://*:5555, found {text!r}")
    return text


def minutes(text: str) -> float:
    """Parses a number of minutes above 0."""
    try:
        number = float(text)
    except ValueError:
        number = 0.0
    if not 0 < number < math.inf:
        raise argparse.ArgumentTypeError(f"expected a number of minutes such as 10 or 0.5, found {text!r}")
    return number


def steps(text: str) -> int:
    """Parses a number of steps: `2000000`, `2_000_000` or `2e6`."""
    try:
        number = Decimal(text)
        whole = int(number)
    except (InvalidOperation, ValueError, OverflowError):
        whole, number = 0, Decimal("nan")
    if number != whole:
        raise argparse.ArgumentTypeError(f"expected a whole number such as 2000000, 2_000_000 or 2e6, found {text!r}")
    return whole


def expand_settings(arguments: Sequence[str]) -> list[str]:
    """Puts `--set` before each bare `section.key=value` of a command that takes settings."""
    command = next((word for word in arguments if not word.startswith("-")), None)
    if command not in SETTABLE:
        return list(arguments)
    expanded: list[str] = []
    for word in arguments:
        if _SETTING.match(word) and expanded[-1] not in ("--set", "--slurm-option"):
            expanded.append("--set")
        expanded.append(word)
    return expanded


def redis_url(text: str) -> str:
    """Parses a Redis URL; its password may be in the file that BIDIST_REDIS_PASSWORD_FILE names."""
    from common.connection import checked, with_password

    file = variable(PASSWORD_VARIABLE)
    try:
        return with_password(checked(text), None if file is None else Path(file))
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    except SetupError as error:
        raise argparse.ArgumentTypeError(f"{PASSWORD_VARIABLE}: {error}") from None


def add_keys(parser: argparse.ArgumentParser) -> None:
    """Adds `--keys`."""
    parser.add_argument(
        "--keys",
        type=Path,
        default=variable(KEYS_VARIABLE),
        metavar="FOLDER",
        help=f"this role's key files, made by `bidist keys` (default: ${KEYS_VARIABLE})",
    )


def add_allow(parser: argparse.ArgumentParser) -> None:
    """Adds `--allow`."""
    parser.add_argument(
        "--allow",
        action="append",
        default=[name for name in (variable(ALLOW_VARIABLE) or "").split(",") if name],
        metavar="CODE",
        help="run this module:Class or pettingzoo:module:function if the run names it; repeatable "
        f"(default: the comma-separated ${ALLOW_VARIABLE})",
    )


def add_folder(parser: argparse.ArgumentParser) -> None:
    """Adds `--folder`."""
    parser.add_argument("--folder", type=Path, default=Path("runs"), help="the folder of all runs (default: runs)")


def add_run(parser: argparse.ArgumentParser) -> None:
    """Adds `--redis` and `--run`, by which a role finds its run."""
    url, run = variable(REDIS_VARIABLE), variable(RUN_VARIABLE)
    parser.add_argument(
        "--redis",
        type=redis_url,
        required=url is None,
        default=url,
        metavar="URL",
        help=f"the run's Redis server, such as redis://localhost:6379/0 (default: ${REDIS_VARIABLE})",
    )
    parser.add_argument(
        "--run",
        required=run is None,
        default=run,
        metavar="NAME",
        help=f"the run's name (default: ${RUN_VARIABLE})",
    )
