"""`bidist completion`: a script that makes a shell complete commands and options."""

import argparse

from cli.commands import Commands
from cli.extras import require

SHELLS = ("bash", "zsh", "tcsh")
EXAMPLES = """\
examples:
  eval "$(bidist completion bash)"                           in ~/.bashrc
  bidist completion zsh > ~/.zsh/completions/_bidist         in a folder of $fpath
"""


def add_parsers(commands: Commands) -> None:
    """Adds `completion`."""
    summary = "print a script that makes a shell complete commands and options"
    completion = commands.add("look", "completion", summary, _completion, f"{{{','.join(SHELLS)}}}", EXAMPLES)
    completion.add_argument("shell", choices=SHELLS, help="the shell")


def _completion(arguments: argparse.Namespace) -> int:
    require("completion")
    import shtab

    from cli.main import parser

    top = parser()
    for action in top._actions:
        if isinstance(action, argparse._SubParsersAction):
            action.help = None  # `bidist --help` has its own list of commands, but shtab skips what help skips
    print(shtab.complete(top, arguments.shell))
    return 0
