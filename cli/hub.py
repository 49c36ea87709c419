"""The command `push`: publishes a run."""

import argparse

from cli.arguments import add_folder
from cli.commands import Commands
from cli.extras import require
from common.run_folder import find_run

EXAMPLES = """\
examples:
  hf auth login                        once
  bidist push NAME jane/coins          then, in Python: bidist.load("hf://jane/coins")

It uploads the policies, the configuration, a model card with the learning curve and the returns of bidist evaluate, and
the newest film. What only training needs stays behind.
"""


def add_parsers(commands: Commands) -> None:
    """Adds `push`."""
    push = commands.add("look", "push", "publish a run on the Hugging Face Hub", _push, "RUN USER/NAME", EXAMPLES)
    push.add_argument("run", metavar="RUN", help="a run's folder, or its name in --folder")
    push.add_argument("repository", metavar="USER/NAME", help="where to; created if missing")
    push.add_argument("--checkpoint", default="newest", metavar="NAME", help="which to publish (default: newest)")
    push.add_argument("--private", action="store_true", help="make a new repository private")
    add_folder(push)


def _push(arguments: argparse.Namespace) -> int:
    require("hub")
    from reports.hub import push

    folder = find_run(arguments.folder, arguments.run)
    print(push(folder, arguments.checkpoint, arguments.repository, arguments.private))
    return 0
