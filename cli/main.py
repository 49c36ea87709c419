"""The command `bidist`."""

import argparse
import logging
import os
import socket
import sys
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import redis

import environments
from cli import experiments as commands
from cli.arguments import PRESET, parser
from common.config import Config, learner_threads, load_config
from common.errors import BidistError, ConfigError, StoreError
from common.files import read_lines
from common.lifecycle import stop_on_signals
from common.run_folder import RunFolder, find_run
from common.store import Store, refusal, shown
from methods import resolve

LEARNER_LEAVES_S = 30.0


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a sub-command.

    Returns: 0; 1 if what was looked at is not in order; 2 if it cannot be done as asked, 3 if something broke on the
    way and trying again may help; 2 and 3 with one line that says why.
    """
    arguments = parser().parse_args(argv)
    logging.basicConfig(
        level=logging.DEBUG if arguments.debug else logging.INFO,
        format=f"%(asctime)s {arguments.command:<9} %(levelname)-7s %(message)s",
        datefmt="%H:%M:%S",
    )
    try:
        return COMMANDS[arguments.command](arguments)
    except (BidistError, redis.RedisError, OSError) as error:
        if arguments.debug:
            raise
        print(f"bidist: error: {error}", file=sys.stderr)
        return error.status if isinstance(error, BidistError) else BidistError.status


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
        print(f"stopped; resume with: bidist train --resume {folder.path.name}")
    else:
        from reports.summary import write_summary

        write_summary(folder, arguments.games, ledger)
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
    from reports.terminal import show

    if arguments.episodes < 1 or arguments.workers < 0:
        raise ConfigError(f"--episodes {arguments.episodes} --workers {arguments.workers}: expected positive numbers")
    if not arguments.runs and not arguments.random:
        raise ConfigError("nobody to evaluate: name a run, or --random SUBSTRATE")
    stopping = stop_on_signals()
    options = {
        "scenarios": arguments.scenarios, "episodes": arguments.episodes, "seed": arguments.seed,
        "workers": arguments.workers, "original": arguments.reference, "stopping": stopping,
    }  # fmt: skip
    folders = [find_run(arguments.folder, run) for run in arguments.runs]
    if arguments.follow:
        if len(folders) != 1 or arguments.random:
            raise ConfigError("--follow follows one run: name one")
        if arguments.checkpoints or arguments.average:
            raise ConfigError("--follow takes each newest checkpoint by itself: leave --checkpoint and --average out")
        out = arguments.out or folders[0].evaluation
        shown = partial(show, out=out, seed=arguments.seed, original=arguments.reference)
        evaluate.follow(folders[0], out, shown=shown, **options)
        return 0
    people = {
        f.evaluation: evaluate.populations(f, arguments.checkpoints or ["newest"], arguments.average) for f in folders
    }
    for substrate in arguments.random:
        person = evaluate.random_population(substrate)
        people[RunFolder(arguments.folder / person.run).evaluation] = [person]
    if arguments.out:
        people = {arguments.out: [person for group in people.values() for person in group]}
    for person in (person for group in people.values() for person in group):
        evaluate.check(person, arguments.scenarios)
    for out, group in people.items():
        if not evaluate.evaluate(group, out=out, **options):
            print("stopped; run the same command again to resume")
            return commands.INTERRUPTED
        show(group, out, arguments.seed, arguments.reference)
    return 0


def _record(arguments: argparse.Namespace) -> int:
    from evaluator.evaluate import populations
    from evaluator.record import record

    folder = find_run(arguments.folder, arguments.run)
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
    from reports.diversity import compare

    print("showing the policies of every checkpoint the same observations", flush=True)
    found = compare([find_run(arguments.folder, run) for run in arguments.runs], arguments.out, arguments.seed)
    for d in found:
        kinds = ", ".join(f"{kind} {distance:.3f}" for kind, distance in d.by_kind.items())
        print(f"{d.run}: {len(d.policies)} policies, mean distance {d.mean:.3f} ({d.low:.3f} to {d.high:.3f});")
        print(f"  from its newest theta: {kinds}")
    print(f"written: {arguments.out}/diversity.json, {arguments.out}/diversity.png")
    return 0


def _doctor(arguments: argparse.Namespace) -> int:
    from cli import doctor

    del arguments
    return doctor.run()


def _bench(arguments: argparse.Namespace) -> int:
    from experiments import method_cost, scenario_speed, throughput

    if arguments.methods:
        return method_cost.run(
            arguments.methods, arguments.substrate, arguments.seconds, arguments.rounds, arguments.out
        )
    if arguments.scenarios:
        return scenario_speed.run(arguments.scenarios, arguments.seconds, arguments.rounds, arguments.out)
    return throughput.run(arguments.substrate, arguments.seconds, arguments.rounds, arguments.out)


COMMANDS = {
    "train": _train,
    "learner": _learner,
    "actor": _actor,
    "distiller": _distiller,
    "health": _health,
    "status": _status,
    "watch": _watch,
    "evaluate": _evaluate,
    "record": _record,
    "diversity": _diversity,
    "doctor": _doctor,
    "bench": _bench,
    **commands.COMMANDS,
}
