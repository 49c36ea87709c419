"""`bidist bench`: the speed of the system and its parts, of methods, of the evaluator, and of other systems."""

import argparse
from pathlib import Path

from cli.arguments import count, positive
from cli.commands import Commands
from common.errors import ConfigError

MEASUREMENTS = ("throughput", "methods", "scenarios", "core", "flood", "watching", "peers", "time-to-return")
SUBSTRATE = "prisoners_dilemma_in_the_matrix__arena"
WITH_PEERS = ("peers", "time-to-return")
ONLY = {
    "method": ("methods",),
    "scenario": ("scenarios",),
    "return": ("time-to-return",),
    "peer": WITH_PEERS,
    "epochs": WITH_PEERS,
    "environments-folder": WITH_PEERS,
}
"""The measurements that take an option; without a measurement, the option chooses the first."""
EXAMPLES = """\
measurements:
  throughput       the bare game, one actor, one learner, the whole system (default)
  methods          the cost of each method relative to MAPPO
  scenarios        the evaluator relative to Melting Pot's own loop
  core             the hand-written GRU relative to torch's
  flood            a learner while a peer floods its port with garbage, relative to one that is left alone
  watching         a run that a dashboard and an exporter watch, relative to one that nobody watches
  peers            the whole system relative to Sample Factory and RLlib, which it installs
  time-to-return   seconds until training earns a return, here and with the same peers
"""


def add_parsers(commands: Commands) -> None:
    """Adds `bench`."""
    summary = "measure the speed of the system, of methods, of the evaluator or of other systems"
    bench = commands.add("many runs", "bench", summary, _bench, f"[{'|'.join(MEASUREMENTS)}]", EXAMPLES)
    add = bench.add_argument
    add("what", nargs="?", choices=MEASUREMENTS, metavar="MEASUREMENT", help="see below")
    add("--substrate", metavar="GAME", help=f"a Melting Pot substrate (default: {SUBSTRATE}; time-to-return has two)")
    scenario = "for scenarios (default: 0 to 4 of --substrate); repeatable"
    add("--scenario", action="append", metavar="NAME", help=scenario)
    add("--method", action="append", metavar="NAME", help="for methods (default: all); repeatable")
    seconds = "seconds for each part of a round (default: 20); for time-to-return, when to give up (default: 1800)"
    add("--seconds", type=float, metavar="S", help=seconds)
    add("--rounds", type=positive, metavar="N", help="rounds (default: 3; for time-to-return 1)")
    add("--out", type=Path, metavar="FILE.json", help="write the figures as JSON")
    peers = bench.add_argument_group("for peers and time-to-return")
    names = "sample-factory, rllib, or both with a comma between them (default: both)"
    peers.add_argument("--peer", type=lambda text: text.split(","), metavar="NAMES", help=names)
    peers.add_argument("--epochs", type=count, metavar="N", help="the peers' passes over a batch (default: 1)")
    folder = "where peers are installed, each in an environment of its own (default: ~/.cache/bidist/peers)"
    peers.add_argument("--environments-folder", type=Path, metavar="FOLDER", help=folder)
    returns = "for time-to-return, with --substrate (default: 3 and 5 in pure coordination, 20 in prisoner's dilemma)"
    peers.add_argument("--return", type=float, action="append", metavar="R", help=f"{returns}; repeatable")


def _bench(arguments: argparse.Namespace) -> int:
    given = {name: getattr(arguments, name.replace("-", "_")) for name in ONLY}
    given = {name: value for name, value in given.items() if value is not None}
    what = arguments.what or next((ONLY[name][0] for name in given), "throughput")
    for name, value in given.items():
        if what not in ONLY[name]:
            shown = value[0] if isinstance(value, list) else value
            only = " and ".join(f"`bidist bench {measurement}`" for measurement in ONLY[name])
            raise ConfigError(f"--{name} {shown}: only {only} takes it, not `bench {what}`")
    seconds, rounds = (1800.0, 1) if what == "time-to-return" else (20.0, 3)
    seconds = seconds if arguments.seconds is None else arguments.seconds
    how = seconds, rounds if arguments.rounds is None else arguments.rounds, arguments.out
    if what in WITH_PEERS:
        return _with_peers(arguments, what, how)
    return _alone(arguments, what, how)


def _alone(arguments: argparse.Namespace, what: str, how: tuple[float, int, Path | None]) -> int:
    substrate = arguments.substrate or SUBSTRATE
    if what == "methods":
        from experiments.speed import method_cost

        return method_cost.run(arguments.method or ["all"], substrate, *how)
    if what == "scenarios":
        from evaluator.scenarios import scenarios_of
        from experiments.speed import scenario_speed

        return scenario_speed.run(arguments.scenario or [s.name for s in scenarios_of(substrate)], *how)
    if what == "core":
        from experiments.speed import core_speed

        return core_speed.run(substrate, *how)
    if what == "flood":
        from experiments.stress import flood

        return flood.run(*how)
    if what == "watching":
        from experiments.speed import watching_cost

        return watching_cost.run(substrate, *how)
    from experiments.speed import throughput

    return throughput.run(substrate, *how)


def _with_peers(arguments: argparse.Namespace, what: str, how: tuple[float, int, Path | None]) -> int:
    from experiments.speed.peers.installation import DEFAULT_FOLDER

    folder = (arguments.environments_folder or DEFAULT_FOLDER).absolute()
    peers = arguments.peer or [], 1 if arguments.epochs is None else arguments.epochs, folder
    if what == "peers":
        from experiments.speed import peer_speed

        return peer_speed.run(arguments.substrate or SUBSTRATE, *how, *peers)
    from experiments.speed import time_to_return

    goals = time_to_return.goals(arguments.substrate, getattr(arguments, "return"))
    return time_to_return.run(goals, *how, *peers)
