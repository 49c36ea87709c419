"""The commands that play checkpoints, or the user's own policy: official scenarios, videos."""

import argparse
import time
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cli.arguments import INTERRUPTED, add_folder, count, minutes, positive
from cli.commands import Commands
from cli.signals import stop_on_signals
from common.errors import ConfigError
from common.run_folder import RunFolder, find_run

if TYPE_CHECKING:
    from evaluator.evaluate import EvaluatedPopulation

EXAMPLES = """\
examples:
  bidist evaluate NAME                            the newest checkpoint, in the game's scenarios 0 to 4
  bidist evaluate NAME --scenario coins_3 --checkpoint all
  bidist evaluate --random coins                  players who act at random, for comparison
  bidist evaluate --policy module:build --scenario coins_3     your own policy, trained anywhere

Repeat an interrupted command to resume it: no episode is played twice.
"""


def add_parsers(commands: Commands) -> None:
    """Adds `evaluate` and `record`."""
    _add_evaluate(commands)
    record = commands.add("evaluate", "record", "record a video of one episode", _record, "RUN")
    record.add_argument("run", metavar="RUN", help="a run's folder, or its name in --folder")
    record.add_argument("--scenario", metavar="NAME", help="a scenario (default: self-play, which needs no bots)")
    record.add_argument("--checkpoint", default="newest", metavar="NAME", help="which to play (default: newest)")
    record.add_argument(
        "--episode", type=count, default=0, metavar="N", help="the episode's number, as in evaluate (default: 0)"
    )
    record.add_argument("--seed", type=count, default=0, metavar="N", help="seed of the evaluation (default: 0)")
    record.add_argument(
        "--every",
        type=minutes,
        metavar="MINUTES",
        help="film self-play of the newest checkpoint this often until the run ends, as `train --film-every` does",
    )
    record.add_argument(
        "--out", type=Path, metavar="FILE.mp4", help="the video (default: in the run, by scenario and number)"
    )
    add_folder(record)


def _add_evaluate(commands: Commands) -> None:
    summary = "play checkpoints in official scenarios, among DeepMind's bots"
    evaluate = commands.add("evaluate", "evaluate", summary, _evaluate, "[RUN ...]", EXAMPLES)
    evaluate.add_argument("runs", nargs="*", metavar="RUN", help="a run's folder, or its name in --folder")
    evaluate.add_argument(
        "--random", action="append", default=[], metavar="GAME", help="evaluate random players in this game; repeatable"
    )
    evaluate.add_argument(
        "--policy",
        metavar="MODULE:BUILD",
        help="evaluate the policy that this function returns (docs/python.md), instead of runs; needs --scenario",
    )
    evaluate.add_argument(
        "--scenario",
        action="append",
        metavar="NAME",
        dest="scenarios",
        help="a scenario (default: 0 to 4 of the run's game; `bidist list scenarios` lists them); repeatable",
    )
    evaluate.add_argument(
        "--checkpoint",
        action="append",
        metavar="NAME",
        dest="checkpoints",
        help="newest (default), all, or a checkpoint's name; repeatable",
    )
    evaluate.add_argument("--average", action="store_true", help="play the running average of theta")
    evaluate.add_argument(
        "--episodes", type=positive, default=20, metavar="N", help="episodes per scenario (default: 20)"
    )
    evaluate.add_argument("--seed", type=count, default=0, metavar="N", help="seed of the evaluation (default: 0)")
    evaluate.add_argument("--workers", type=count, default=0, metavar="N", help="processes (default: one per core)")
    evaluate.add_argument(
        "--out", type=Path, metavar="FILE", help="the results (default: evaluation.jsonl in the run's folder)"
    )
    add_folder(evaluate)
    evaluate.add_argument("--follow", action="store_true", help="evaluate each new checkpoint until the run ends")
    evaluate.add_argument(
        "--reference", action="store_true", help="play through Melting Pot's own API, slowly, as a check"
    )


