"""The commands that measure: how fast, and what methods make of strangers."""

import argparse
from pathlib import Path
from typing import Any

from cli.arguments import count
from common.errors import ConfigError

BENCHES = ("throughput", "methods", "scenarios")


def add_parsers(commands: Any) -> None:
    """Adds them to the sub-commands of `bidist`."""
    bench = commands.add_parser("bench", help="how fast the system, methods or the evaluator are")
    bench.add_argument("what", nargs="?", choices=BENCHES,
                       help="throughput: the bare game, an actor, the whole system (default); methods: each beside "
                       "MAPPO; scenarios: the evaluator beside Melting Pot's own loop")  # fmt: skip
    bench.add_argument("--substrate", default="prisoners_dilemma_in_the_matrix__arena")
    bench.add_argument("--scenario", action="append", metavar="NAME", dest="scenarios",
                       help="for scenarios (default: 0 to 4 of --substrate); may be given more than once")  # fmt: skip
    bench.add_argument("--method", action="append", metavar="NAME", dest="methods",
                       help="for methods (default: all); may be given more than once")  # fmt: skip
    bench.add_argument("--seconds", type=float, default=20.0, help="length of each part (default: 20)")
    bench.add_argument("--rounds", type=int, default=3, help="how often the parts take turns (default: 3)")
    bench.add_argument("--out", type=Path, help="write the figures as JSON")
    bench.set_defaults(handler=_bench)

    conventions = commands.add_parser("conventions", help="whether meeting phi or past policies helps with strangers")
    conventions.add_argument("--methods", nargs="+", metavar="METHOD", help="default: all that the experiment knows")
    conventions.add_argument("--seeds", type=count, default=10, metavar="N", help="runs of each method (default: 10)")
    conventions.add_argument("--updates", type=count, default=300, metavar="N", help="of each run (default: 300)")
    conventions.add_argument("--workers", type=count, default=2, metavar="N", help="runs at a time (default: 2)")
    conventions.add_argument("--out", type=Path, required=True, metavar="FOLDER")
    conventions.set_defaults(handler=_conventions)


def _bench(arguments: argparse.Namespace) -> int:
    asked = {"methods": arguments.methods, "scenarios": arguments.scenarios}
    what = arguments.what or next((name for name, wanted in asked.items() if wanted), "throughput")
    for name, wanted in asked.items():
        if wanted and what != name:
            raise ConfigError(f"--{name[:-1]} {wanted[0]}: only `bidist bench {name}` takes it, this is {what}")
    substrate, how = arguments.substrate, (arguments.seconds, arguments.rounds, arguments.out)
    if what == "methods":
        from experiments import method_cost

        return method_cost.run(arguments.methods or ["all"], substrate, *how)
    if what == "scenarios":
        from evaluator.scenarios import scenarios_of
        from experiments import scenario_speed

        return scenario_speed.run(arguments.scenarios or [s.name for s in scenarios_of(substrate)], *how)
    from experiments import throughput

    return throughput.run(substrate, *how)


def _conventions(arguments: argparse.Namespace) -> int:
    from experiments import conventions

    conventions.run(
        arguments.methods or list(conventions.TRIED), arguments.seeds, arguments.updates, arguments.workers,
        arguments.out,
    )  # fmt: skip
    return 0
