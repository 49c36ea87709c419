"""The command `bidist`."""

import argparse
import logging
import os
import socket
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import redis

from common import environments
from common.config import REDIS_VARIABLE, RUN_VARIABLE, Config, learner_threads, load_config, preset_names, variable
from common.errors import BidistError, ConfigError, StoreError
from common.files import read_lines
from common.lifecycle import stop_on_signals
from common.methods import METHODS, resolve
from common.run_folder import RunFolder
from common.store import Store, refusal, shown

PRESET = "small"
INTERRUPTED = 130
LEARNER_LEAVES_S = 30.0
DESCRIPTION = "Trains populations of agents that still work when they meet strangers."


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a sub-command.

    Returns: 0; 1 if what was looked at is not in order; 2 if it cannot be done as asked, 3 if something broke on the
    way and trying again may help; 2 and 3 with one line that says why.
    """
    arguments = _parser().parse_args(argv)
    logging.basicConfig(
        level=logging.DEBUG if arguments.debug else logging.INFO,
        format=f"%(asctime)s {arguments.command:<9} %(levelname)-7s %(message)s",
        datefmt="%H:%M:%S",
    )
    try:
        return int(arguments.run_command(arguments))
    except (BidistError, redis.RedisError, OSError) as error:
        if arguments.debug:
            raise
        print(f"bidist: error: {error}", file=sys.stderr)
        return error.status if isinstance(error, BidistError) else BidistError.status


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("bidist", description=DESCRIPTION)
    parser.add_argument("--debug", action="store_true", help="show tracebacks and debug messages")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    train = commands.add_parser("train", help="a whole run on this machine, with a live view")
    _add_configuration(train)
    train.add_argument("--resume", metavar="RUN", help="go on with a stopped run; --steps may raise its budget")
    train.add_argument(
        "--actors", type=int, metavar="N", help="actor processes (default: the cores that the learner leaves)"
    )
    train.add_argument("--redis", metavar="URL", help="use this Redis server instead of starting one")
    train.add_argument("--serial", action="store_true", help="all roles in one process, for debuggers")
    train.set_defaults(run_command=_train)

    learner = commands.add_parser("learner", help="one learner; it sets the run's configuration")
    _add_run(learner)
    _add_configuration(learner, name=False)
    learner.add_argument("--listen", default="tcp://127.0.0.1:*", metavar="ADDRESS", help="where it listens")
    learner.add_argument("--host", default="127.0.0.1", help="the name by which actors reach this machine")
    learner.set_defaults(run_command=_learner)

    actor = commands.add_parser("actor", help="one actor; joins a run, on any host")
    _add_run(actor)
    actor.add_argument("--name", help="unique among the run's actors (default: made from host and process)")
    actor.set_defaults(run_command=_actor)

    distiller = commands.add_parser("distiller", help="one distiller; joins a run")
    _add_run(distiller)
    distiller.set_defaults(run_command=_distiller)

    health = commands.add_parser("health", help="whether a role on this host does its work; 1 if not")
    health.add_argument("role", choices=("learner", "actor", "distiller"))
    _add_run(health)
    health.add_argument("--patience", type=float, default=120.0, metavar="S",
                        help="how long ago it may have done the last of its work (default: 120)")  # fmt: skip
    health.add_argument("--alive", action="store_true", help="it is enough that it reports")
    health.set_defaults(run_command=_health)

    for name, help_text in (("status", "one screen of a run; 1 if its ledger does not add up"), ("watch", "live")):
        look = commands.add_parser(name, help=help_text)
        look.add_argument("--redis", default=variable(REDIS_VARIABLE), metavar="URL",
                          help=f"Redis' URL (default: ${REDIS_VARIABLE}, or the newest run's in --folder)")  # fmt: skip
        look.add_argument("--run", default=variable(RUN_VARIABLE), metavar="NAME",
                          help=f"name of the run (default: ${RUN_VARIABLE}, or the newest)")  # fmt: skip
        look.add_argument("--folder", type=Path, default=Path("runs"), help="where run folders are (default: runs)")
        look.set_defaults(run_command=_status if name == "status" else _watch)

    evaluate = commands.add_parser("evaluate", help="play checkpoints in official scenarios, with DeepMind's bots")
    evaluate.add_argument("runs", nargs="*", metavar="RUN", help="a run's folder, or its name in --folder")
    evaluate.add_argument("--random", action="append", default=[], metavar="SUBSTRATE",
                          help="players who act at random, in this game; may be given more than once")  # fmt: skip
    evaluate.add_argument("--scenario", action="append", metavar="NAME", dest="scenarios",
                          help="default: 0 to 4 of the run's game; may be given more than once")  # fmt: skip
    evaluate.add_argument("--checkpoint", action="append", metavar="NAME", dest="checkpoints",
                          help="newest (default), all, or the name of one; may be given more than once")  # fmt: skip
    evaluate.add_argument("--episodes", type=int, default=20, metavar="N", help="of each scenario (default: 20)")
    evaluate.add_argument("--seed", type=_count, default=0, help="of the evaluation (default: 0)")
    evaluate.add_argument("--workers", type=int, default=0, metavar="N", help="processes (default: one a core)")
    evaluate.add_argument("--out", type=Path, metavar="FILE", help="results (default: evaluation.jsonl in the run)")
    evaluate.add_argument("--folder", type=Path, default=Path("runs"), help="where run folders are (default: runs)")
    evaluate.add_argument("--follow", action="store_true", help="evaluate each newest checkpoint until the run ends")
    evaluate.add_argument("--reference", action="store_true", help="through Melting Pot's own API: slow")
    evaluate.set_defaults(run_command=_evaluate)

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
    record.set_defaults(run_command=_record)

    report = commands.add_parser("report", help="tables and pictures from results, beside what was published")
    report.add_argument("results", nargs="+", type=Path, metavar="RESULTS",
                        help="files of results, run folders, or folders with run folders in them")  # fmt: skip
    report.add_argument("--out", type=Path, default=Path("report"), metavar="FOLDER", help="where (default: report)")
    report.set_defaults(run_command=_report)

    diversity = commands.add_parser("diversity", help="how different the policies are that were met in training")
    diversity.add_argument("runs", nargs="+", metavar="RUN", help="runs of one game: folders, or names in --folder")
    diversity.add_argument("--out", type=Path, default=Path("diversity"), metavar="FOLDER", help="default: diversity")
    diversity.add_argument(
        "--seed", type=_count, default=0, help="of the games that give the observations (default: 0)"
    )
    diversity.add_argument("--folder", type=Path, default=Path("runs"), help="where run folders are (default: runs)")
    diversity.set_defaults(run_command=_diversity)

    doctor = commands.add_parser("doctor", help="what this machine has and lacks, and what to do about it")
    doctor.set_defaults(run_command=_doctor)

    bench = commands.add_parser("bench", help="throughput of the bare game, of an actor, of the whole system")
    bench.add_argument("--substrate", default="prisoners_dilemma_in_the_matrix__arena")
    bench.add_argument("--scenario", action="append", metavar="NAME", dest="scenarios",
                       help="measure the evaluator in this scenario instead; may be given more than once")  # fmt: skip
    bench.add_argument("--method", action="append", metavar="NAME", dest="methods",
                       help="measure methods beside MAPPO instead; may be given more than once, or be all")  # fmt: skip
    bench.add_argument("--seconds", type=float, default=20.0, help="length of each part (default: 20)")
    bench.add_argument("--rounds", type=int, default=3, help="how often game and actor take turns (default: 3)")
    bench.add_argument("--out", type=Path, help="write the figures as JSON")
    bench.set_defaults(run_command=_bench)
    return parser


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


def _named(arguments: argparse.Namespace) -> dict[str, object]:
    named = {
        "environment.substrate": arguments.substrate,
        "method.name": arguments.method,
        "run.player_steps": arguments.steps,
        "run.seed": arguments.seed,
        "run.name": arguments.run,
        "run.folder": arguments.folder,
    }
    return {path: value for path, value in named.items() if value is not None}


def _new(arguments: argparse.Namespace) -> Config:
    """The configuration of a run that is to be made; it is checked, and has a name."""
    preset, values = arguments.preset or PRESET, _named(arguments)
    config = load_config(preset, arguments.overrides, values)
    if not config.run.name:
        game = config.environment.substrate.replace("_in_the_matrix", "").rpartition(":")[2]
        chosen = config.method.name.rpartition(":")[2]
        name = f"{chosen}-{game}-{time.strftime('%m%d-%H%M%S')}"
        config = load_config(preset, arguments.overrides, {**values, "run.name": name})
    environments.spec(config.environment)
    return resolve(config)


def _resumed(arguments: argparse.Namespace, folder: RunFolder) -> Config:
    """A run's own configuration, with another budget if one is asked for.

    Raises:
      ConfigError: if anything else is asked for than the run has.
    """
    config = folder.read_config()
    # The run lies where it was found, whatever the place it was started from was called there.
    config = config.model_copy(update={"run": config.run.model_copy(update={"folder": folder.path.parent})})
    config = resolve(config, f"{folder.config}: ")
    if arguments.method not in (None, config.method.name):
        raise ConfigError(
            f"run {folder.path} is one of {config.method.name} and cannot go on as one of {arguments.method}: leave "
            "--method out, or start another run"
        )
    asked = resolve(load_config(arguments.preset, arguments.overrides, _named(arguments), base=config))
    is_now, would_be = config.model_dump(), asked.model_dump()
    changed = [
        f"{section}.{key} is {value!r} and cannot become {would_be[section][key]!r}"
        for section, settings in is_now.items()
        for key, value in settings.items()
        if value != would_be[section][key] and (section, key) != ("run", "player_steps")
    ]
    if changed:
        raise ConfigError(f"run {folder.path} has its settings already: {'; '.join(changed)}; --steps alone can change")
    return asked


def _train(arguments: argparse.Namespace) -> int:
    if arguments.resume:
        folder = RunFolder((arguments.folder or Path("runs")) / Path(arguments.resume).name)
        if not folder.config.exists():
            raise ConfigError(f"there is no run at {folder.path}: no {folder.config.name} was found in it")
        config = _resumed(arguments, folder)
        done = sum(line["player_steps"] for line in read_lines(folder.metrics)[-1:])
        if done >= config.run.player_steps and (folder.summary.exists() or arguments.steps is not None):
            raise ConfigError(
                f"run {folder.path} has made {done} player steps, and was to make {config.run.player_steps}: "
                "it is finished, unless you raise --steps"
            )
    else:
        config = _new(arguments)
        folder = RunFolder.of(config.run)
        if folder.path.exists():
            raise ConfigError(f"{folder.path} exists: go on with --resume {config.run.name}, or give another --run")
    if arguments.redis:
        _require(arguments.redis)
    if arguments.actors is not None and arguments.actors < 0:
        raise ConfigError(f"--actors {arguments.actors}: expected how many, 0 if all of them run elsewhere")
    if arguments.serial:
        from deploy.serial import train

        ledger = train(config, arguments.redis, stop_on_signals())
    else:
        from deploy.supervisor import Supervisor

        left = max(1, len(os.sched_getaffinity(0)) - learner_threads(config.learner))
        actors = left if arguments.actors is None else arguments.actors
        ledger = Supervisor(config, actors, arguments.redis, stop_on_signals()).run()
    if ledger is None:
        print(f"stopped; go on with: bidist train --resume {folder.path.name}")
    else:
        from deploy.summary import write_summary

        write_summary(folder, ledger=ledger)
    return 0


def _learner(arguments: argparse.Namespace) -> int:
    from learner import service
    from learner.ranks import rank

    folder = RunFolder((arguments.folder or Path("runs")) / arguments.run)
    config = _resumed(arguments, folder) if folder.config.exists() else _new(arguments)
    service.device_of(config.learner.device)
    if rank() > 0:
        stop_on_signals()  # rank 0 says when it is over
        service.follow(config)
        return 0
    store = _store(arguments)
    with folder.held("learner", LEARNER_LEAVES_S):
        folder.create(config)
        service.run(store, config, arguments.listen, arguments.host)
    return 0


def _actor(arguments: argparse.Namespace) -> int:
    from actors import actor

    name = arguments.name or f"{socket.gethostname()}-{os.getpid()}"
    actor.run(_store(arguments), name)
    return 0


def _distiller(arguments: argparse.Namespace) -> int:
    from distiller import service

    service.run(_store(arguments))
    return 0


def _store(arguments: argparse.Namespace) -> Store:
    """The keys of a role's run, in a Redis that answers."""
    _require(arguments.redis)
    return Store(arguments.redis, arguments.run, stop_on_signals())


