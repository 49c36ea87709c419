"""The commands that measure: throughput, what methods make of strangers, and what a run survives."""

import argparse
from pathlib import Path

from cli.arguments import count, minutes
from cli.commands import Commands
from common.errors import ConfigError

BENCHES = ("throughput", "methods", "scenarios", "core")
EXAMPLES = """\
measurements:
  throughput   the bare game, one actor, one learner, the whole system (default)
  methods      the cost of each method relative to MAPPO
  scenarios    the evaluator relative to Melting Pot's own loop
  core         the hand-written GRU relative to torch's
"""


def add_parsers(commands: Commands) -> None:
    """Adds `bench`, `conventions` and `chaos`."""
    summary = "measure the speed of the system, of methods or of the evaluator"
    bench = commands.add("many runs", "bench", summary, _bench, f"[{'|'.join(BENCHES)}]", EXAMPLES)
    bench.add_argument("what", nargs="?", choices=BENCHES, metavar="MEASUREMENT", help="see below")
    bench.add_argument(
        "--substrate",
        default="prisoners_dilemma_in_the_matrix__arena",
        metavar="GAME",
        help="a Melting Pot substrate (default: prisoners_dilemma_in_the_matrix__arena)",
    )
    bench.add_argument(
        "--scenario",
        action="append",
        metavar="NAME",
        dest="scenarios",
        help="for scenarios (default: 0 to 4 of --substrate); repeatable",
    )
    bench.add_argument(
        "--method", action="append", metavar="NAME", dest="methods", help="for methods (default: all); repeatable"
    )
    bench.add_argument(
        "--seconds", type=float, default=20.0, metavar="S", help="seconds for each part of a round (default: 20)"
    )
    bench.add_argument("--rounds", type=int, default=3, metavar="N", help="rounds (default: 3)")
    bench.add_argument("--out", type=Path, metavar="FILE.json", help="write the figures as JSON")

    summary = "measure whether meeting phi or past policies helps with strangers, in a small game"
    conventions = commands.add("many runs", "conventions", summary, _conventions)
    conventions.add_argument("--methods", nargs="+", metavar="METHOD", help="which methods (default: all)")
    conventions.add_argument("--seeds", type=count, default=10, metavar="N", help="runs per method (default: 10)")
    conventions.add_argument("--updates", type=count, default=300, metavar="N", help="updates per run (default: 300)")
    conventions.add_argument("--workers", type=count, default=2, metavar="N", help="runs at a time (default: 2)")
    conventions.add_argument("--out", type=Path, required=True, metavar="FOLDER", help="where to write")

    summary = "kill and stop every part of a real run, in random order, and check its ledger"
    chaos = commands.add("many runs", "chaos", summary, _chaos)
    chaos.add_argument("--minutes", type=minutes, default=10.0, metavar="N", help="how long (default: 10)")
    chaos.add_argument("--seed", type=count, default=0, metavar="N", help="seed of the faults (default: 0)")
    chaos.add_argument(
        "--actors",
        type=count,
        default=0,
        metavar="N",
        help="instead: N synthetic actors that come and go, and a learner that is stopped now and then; checks memory",
    )
    chaos.add_argument("--out", type=Path, metavar="FILE.json", help="write the report as JSON")


def _bench(arguments: argparse.Namespace) -> int:
    asked = {"methods": arguments.methods, "scenarios": arguments.scenarios}
    what = arguments.what or next((name for name, wanted in asked.items() if wanted), "throughput")
    for name, wanted in asked.items():
        if wanted and what != name:
            raise ConfigError(f"--{name[:-1]} {wanted[0]}: only `bidist bench {name}` takes it, not `bench {what}`")
    substrate, how = arguments.substrate, (arguments.seconds, arguments.rounds, arguments.out)
    if what == "methods":
        from experiments import method_cost

        return method_cost.run(arguments.methods or ["all"], substrate, *how)
    if what == "scenarios":
        from evaluator.scenarios import scenarios_of
        from experiments import scenario_speed

        return scenario_speed.run(arguments.scenarios or [s.name for s in scenarios_of(substrate)], *how)
    if what == "core":
        from experiments import core_speed

        return core_speed.run(substrate, *how)
    from experiments import throughput

    return throughput.run(substrate, *how)


def _chaos(arguments: argparse.Namespace) -> int:
    from experiments import chaos, load

    def say(line: str) -> None:
        print(line, flush=True)

    seconds, seed, out = 60 * arguments.minutes, arguments.seed, arguments.out
    report: chaos.Report | load.Report
    if arguments.actors:
        report = load.run(arguments.actors, seconds, seed, out, say)
    else:
        report = chaos.run(seconds, seed, out, say)
    sides = {name: value for name, value in report.ledger.items() if name != "reasons"}
    print("ledger: " + ", ".join(f"{name} {value}" for name, value in sides.items()))
    print("\n".join(report.problems) or "every promise was kept")
    return 1 if report.problems else 0


def _conventions(arguments: argparse.Namespace) -> int:
    from experiments import conventions

    names = arguments.methods or list(conventions.TRIED)
    conventions.run(names, arguments.seeds, arguments.updates, arguments.workers, arguments.out)
    return 0
