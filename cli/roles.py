"""The commands of one role: each runs it, on any host that reaches the others, or asks how it does."""

import argparse
import os
import socket
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cli.arguments import add_run
from cli.configuration import add_configuration, new, resumed
from cli.signals import stop_on_signals
from common.errors import StoreError
from common.run_folder import RunFolder

if TYPE_CHECKING:
    from common.store import Store

LEARNER_LEAVES_S = 30.0


def add_parsers(commands: Any) -> None:
    """Adds them to the sub-commands of `bidist`."""
    learner = commands.add_parser("learner", help="one learner; it sets the run's configuration")
    add_run(learner)
    add_configuration(learner, name=False)
    learner.add_argument("--listen", default="tcp://127.0.0.1:*", metavar="ADDRESS", help="where it listens")
    learner.add_argument("--host", default="127.0.0.1", help="the name by which actors reach this machine")
    learner.set_defaults(handler=_learner)

    actor = commands.add_parser("actor", help="one actor; joins a run, on any host")
    add_run(actor)
    actor.add_argument("--name", help="unique among the run's actors (default: made from host and process)")
    actor.set_defaults(handler=_actor)

    distiller = commands.add_parser("distiller", help="one distiller; joins a run")
    add_run(distiller)
    distiller.set_defaults(handler=_distiller)

    health = commands.add_parser("health", help="whether a role on this host does its work; 1 if not")
    health.add_argument("role", choices=("learner", "actor", "distiller"))
    add_run(health)
    health.add_argument("--patience", type=float, default=120.0, metavar="S",
                        help="how long ago it may have done the last of its work (default: 120)")  # fmt: skip
    health.add_argument("--alive", action="store_true", help="it is enough that it reports")
    health.set_defaults(handler=_health)

    stack = commands.add_parser("stack", help="makes a Docker Swarm stack of the compose file on standard input")
    stack.set_defaults(handler=_stack)


def _learner(arguments: argparse.Namespace) -> int:
    from learner import service
    from learner.ranks import Launch, device_of

    folder = RunFolder((arguments.folder or Path("runs")) / arguments.run)
    config = resumed(arguments, folder) if folder.config.exists() else new(arguments)
    device_of(config.learner.device)
    launch = Launch.from_environment()
    if launch.rank > 0:
        stop_on_signals()  # rank 0 says when it is over
        service.follow(config, launch)
        return 0
    store = _store(arguments)
    with folder.held("learner", LEARNER_LEAVES_S):
        folder.create(config)
        service.run(store, config, arguments.listen, arguments.host, launch)
    return 0


def _actor(arguments: argparse.Namespace) -> int:
    from actors import actor

    name = arguments.name or f"{socket.gethostname()}-{os.getpid()}"
    actor.run(_store(arguments), name)
    return 0


def _distiller(arguments: argparse.Namespace) -> int:
    from distiller import service

    service.run(_store(arguments))
    return 0


def _health(arguments: argparse.Namespace) -> int:
    from deploy import health

    found = health.problem(arguments.redis, arguments.run, arguments.role, arguments.patience, arguments.alive)
    print(found or "well")
    return 1 if found else 0


def _stack(arguments: argparse.Namespace) -> int:
    from deploy import stack

    del arguments
    stack.convert(sys.stdin, sys.stdout)
    return 0


def _store(arguments: argparse.Namespace) -> "Store":
    """The keys of a role's run, in a Redis that answers."""
    from common.store import Store

    require_redis(arguments.redis)
    return Store(arguments.redis, arguments.run, stop_on_signals())


def require_redis(url: str) -> None:
    """Says at once, rather than after patience, that no Redis is where one was said to be."""
    from common.connection import refusal, shown

    if (reason := refusal(url)) is not None:
        raise StoreError(f"no Redis answers at {shown(url)}: {reason}; start one there, or name another with --redis")
