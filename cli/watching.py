"""The commands that look at a run, once or live, or at this machine."""

import argparse

from cli.arguments import add_folder, redis_url
from cli.commands import Commands
from common.errors import ConfigError
from common.settings import REDIS_VARIABLE, RUN_VARIABLE, variable


def add_parsers(commands: Commands) -> None:
    """Adds `watch`, `status` and `doctor`."""
    for name, summary, handler in (
        ("watch", "watch a run live", _watch),
        ("status", "show a run once; exits with 1 if its ledger does not balance", _status),
    ):
        look = commands.add("look", name, summary, handler)
        look.add_argument(
            "--redis",
            type=redis_url,
            default=variable(REDIS_VARIABLE),
            metavar="URL",
            help=f"the run's Redis server (default: ${REDIS_VARIABLE}, or that of the newest run in --folder)",
        )
        look.add_argument(
            "--run",
            default=variable(RUN_VARIABLE),
            metavar="NAME",
            help=f"the run's name (default: ${RUN_VARIABLE}, or the newest)",
        )
        add_folder(look)
    commands.add("look", "doctor", "check this machine: what it has, what it lacks, how to fix it", _doctor)


def _status(arguments: argparse.Namespace) -> int:
    from deploy import watching

    _require_runs(arguments)
    return watching.status(arguments.redis, arguments.run, arguments.folder)


def _watch(arguments: argparse.Namespace) -> int:
    from deploy import watching

    _require_runs(arguments)
    return watching.watch(arguments.redis, arguments.run, arguments.folder)


def _require_runs(arguments: argparse.Namespace) -> None:
    """Checks that there may be a run to look at.

    Raises:
      ConfigError: if there is none; the message tells a newcomer how to start one.
    """
    folder = arguments.folder
    if arguments.redis is None and not any(folder.glob("*/config.yaml")):
        raise ConfigError(
            f"no run in {folder} yet: start one with `bidist train`, name another --folder, or give --redis and --run "
            "for a run on other machines"
        )


def _doctor(arguments: argparse.Namespace) -> int:
    from cli import doctor

    del arguments
    return doctor.run()
