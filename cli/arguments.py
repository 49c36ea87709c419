"""The arguments of the command `bidist`."""

import argparse
from pathlib import Path

from cli.experiments import add_parsers
from common.config import REDIS_VARIABLE, RUN_VARIABLE, preset_names, variable
from methods import METHODS

PRESET = "small"
DESCRIPTION = "Trains populations of agents that still work when they meet strangers."


def parser() -> argparse.ArgumentParser:
    """Of the command line: what each sub-command takes."""
    top = argparse.ArgumentParser("bidist", description=DESCRIPTION)
    top.add_argument("--debug", action="store_true", help="show tracebacks and debug messages")
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")

    train = commands.add_parser("train", help="a whole run on this machine, with a live view")
    _add_configuration(train)
    train.add_argument("--resume", metavar="RUN", help="go on with a stopped run; --steps may raise its budget")
    train.add_argument(
        "--actors", type=int, metavar="N", help="actor processes (default: the cores that the learner leaves)"
    )
    train.add_argument("--redis", metavar="URL", help="use this Redis server instead of starting one")
    train.add_argument("--games", type=_count, default=16, metavar="N",
                       help="that the trained and a random population each play at the end (default: 16)")  # fmt: skip
    train.add_argument("--serial", action="store_true", help="all roles in one process, for debuggers")

    learner = commands.add_parser("learner", help="one learner; it sets the run's configuration")
    _add_run(learner)
    _add_configuration(learner, name=False)
    learner.add_argument("--listen", default="tcp://127.0.0.1:*", metavar="ADDRESS", help="where it listens")
    learner.add_argument("--host", default="127.0.0.1", help="the name by which actors reach this machine")

    actor = commands.add_parser("actor", help="one actor; joins a run, on any host")
    _add_run(actor)
    actor.add_argument("--name", help="unique among the run's actors (default: made from host and process)")

    distiller = commands.add_parser("distiller", help="one distiller; joins a run")
    _add_run(distiller)

    health = commands.add_parser("health", help="whether a role on this host does its work; 1 if not")
    health.add_argument("role", choices=("learner", "actor", "distiller"))
    _add_run(health)
    health.add_argument("--patience", type=float, default=120.0, metavar="S",
                        help="how long ago it may have done the last of its work (default: 120)")  # fmt: skip
    health.add_argument("--alive", action="store_true", help="it is enough that it reports")

    for name, help_text in (("status", "one screen of a run; 1 if its ledger does not add up"), ("watch", "live")):
        look = commands.add_parser(name, help=help_text)
        look.add_argument("--redis", default=variable(REDIS_VARIABLE), metavar="URL",
                          help=f"Redis' URL (default: ${REDIS_VARIABLE}, or the newest run's in --folder)")  # fmt: skip
        look.add_argument("--run", default=variable(RUN_VARIABLE), metavar="NAME",
                          help=f"name of the run (default: ${RUN_VARIABLE}, or the newest)")  # fmt: skip
        look.add_argument("--folder", type=Path, default=Path("runs"), help="where run folders are (default: runs)")

    evaluate = commands.add_parser("evaluate", help="play checkpoints in official scenarios, with DeepMind's bots")
    evaluate.add_argument("runs", nargs="*", metavar="RUN", help="a run's folder, or its name in --folder")
    evaluate.add_argument("--random", action="append", default=[], metavar="SUBSTRATE",
                          help="players who act at random, in this game; may be given more than once")  # fmt: skip
    evaluate.add_argument("--scenario", action="append", metavar="NAME", dest="scenarios",
                          help="default: 0 to 4 of the run's game; may be given more than once")  # fmt: skip
    evaluate.add_argument("--checkpoint", action="append", metavar="NAME", dest="checkpoints",
                          help="newest (default), all, or the name of one; may be given more than once")  # fmt: skip
    evaluate.add_argument("--average", action="store_true", help="play by the running average of theta")
    evaluate.add_argument("--episodes", type=int, default=20, metavar="N", help="of each scenario (default: 20)")
    evaluate.add_argument("--seed", type=_count, default=0, help="of the evaluation (default: 0)")
    evaluate.add_argument("--workers", type=int, default=0, metavar="N", help="processes (default: one a core)")
    evaluate.add_argument("--out", type=Path, metavar="FILE", help="results (default: evaluation.jsonl in the run)")
    evaluate.add_argument("--folder", type=Path, default=Path("runs"), help="where run folders are (default: runs)")
    evaluate.add_argument("--follow", action="store_true", help="evaluate each newest checkpoint until the run ends")
    evaluate.add_argument("--reference", action="store_true", help="through Melting Pot's own API: slow")

    record = commands.add_parser("record", help="a film of one episode, the focal players in white frames")
    record.add_argument("run", metavar="RUN", help="a run's folder, or its name in --folder")
    record.add_argument("--scenario", metavar="NAME", help="default: the population among itself, without bots")
    record.add_argument("--checkpoint", default="newest", metavar="NAME", help="default: newest")
    record.add_argument(
        "--episode", type=_count, default=0, metavar="N", help="its number, as in evaluate (default: 0)"
    )
    record.add_argument("--seed", type=_count, default=0, help="of the evaluation (default: 0)")
    record.add_argument("--out", type=Path, metavar="FILE.mp4", help="default: in the run, by scenario and number")
    record.add_argument("--folder", type=Path, default=Path("runs"), help="where run folders are (default: runs)")

    report = commands.add_parser("report", help="tables and pictures from results, beside what was published")
    report.add_argument("results", nargs="+", type=Path, metavar="RESULTS",
                        help="files of results, run folders, folders with run folders in them, or sweeps")  # fmt: skip
    report.add_argument("--out", type=Path, default=Path("report"), metavar="FOLDER", help="where (default: report)")

    diversity = commands.add_parser("diversity", help="how different the policies are that were met in training")
    diversity.add_argument("runs", nargs="+", metavar="RUN", help="runs of one game: folders, or names in --folder")
    diversity.add_argument("--out", type=Path, default=Path("diversity"), metavar="FOLDER", help="default: diversity")
    diversity.add_argument(
        "--seed", type=_count, default=0, help="of the games that give the observations (default: 0)"
    )
    diversity.add_argument("--folder", type=Path, default=Path("runs"), help="where run folders are (default: runs)")

    add_parsers(commands)

    commands.add_parser("doctor", help="what this machine has and lacks, and what to do about it")

    bench = commands.add_parser("bench", help="throughput of the bare game, of an actor, of the whole system")
    bench.add_argument("--substrate", default="prisoners_dilemma_in_the_matrix__arena")
    bench.add_argument("--scenario", action="append", metavar="NAME", dest="scenarios",
                       help="measure the evaluator in this scenario instead; may be given more than once")  # fmt: skip
    bench.add_argument("--method", action="append", metavar="NAME", dest="methods",
                       help="measure methods beside MAPPO instead; may be given more than once, or be all")  # fmt: skip
    bench.add_argument("--seconds", type=float, default=20.0, help="length of each part (default: 20)")
    bench.add_argument("--rounds", type=int, default=3, help="how often game and actor take turns (default: 3)")
    bench.add_argument("--out", type=Path, help="write the figures as JSON")
    return top


