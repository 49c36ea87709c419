"""`bidist crossplay`: every population among every other."""

import argparse
import shlex
from dataclasses import replace
from pathlib import Path

from cli.arguments import INTERRUPTED, add_folder, count, positive
from cli.commands import Commands
from cli.signals import stop_on_signals
from common.errors import ConfigError
from common.run_folder import find_run


def add_parsers(commands: Commands) -> None:
    """Adds `crossplay`."""
    summary = "play every population's focal players among every other population"
    crossplay = commands.add("evaluate", "crossplay", summary, _crossplay, "RUN ...")
    crossplay.add_argument("runs", nargs="+", metavar="RUN", help="runs of one game: folders, or names in --folder")
    crossplay.add_argument("--random", action="store_true", help="include random players")
    crossplay.add_argument(
        "--episodes", type=positive, default=8, metavar="N", help="episodes per pair and split (default: 8)"
    )
    crossplay.add_argument("--checkpoint", default="newest", metavar="NAME", help="of each run (default: newest)")
    crossplay.add_argument("--seed", type=count, default=0, metavar="N", help="seed of the evaluation (default: 0)")
    crossplay.add_argument("--workers", type=count, default=0, metavar="N", help="processes (default: one per core)")
    crossplay.add_argument(
        "--out", type=Path, default=Path("crossplay"), metavar="FOLDER", help="where to write (default: crossplay)"
    )
    add_folder(crossplay)


def _crossplay(arguments: argparse.Namespace) -> int:
    from evaluator.evaluate import populations, random_population
    from evaluator.tournament import check, crossplay_all, read_rows
    from reports.crossplay import rows_among, show, write_report

    if arguments.checkpoint == "all":
        raise ConfigError(
            "--checkpoint all: crossplay plays one checkpoint of each run; name one, or leave --checkpoint out"
        )
    folders = [find_run(arguments.folder, run) for run in arguments.runs]
    entrants = [entrant for folder in folders for entrant in populations(folder, [arguments.checkpoint])]
    if arguments.random:
        guest = random_population(entrants[0].config.environment.substrate)
        entrants.append(replace(guest, config=entrants[0].config))
    check(entrants)
    stopping = stop_on_signals()
    done = crossplay_all(entrants, arguments.episodes, arguments.out, arguments.seed, arguments.workers, stopping)
    rows = rows_among(read_rows(arguments.out), entrants, arguments.episodes, arguments.seed)
    if found := write_report(rows, arguments.out, _command(arguments)):
        show(found, arguments.out)
    if not done:
        print("stopped; run the same command again to resume")
    return 0 if done else INTERRUPTED


def _command(arguments: argparse.Namespace) -> str:
    command = ["bidist", "crossplay", *arguments.runs, "--episodes", str(arguments.episodes)]
    for option, default in (("checkpoint", "newest"), ("seed", 0), ("folder", Path("runs"))):
        if (value := getattr(arguments, option)) != default:
            command += [f"--{option}", str(value)]
    return shlex.join([*command, *(["--random"] if arguments.random else []), "--out", str(arguments.out)])