def _require(url: str) -> None:
    """Says at once, rather than after patience, that no Redis is where one was said to be."""
    if (reason := refusal(url)) is not None:
        raise StoreError(f"no Redis answers at {shown(url)}: {reason}; start one there, or name another with --redis")


def _health(arguments: argparse.Namespace) -> int:
    from deploy import health

    found = health.problem(arguments.redis, arguments.run, arguments.role, arguments.patience, arguments.alive)
    print(found or "well")
    return 1 if found else 0


def _status(arguments: argparse.Namespace) -> int:
    from deploy import views

    return views.status(arguments.redis, arguments.run, arguments.folder)


def _watch(arguments: argparse.Namespace) -> int:
    from deploy import views

    return views.watch(arguments.redis, arguments.run, arguments.folder)


def _evaluate(arguments: argparse.Namespace) -> int:
    from evaluator import evaluate

    if arguments.episodes < 1 or arguments.workers < 0:
        raise ConfigError(f"--episodes {arguments.episodes} --workers {arguments.workers}: expected positive numbers")
    if not arguments.runs and not arguments.random:
        raise ConfigError("nobody to evaluate: name a run, or --random SUBSTRATE")
    stopping = stop_on_signals()
    options = {
        "scenarios": arguments.scenarios, "episodes": arguments.episodes, "seed": arguments.seed,
        "workers": arguments.workers, "original": arguments.reference, "stopping": stopping,
    }  # fmt: skip
    folders = [_run_folder(arguments, run) for run in arguments.runs]
    if arguments.follow:
        if len(folders) != 1 or arguments.random:
            raise ConfigError("--follow follows one run: name one")
        if arguments.checkpoints:
            raise ConfigError("--follow takes each newest checkpoint by itself: leave --checkpoint out")
        evaluate.follow(folders[0], arguments.out or folders[0].evaluation, **options)
        return 0
    people = {f.evaluation: evaluate.populations(f, arguments.checkpoints or ["newest"]) for f in folders}
    for substrate in arguments.random:
        person = evaluate.random_population(substrate)
        people[RunFolder(arguments.folder / person.run).evaluation] = [person]
    if arguments.out:
        people = {arguments.out: [person for group in people.values() for person in group]}
    for person in (person for group in people.values() for person in group):
        evaluate.check(person, arguments.scenarios)
    for out, group in people.items():
        if not evaluate.evaluate(group, out=out, **options):
            print("stopped; the same command goes on")
            return INTERRUPTED
        evaluate.show(group, out, arguments.seed, arguments.reference)
    return 0