def _evaluate(arguments: argparse.Namespace) -> int:
    from evaluator import evaluate

    if not arguments.runs and not arguments.random and not arguments.policy:
        raise ConfigError("nothing to evaluate: name a run, --random GAME or --policy MODULE:BUILD")
    names = ("scenarios", "episodes", "seed", "workers", "reference")
    options = {**{name: getattr(arguments, name) for name in names}, "stopping": stop_on_signals()}
    if arguments.policy:
        return _evaluate_policy(arguments, options)
    if arguments.follow:
        return _follow(arguments, options)
    folders = [find_run(arguments.folder, run) for run in arguments.runs]
    groups = {
        f.evaluation: evaluate.populations(f, arguments.checkpoints or ["newest"], arguments.average) for f in folders
    }
    for substrate in arguments.random:
        random = evaluate.random_population(substrate)
        groups[RunFolder(arguments.folder / random.run).evaluation] = [random]
    populations = [population for group in groups.values() for population in group]
    for population in populations:
        evaluate.check(population, arguments.scenarios)
    return _play({arguments.out: populations} if arguments.out else groups, options)


def _follow(arguments: argparse.Namespace, options: dict[str, Any]) -> int:
    """Evaluates each newest checkpoint of a run, which may not have begun yet."""
    from evaluator import evaluate
    from reports.terminal import show

    if len(arguments.runs) != 1 or arguments.random:
        raise ConfigError("--follow follows one run: name one")
    if arguments.checkpoints or arguments.average:
        raise ConfigError("--follow chooses the checkpoints itself: leave --checkpoint and --average out")
    (run,), stopping = arguments.runs, options["stopping"]
    folder = evaluate.begun(arguments.folder, run, stopping)
    out = arguments.out or folder.evaluation
    shown = partial(show, out=out, seed=arguments.seed, reference=arguments.reference)
    evaluate.follow(folder, out, shown=shown, **options)
    return INTERRUPTED if stopping.is_set() else 0


def _evaluate_policy(arguments: argparse.Namespace, options: dict[str, Any]) -> int:
    from evaluator import evaluate
    from evaluator.external import build_policy
    from evaluator.results import rows_of
    from evaluator.scenarios import scenario

    if arguments.runs or arguments.random or arguments.follow or arguments.checkpoints or arguments.average:
        raise ConfigError("--policy plays alone: leave runs, --random, --follow, --checkpoint and --average out")
    if arguments.reference or not arguments.scenarios:
        raise ConfigError("--policy needs --scenario NAME, and does not play with --reference")
    build_policy(arguments.policy)
    population = evaluate.foreign_population(arguments.policy, scenario(arguments.scenarios[0]).substrate)
    evaluate.check(population, arguments.scenarios)
    out = arguments.out or RunFolder(arguments.folder / population.run).evaluation
    if out.exists() and any(row["run"] == population.run for row in rows_of(out)):
        print(f"{out} has episodes of {arguments.policy} already; if the policy has changed, name another --out")
    return _play({out: [population]}, {**options, "policy": arguments.policy})


def _play(groups: Mapping[Path, list["EvaluatedPopulation"]], options: dict[str, Any]) -> int:
    """Evaluates groups of populations, each into a file, and prints their returns."""
    from evaluator import evaluate
    from reports.terminal import show

    for out, group in groups.items():
        if not evaluate.evaluate(group, out=out, **options):
            print("stopped; run the same command again to resume")
            return INTERRUPTED
        show(group, out, options["seed"], options["reference"])
    return 0


def _record(arguments: argparse.Namespace) -> int:
    from evaluator.evaluate import populations
    from evaluator.record import record

    folder = find_run(arguments.folder, arguments.run)
    if arguments.every:
        from evaluator.films import film_training

        if (
            arguments.scenario
            or arguments.out
            or arguments.checkpoint != "newest"
            or arguments.episode
            or arguments.seed
        ):
            raise ConfigError(
                "--every films self-play of the newest checkpoint: leave --scenario, --checkpoint, --episode, --seed "
                "and --out out"
            )
        film_training(folder, 60 * arguments.every, stop_on_signals())
        return 0
    population = populations(folder, [arguments.checkpoint])[-1]
    name = f"{arguments.scenario or 'among_themselves'}-{arguments.episode}.mp4"
    out = arguments.out or folder.path / name
    started = time.monotonic()
    print(f"playing and recording {arguments.scenario or 'self-play'}", flush=True)
    episode = record(population, arguments.scenario, arguments.episode, arguments.seed, out)
    print(
        f"{out}: {episode.env_steps} steps in {time.monotonic() - started:.0f} s, focal return per capita "
        f"{episode.focal_return:.2f}" + (f", bots {', '.join(episode.bots)}" if episode.bots else "")
    )
    return 0
