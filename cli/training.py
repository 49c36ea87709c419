"""`bidist train`: a whole run on this machine."""

import argparse
import logging
import os
import sys
import threading
from collections.abc import Callable
from pathlib import Path

from cli import logs
from cli.arguments import count, minutes, redis_url
from cli.commands import Commands
from cli.configuration import add_configuration, new, resumed, spec_of
from cli.extras import require
from cli.roles import require_redis
from cli.signals import stop_on_signals
from common.config import Config, learner_threads
from common.cores import core_count
from common.errors import ConfigError
from common.run_folder import RunFolder, find_run
from common.settings import LOG_VARIABLE, variable
from reports.trackers import TRACKERS

log = logging.getLogger(__name__)

EXAMPLES = """\
examples:
  bidist train                                                  about ten minutes of BiDist on two cores
  bidist train --method mappo --substrate coins --steps 2e6 --seed 1
  bidist train learner.learning_rate=1e-3 network.core=lstm     any setting; `bidist settings` lists them
  bidist train --resume NAME --steps 4e6                        continue a run, with a larger budget

Stop with Ctrl-C: the run writes a checkpoint and can be resumed. A second Ctrl-C quits at once.
"""


def add_parsers(commands: Commands) -> None:
    """Adds `train`."""
    summary = "train a population on this machine, with a live view"
    train = commands.add("run", "train", summary, _train, "[SECTION.KEY=VALUE ...]", EXAMPLES)
    add_configuration(train)
    train.add_argument("--resume", metavar="RUN", help="continue a stopped run; --steps may raise its budget")
    train.add_argument(
        "--actors", type=count, metavar="N", help="actor processes (default: one for each core the learner leaves)"
    )
    train.add_argument("--redis", type=redis_url, metavar="URL", help="use this Redis server instead of starting one")
    train.add_argument(
        "--games",
        type=count,
        default=16,
        metavar="N",
        help="episodes of self-play at the end, for the summary (default: 16)",
    )
    train.add_argument(
        "--film-every",
        type=minutes,
        metavar="MINUTES",
        help="film an episode of the newest checkpoint this often, also for TensorBoard (default: never)",
    )
    train.add_argument(
        "--track",
        action="append",
        default=[],
        choices=[*TRACKERS],
        help="send metrics and settings to a tracker, as `bidist track` does; repeatable",
    )
    train.add_argument("--serial", action="store_true", help="run all roles in one process, for debuggers")


def _train(arguments: argparse.Namespace) -> int:
    config, folder = _resume(arguments) if arguments.resume else _start(arguments)
    logs.belongs_to(config.run.name)
    if arguments.redis:
        require_redis(arguments.redis)
    for tracker in arguments.track:
        require("track", tracker)
    if arguments.serial and (arguments.film_every or arguments.track):
        raise ConfigError("films and trackers need processes of their own: leave --serial out")
    if arguments.film_every:
        from evaluator.films import require_picture

        require_picture(config.environment.substrate)
    folder.make()
    form, stopping = variable(LOG_VARIABLE), stop_on_signals()
    say = _speaker(form, folder, stopping)
    if not arguments.resume:
        say(budget(config))
    if arguments.serial:
        from deploy.serial import train

        ledger = train(config, arguments.redis, stopping, say)
    else:
        from rich.console import Console

        from deploy.supervisor import Extras, Supervisor

        left = max(1, core_count() - learner_threads(config.learner))
        actors = left if arguments.actors is None else arguments.actors
        extras = Extras(arguments.film_every, arguments.track)
        live = form != "json" and Console().is_terminal
        ledger = Supervisor(config, actors, arguments.redis, stopping, extras, None if live else say).run()
    if ledger is None:
        say(f"stopped; {_how_to_resume(folder)}")
    else:
        from reports.summary import write_summary

        write_summary(folder, arguments.games, ledger)
    return 0


def _speaker(form: str | None, folder: RunFolder, stopping: threading.Event) -> Callable[[str], None]:
    """Returns what reports a line, and stops the run when nobody reads standard output any more, as after `| head`."""

    def say(line: str) -> None:
        try:
            logs.status(form, line)
        except BrokenPipeError:
            ends = [sys.stdout.fileno()]
            if os.path.sameopenfile(sys.stdout.fileno(), sys.stderr.fileno()):
                ends.append(sys.stderr.fileno())
            with open(os.devnull, "w") as nowhere:
                for end in ends:
                    os.dup2(nowhere.fileno(), end)  # nothing written later fails, not even at exit
            log.warning("nobody reads standard output any more: stopping; %s", _how_to_resume(folder))
            stopping.set()

    return say


def _how_to_resume(folder: RunFolder) -> str:
    return f"resume with: bidist train --resume {folder.named}"


def budget(config: Config) -> str:
    """Describes a run's length in both units."""
    steps, count = config.run.player_steps, spec_of(config.environment).players
    return f"budget: {steps:,} player steps, which is {steps // count:,} env steps of {count} players"


def _start(arguments: argparse.Namespace) -> tuple[Config, RunFolder]:
    config = new(arguments)
    folder = RunFolder.of(config.run)
    if folder.path.exists():
        raise ConfigError(f"{folder.path} exists: continue it with --resume {config.run.name}, or choose another --run")
    return config, folder


def _resume(arguments: argparse.Namespace) -> tuple[Config, RunFolder]:
    folder = find_run(arguments.folder or Path("runs"), arguments.resume)
    if not folder.config.exists():
        raise ConfigError(f"there is no run at {folder.path}: no {folder.config.name} was found in it")
    config = resumed(arguments, folder)
    done = folder.last_update().get("player_steps", 0)
    if done >= config.run.player_steps and (folder.summary.exists() or arguments.steps is not None):
        raise ConfigError(
            f"run {folder.path} has made {done} of {config.run.player_steps} player steps: it is finished, unless you "
            "raise --steps"
        )
    return config, folder