def _record(arguments: argparse.Namespace) -> int:
    from evaluator.evaluate import populations
    from evaluator.record import record

    folder = _run_folder(arguments, arguments.run)
    person = populations(folder, [arguments.checkpoint])[-1]
    name = f"{arguments.scenario or 'among_themselves'}-{arguments.episode}.mp4"
    out = arguments.out or folder.path / name
    started = time.monotonic()
    print(f"playing and recording {arguments.scenario or 'the population among itself'}", flush=True)
    episode = record(person, arguments.scenario, arguments.episode, arguments.seed, out)
    print(
        f"{out}: {episode.env_steps} steps in {time.monotonic() - started:.0f} s, focal return per capita "
        f"{episode.focal_return:.2f}" + (f", bots {', '.join(episode.bots)}" if episode.bots else "")
    )
    return 0


def _diversity(arguments: argparse.Namespace) -> int:
    from evaluator.diversity import compare

    print("showing the policies of every checkpoint the same observations", flush=True)
    found = compare([_run_folder(arguments, run) for run in arguments.runs], arguments.out, arguments.seed)
    for d in found:
        kinds = ", ".join(f"{kind} {distance:.3f}" for kind, distance in d.by_kind.items())
        print(f"{d.run}: {len(d.policies)} policies, mean distance {d.mean:.3f} ({d.low:.3f} to {d.high:.3f});")
        print(f"  from its newest theta: {kinds}")
    print(f"written: {arguments.out}/diversity.json, {arguments.out}/diversity.png")
    return 0