def _count(text: str) -> int:
    """A number that is not negative, for argparse."""
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"expected 0 or a larger whole number, found {text!r}")
    return int(text)


def _add_run(parser: argparse.ArgumentParser) -> None:
    url, run = variable(REDIS_VARIABLE), variable(RUN_VARIABLE)
    parser.add_argument("--redis", required=url is None, default=url, metavar="URL",
                        help=f"Redis' URL, such as redis://localhost:6379/0 (default: ${REDIS_VARIABLE})")  # fmt: skip
    parser.add_argument("--run", required=run is None, default=run, metavar="NAME",
                        help=f"name of the run (default: ${RUN_VARIABLE})")  # fmt: skip


def _add_configuration(parser: argparse.ArgumentParser, name: bool = True) -> None:
    group = parser.add_argument_group("configuration")
    group.add_argument("--substrate", help="a Melting Pot substrate, a matrix game or pettingzoo:module:function")
    group.add_argument("--method", help=f"one of {', '.join(METHODS)}")
    group.add_argument("--preset", help=f"{', '.join(preset_names())} or a YAML file (default: {PRESET})")
    group.add_argument("--steps", type=int, metavar="N", help="length of the run in steps, summed over players")
    group.add_argument("--seed", type=int)
    group.add_argument("--set", action="append", default=[], metavar="SECTION.KEY=VALUE", dest="overrides",
                       help="any setting of common/config.py; may be given more than once")  # fmt: skip
    group.add_argument("--folder", type=Path, help="where run folders are made (default: runs)")
    if name:
        group.add_argument("--run", metavar="NAME", help="name of the run (default: made from method, game and time)")
