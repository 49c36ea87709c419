"""`bidist train`: a whole run on this machine."""

import argparse
from pathlib import Path
from typing import Any

from cli.arguments import count
from cli.configuration import add_configuration, new, resumed
from cli.roles import require_redis
from cli.signals import stop_on_signals
from common.config import learner_threads
from common.cores import core_count
from common.errors import ConfigError
from common.files import read_lines
from common.run_folder import RunFolder


def add_parsers(commands: Any) -> None:
    """Adds `train` to the sub-commands of `bidist`."""
    train = commands.add_parser("train", help="a whole run on this machine, with a live view")
    add_configuration(train)
    train.add_argument("--resume", metavar="RUN", help="go on with a stopped run; --steps may raise its budget")
    train.add_argument(
        "--actors", type=int, metavar="N", help="actor processes (default: the cores that the learner leaves)"
    )
    train.add_argument("--redis", metavar="URL", help="use this Redis server instead of starting one")
    train.add_argument("--games", type=count, default=16, metavar="N",
                       help="that the trained and a random population each play at the end (default: 16)")  # fmt: skip
    train.add_argument("--serial", action="store_true", help="all roles in one process, for debuggers")
    train.set_defaults(handler=_train)


def _train(arguments: argparse.Namespace) -> int:
    if arguments.resume:
        folder = RunFolder((arguments.folder or Path("runs")) / Path(arguments.resume).name)
        if not folder.config.exists():
            raise ConfigError(f"there is no run at {folder.path}: no {folder.config.name} was found in it")
        config = resumed(arguments, folder)
        done = sum(line["player_steps"] for line in read_lines(folder.metrics)[-1:])
        if done >= config.run.player_steps and (folder.summary.exists() or arguments.steps is not None):
            raise ConfigError(
                f"run {folder.path} has made {done} player steps, and was to make {config.run.player_steps}: "
                "it is finished, unless you raise --steps"
            )
    else:
        config = new(arguments)
        folder = RunFolder.of(config.run)
        if folder.path.exists():
            raise ConfigError(f"{folder.path} exists: go on with --resume {config.run.name}, or give another --run")
    if arguments.redis:
        require_redis(arguments.redis)
    if arguments.actors is not None and arguments.actors < 0:
        raise ConfigError(f"--actors {arguments.actors}: expected how many, 0 if all of them run elsewhere")
    if arguments.serial:
        from deploy.serial import train

        ledger = train(config, arguments.redis, stop_on_signals())
    else:
        from deploy.supervisor import Supervisor

        left = max(1, core_count() - learner_threads(config.learner))
        actors = left if arguments.actors is None else arguments.actors
        ledger = Supervisor(config, actors, arguments.redis, stop_on_signals()).run()
    if ledger is None:
        print(f"stopped; resume with: bidist train --resume {folder.path.name}")
    else:
        from reports.summary import write_summary

        write_summary(folder, arguments.games, ledger)
    return 0