def _run_folder(arguments: argparse.Namespace, run: str) -> RunFolder:
    """A run by its folder, or by its name in --folder."""
    return RunFolder(Path(run) if Path(run).is_dir() else arguments.folder / run)


def _report(arguments: argparse.Namespace) -> int:
    from deploy.curves import compare_curves
    from evaluator.report import write_report
    from evaluator.results import read_results

    rows = read_results(arguments.results)
    folders = [RunFolder(c.parent) for path in arguments.results if path.is_dir() for c in path.rglob("config.yaml")]
    trained = [folder for folder in folders if read_lines(folder.metrics)]
    curves = None
    if trained:
        arguments.out.mkdir(parents=True, exist_ok=True)
        curves = arguments.out / "learning_curves.png"
        compare_curves(trained, curves)
    print(f"{len(rows)} episodes; report: {write_report(rows, arguments.out, curves)}")
    return 0


def _doctor(arguments: argparse.Namespace) -> int:
    from deploy import doctor

    del arguments
    return doctor.run()


def _bench(arguments: argparse.Namespace) -> int:
    from deploy import bench, bench_methods, bench_scenarios

    if arguments.methods:
        return bench_methods.run(
            arguments.methods, arguments.substrate, arguments.seconds, arguments.rounds, arguments.out
        )
    if arguments.scenarios:
        return bench_scenarios.run(arguments.scenarios, arguments.seconds, arguments.rounds, arguments.out)
    return bench.run(arguments.substrate, arguments.seconds, arguments.rounds, arguments.out)


if __name__ == "__main__":
    sys.exit(main())
