"""`bidist keys`: who may join a run, and with what rights."""

import argparse
from pathlib import Path

from cli.commands import Commands
from common.settings import RUN_VARIABLE, variable

NOTES = """\
Give each party its own folder and nothing else:
  redis-server --appendonly yes --aclfile keys/redis/users.acl
  BIDIST_REDIS_PASSWORD_FILE=keys/learner/redis-password \\
    bidist learner --redis redis://learner@HOST:6379/0 --keys keys/learner --listen tcp://*:5555 --host LEARNER ...
  BIDIST_REDIS_PASSWORD_FILE=keys/actor/redis-password \\
    bidist actor --redis redis://actor@HOST:6379/0 --keys keys/actor ...
HOST is where Redis runs, LEARNER the name by which actors reach the learner's host. redis:// sends passwords readably:
use it on a private network only, and rediss:// (TLS) elsewhere.
To withdraw an actor's key, delete its line in keys/learner/authorized_keys: the learner shuts out at once whoever has
a copy. Its password for Redis still works. To withdraw that too, delete the folder keys/NAME, repeat `bidist keys keys`
and restart Redis.
"""


def add_parsers(commands: Commands) -> None:
    """Adds `keys`."""
    keys = commands.add("operate", "keys", "make the keys and passwords of a run", _keys, "FOLDER", NOTES)
    keys.add_argument("target", type=Path, metavar="FOLDER", help="where to make a folder for each party")
    keys.add_argument(
        "--run",
        default=variable(RUN_VARIABLE),
        metavar="NAME",
        help=f"the only run whose data in Redis they give access to (default: ${RUN_VARIABLE}, or the run of the keys "
        "in FOLDER, or all runs)",
    )
    keys.add_argument(
        "--actor",
        action="append",
        metavar="NAME",
        help="make separate keys for this actor, or host of actors; repeatable (default: actor)",
    )


def _keys(arguments: argparse.Namespace) -> int:
    from deploy.keys import make

    made = make(arguments.target, arguments.run, arguments.actor or ["actor"])
    for path in made:
        print(f"made {path}")
    if not made:
        print(f"{arguments.target} has everything already")
    return 0
