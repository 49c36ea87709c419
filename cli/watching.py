"""The commands that look at a run, once or live, or at this machine."""

import argparse
from typing import Any

from cli.arguments import add_folder
from common.settings import REDIS_VARIABLE, RUN_VARIABLE, variable


def add_parsers(commands: Any) -> None:
    """Adds them to the sub-commands of `bidist`."""
    for name, help_text, handler in (
        ("status", "one screen of a run; 1 if its ledger does not add up", _status),
        ("watch", "live", _watch),
    ):
        look = commands.add_parser(name, help=help_text)
        look.add_argument("--redis", default=variable(REDIS_VARIABLE), metavar="URL",
                          help=f"Redis' URL (default: ${REDIS_VARIABLE}, or the newest run's in --folder)")  # fmt: skip
        look.add_argument("--run", default=variable(RUN_VARIABLE), metavar="NAME",
                          help=f"name of the run (default: ${RUN_VARIABLE}, or the newest)")  # fmt: skip
        add_folder(look)
        look.set_defaults(handler=handler)

    doctor = commands.add_parser("doctor", help="what this machine has and lacks, and what to do about it")
    doctor.set_defaults(handler=_doctor)


def _status(arguments: argparse.Namespace) -> int:
    from deploy import views

    return views.status(arguments.redis, arguments.run, arguments.folder)


def _watch(arguments: argparse.Namespace) -> int:
    from deploy import views

    return views.watch(arguments.redis, arguments.run, arguments.folder)


def _doctor(arguments: argparse.Namespace) -> int:
    from cli import doctor

    del arguments
    return doctor.run()
