"""The commands that play checkpoints: in official scenarios, for a film, to tell policies apart."""

import argparse
import time
from functools import partial
from pathlib import Path
from typing import Any

from cli.arguments import INTERRUPTED, add_folder, count
from cli.signals import stop_on_signals
from common.errors import ConfigError
from common.run_folder import RunFolder, find_run


def add_parsers(commands: Any) -> None:
    """Adds them to the sub-commands of `bidist`."""
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
    evaluate.add_argument("--seed", type=count, default=0, help="of the evaluation (default: 0)")
    evaluate.add_argument("--workers", type=int, default=0, metavar="N", help="processes (default: one a core)")
    evaluate.add_argument("--out", type=Path, metavar="FILE", help="results (default: evaluation.jsonl in the run)")
    add_folder(evaluate)
    evaluate.add_argument("--follow", action="store_true", help="evaluate each newest checkpoint until the run ends")
    evaluate.add_argument("--reference", action="store_true", help="through Melting Pot's own API: slow")
    evaluate.set_defaults(handler=_evaluate)

    record = commands.add_parser("record", help="a film of one episode, the focal players in white frames")
    record.add_argument("run", metavar="RUN", help="a run's folder, or its name in --folder")
    record.add_argument("--scenario", metavar="NAME", help="default: the population among itself, without bots")
    record.add_argument("--checkpoint", default="newest", metavar="NAME", help="default: newest")
    record.add_argument("--episode", type=count, default=0, metavar="N", help="its number, as in evaluate (default: 0)")
    record.add_argument("--seed", type=count, default=0, help="of the evaluation (default: 0)")
    record.add_argument("--out", type=Path, metavar="FILE.mp4", help="default: in the run, by scenario and number")
    add_folder(record)
    record.set_defaults(handler=_record)

    diversity = commands.add_parser("diversity", help="how different the policies are that were met in training")
    diversity.add_argument("runs", nargs="+", metavar="RUN", help="runs of one game: folders, or names in --folder")
    diversity.add_argument("--out", type=Path, default=Path("diversity"), metavar="FOLDER", help="default: diversity")
    diversity.add_argument("--seed", type=count, default=0, help="of the games that give the observations (default: 0)")
    add_folder(diversity)
    diversity.set_defaults(handler=_diversity)


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
        "workers": arguments.workers, "reference": arguments.reference, "stopping": stopping,
    }  # fmt: skip
    folders = [find_run(arguments.folder, run) for run in arguments.runs]
    if arguments.follow:
        if len(folders) != 1 or arguments.random:
            raise ConfigError("--follow follows one run: name one")
        if arguments.checkpoints or arguments.average:
            raise ConfigError("--follow takes each newest checkpoint by itself: leave --checkpoint and --average out")
        out = arguments.out or folders[0].evaluation
        shown = partial(show, out=out, seed=arguments.seed, reference=arguments.reference)
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
            return INTERRUPTED
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
