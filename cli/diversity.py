"""The command `diversity`: compares the policies that a run's players met."""

import argparse
from pathlib import Path

from cli.arguments import add_folder, count
from cli.commands import Commands
from common.run_folder import find_run


def add_parsers(commands: Commands) -> None:
    """Adds `diversity`."""
    diversity = commands.add(
        "evaluate",
        "diversity",
        "measure how much the policies that players met in training differ",
        _diversity,
        "RUN ...",
    )
    diversity.add_argument("runs", nargs="+", metavar="RUN", help="runs of one game: folders, or names in --folder")
    diversity.add_argument(
        "--out", type=Path, default=Path("diversity"), metavar="FOLDER", help="where to write (default: diversity)"
    )
    diversity.add_argument(
        "--seed", type=count, default=0, metavar="N", help="seed of the games that are observed (default: 0)"
    )
    add_folder(diversity)


def _diversity(arguments: argparse.Namespace) -> int:
    from reports.diversity import compare

    print("showing the same observations to every policy", flush=True)
    found = compare([find_run(arguments.folder, run) for run in arguments.runs], arguments.out, arguments.seed)
    for d in found:
        kinds = ", ".join(f"{kind} {distance:.3f}" for kind, distance in d.by_kind.items())
        print(f"{d.run}: {len(d.policies)} policies, mean distance {d.mean:.3f} ({d.low:.3f} to {d.high:.3f});")
        print(f"  from its newest theta: {kinds}")
    print(f"written: {arguments.out}/diversity.json, {arguments.out}/diversity.png")
    return 0
