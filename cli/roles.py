"""The commands of single roles: each runs one, on any host that reaches the others, or checks on it."""

import argparse
import contextlib
import os
import resource
import socket
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from cli.arguments import add_allow, add_keys, add_run, address, count
from cli.commands import Commands
from cli.configuration import add_configuration, new, resumed
from cli.signals import stop_on_signals
from common.errors import Stopped, StoreError
from common.run_folder import RunFolder
from common.settings import HEALTH_VARIABLE, variable

if TYPE_CHECKING:
    from common.store import Store

LEARNER_LEAVES_S = 30.0
# A supervisor stops its roles one kind after the other; a service manager may have signalled them all by then.
SUPERVISOR_STOPS_S = 30.0


def add_parsers(commands: Commands) -> None:
    """Adds the roles, `health` and `stack`."""
    learner = commands.add(
        "operate", "learner", "run the learner; it sets the run's configuration", _learner, "[SECTION.KEY=VALUE ...]"
    )
    add_run(learner)
    add_configuration(learner, name=False)
    learner.add_argument(
        "--listen",
        type=address,
        default="tcp://127.0.0.1:*",
        metavar="ADDRESS",
        help="where to listen for actors, such as tcp://*:5555 (default: this machine, any port)",
    )
    learner.add_argument(
        "--host", default="127.0.0.1", help="the name by which actors reach this machine (default: 127.0.0.1)"
    )
    add_keys(learner)
    _add_operation(learner)

    actor = commands.add("operate", "actor", "run one actor; joins a run from any host", _actor)
    add_run(actor)
    add_keys(actor)
    add_allow(actor)
    actor.add_argument("--name", help="unique among the run's actors (default: from host and process)")
    _add_operation(actor)

    distiller = commands.add("operate", "distiller", "run the distiller; joins a run", _distiller)
    add_run(distiller)
    add_allow(distiller)
    _add_operation(distiller)

    health = commands.add(
        "operate", "health", "check that a role on this host is making progress; exits with 1 if not", _health, "ROLE"
    )
    health.add_argument("role", choices=("learner", "actor", "distiller"))
    add_run(health)
    health.add_argument(
        "--patience",
        type=float,
        default=120.0,
        metavar="S",
        help="seconds that a role may go without progress (default: 120)",
    )
    health.add_argument("--alive", action="store_true", help="check only that it reports, not that it progresses")

    commands.add("operate", "stack", "convert a compose file on standard input to a Docker Swarm stack", _stack)


def _add_operation(parser: argparse.ArgumentParser) -> None:
    """Adds the options for container engines and clusters."""
    parser.add_argument(
        "--health-port",
        type=count,
        default=variable(HEALTH_VARIABLE),
        metavar="PORT",
        help=f"answer /healthz and /readyz over HTTP on this port (default: ${HEALTH_VARIABLE}, or not at all)",
    )
    parser.add_argument(
        "--stopped-status",
        type=count,
        default=0,
        metavar="STATUS",
        help="exit with this when stopped by a signal, so that a cluster starts the role again (default: 0)",
    )


def _learner(arguments: argparse.Namespace) -> int:
    from common.keys import LearnerKeys
    from learner import service
    from learner.ranks import Launch, device_of

    _allow_all_handles()
    folder = RunFolder((arguments.folder or Path("runs")) / arguments.run)
    config = resumed(arguments, folder) if folder.config.exists() else new(arguments)
    device_of(config.learner.device)
    launch = Launch.from_environment()
    if launch.rank > 0:
        stop_on_signals()  # rank 0 decides when to stop
        service.follow(config, launch)
        return 0
    keys = None if arguments.keys is None else LearnerKeys.read(arguments.keys)
    service.check_exposure(arguments.listen, config.learner, keys)
    store = _store(arguments)
    with _probes(arguments), folder.held("learner", LEARNER_LEAVES_S):
        folder.create(config)
        service.run(store, config, arguments.listen, arguments.host, launch, keys)
    return _status(arguments, store)


def _actor(arguments: argparse.Namespace) -> int:
    from actors import actor
    from common.keys import ActorKeys

    name = arguments.name or f"{socket.gethostname()}-{os.getpid()}"
    keys = None if arguments.keys is None else ActorKeys.read(arguments.keys)
    store = _store(arguments)
    with _probes(arguments), contextlib.suppress(Stopped):
        actor.run(store, name, keys)
    return _status(arguments, store)


def _distiller(arguments: argparse.Namespace) -> int:
    from distiller import service

    store = _store(arguments)
    with _probes(arguments), contextlib.suppress(Stopped):
        service.run(store)
    return _status(arguments, store)


def _health(arguments: argparse.Namespace) -> int:
    from deploy import health

    found = health.problem(arguments.redis, arguments.run, arguments.role, arguments.patience, arguments.alive)
    print(found or "healthy")
    return 1 if found else 0


def _stack(arguments: argparse.Namespace) -> int:
    from deploy import stack

    del arguments
    stack.convert(sys.stdin, sys.stdout)
    return 0


def _probes(arguments: argparse.Namespace) -> contextlib.AbstractContextManager[object]:
    """Returns the server that answers probes about a command's role, if it has a port."""
    from deploy import health

    if arguments.health_port is None:
        return contextlib.nullcontext()

    def check(alive: bool) -> str | None:
        return health.problem(arguments.redis, arguments.run, arguments.command, health.PATIENCE_S, alive)

    return health.Probes(check, arguments.health_port)


def _allow_all_handles() -> None:
    """Raises the soft limit on file handles to the hard one: whoever reaches the port takes one for each connection."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(OSError, ValueError):  # macOS calls its hard limit unlimited, and refuses it
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _status(arguments: argparse.Namespace, store: "Store") -> int:
    return int(arguments.stopped_status) if store.stopping.is_set() else 0


def _store(arguments: argparse.Namespace) -> "Store":
    """Returns the store of a role's run, once its Redis has answered."""
    from common.store import Store

    require_redis(arguments.redis)
    allowed = getattr(arguments, "allow", [])
    return Store(arguments.redis, arguments.run, stop_on_signals(SUPERVISOR_STOPS_S), allowed=allowed)


def require_redis(url: str) -> None:
    """Checks that a Redis server answers, so that a wrong address fails at once, without retries.

    Raises:
      StoreError: if none does.
    """
    from common.connection import refusal, shown

    if (reason := refusal(url)) is not None:
        raise StoreError(f"no Redis answers at {shown(url)}: {reason}; start one there, or name another with --redis")
