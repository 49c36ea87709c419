"""The commands that start or compare many runs: their arguments, and what each does."""

import argparse
import shlex
from dataclasses import replace
from pathlib import Path
from typing import Any

from common.config import parse_overrides
from common.errors import ConfigError
from common.files import read_lines
from common.lifecycle import stop_on_signals
from common.run_folder import RunFolder, find_run

INTERRUPTED = 130


def add_parsers(commands: Any) -> None:
    """Adds them to the sub-commands of `bidist`."""
    sweep = commands.add_parser("sweep", help="many runs: methods x variants x substrates x seeds, resumable")
    _add_plan(sweep)
    sweep.add_argument("--status", action="store_true", help="print the progress, update trials.csv and exit")
    sweep.add_argument("--slurm", type=int, metavar="N", help="submit N workers to SLURM and exit")
    sweep.add_argument("--slurm-option", action="append", default=[], metavar="KEY=VALUE", dest="slurm_options",
                       help="of submitit, such as timeout_min=600; may be given more than once")  # fmt: skip

    tune = commands.add_parser("tune", help="search for settings with Optuna; resumable")
    _add_plan(tune)
    tune.add_argument("--trials", type=int, default=20, metavar="N", help="suggestions to measure (default: 20)")
    tune.add_argument("--measure", metavar="NAME",
                      help="return_auc (default), return_end; of validation scenarios scaled, evenness")  # fmt: skip

    crossplay = commands.add_parser("crossplay", help="every population's focal players among every other's")
    crossplay.add_argument("runs", nargs="+", metavar="RUN", help="runs of one game: folders, or names in --folder")
    crossplay.add_argument("--random", action="store_true", help="players who act at random take part")
    crossplay.add_argument("--episodes", type=int, default=8, metavar="N", help="of each pair and split (default: 8)")
    crossplay.add_argument("--checkpoint", default="newest", metavar="NAME", help="of each run (default: newest)")
    crossplay.add_argument("--seed", type=int, default=0, help="of the evaluation (default: 0)")
    crossplay.add_argument("--workers", type=int, default=0, metavar="N", help="processes (default: one a core)")
    crossplay.add_argument("--out", type=Path, default=Path("crossplay"), metavar="FOLDER", help="default: crossplay")
    crossplay.add_argument("--folder", type=Path, default=Path("runs"), help="where run folders are (default: runs)")


def _add_plan(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("plan", nargs="?", type=Path, metavar="FILE", help="the plan (YAML), or a sweep's folder")
    parser.add_argument("--method", metavar="A,B", help="methods")
    parser.add_argument("--substrate", metavar="X,Y", help="games")
    parser.add_argument("--seeds", metavar="0-4", help="such as 0-4 or 0,2,5")
    parser.add_argument("--steps", type=int, metavar="N", help="player steps of each run")
    parser.add_argument("--preset", help="as for train")
    parser.add_argument("--set", action="append", default=[], metavar="SECTION.KEY=VALUE", dest="overrides",
                       help="a setting of every run; for tune also a range: log:1e-4..1e-3, 1..4, 4|8")  # fmt: skip
    parser.add_argument("--scenario", metavar="5,6", help="evaluate each run in these, numbers or names")
    parser.add_argument("--episodes", type=int, metavar="N", help="of each scenario (default: 20)")
    parser.add_argument("--games", type=int, metavar="N", help="as for train (default: 0)")
    parser.add_argument("--out", type=Path, metavar="FOLDER", help="the sweep's folder (default: sweeps/NAME)")
    parser.add_argument("--jobs", type=int, default=1, metavar="N", help="runs at a time (default: 1)")
    parser.add_argument("--actors", type=int, metavar="N", help="actor processes of each run")


def sweep(arguments: argparse.Namespace) -> int:
    """`bidist sweep`."""
    from experiments.plan import make_plan, read_plan
    from experiments.sweep import Sweep, open_sweep, show

    if arguments.jobs < 1 or (arguments.slurm is not None and arguments.slurm < 1):
        raise ConfigError(f"--jobs {arguments.jobs} --slurm {arguments.slurm}: expected 1 or more")
    changes = _changes(arguments)
    plan = make_plan(changes) if arguments.plan is None else read_plan(arguments.plan, changes)
    folder = arguments.out or _folder(arguments.plan)
    if arguments.status:
        return 0 if show(folder) else 1
    open_sweep(plan, folder)
    options = _options(arguments)
    if arguments.slurm is not None:
        from experiments.cluster import submit

        extra = [*options, "--jobs", str(arguments.jobs)]
        submitted = submit(folder, arguments.slurm, parse_overrides(arguments.slurm_options, "--slurm-option"), extra)
        print(f"submitted jobs {', '.join(str(job.job_id) for job in submitted)}")
        print(f"see how far they are: bidist sweep {folder} --status")
        return 0
    stopping = stop_on_signals()
    done = Sweep(plan, folder, arguments.jobs, options, stopping).run()
    if stopping.is_set():
        print(f"stopped; resume with: bidist sweep {folder}")
        return INTERRUPTED
    return 0 if done else 1


def tune(arguments: argparse.Namespace) -> int:
    """`bidist tune`."""
    from experiments.tune import Search, read_search

    if arguments.jobs < 1 or arguments.trials < 1:
        raise ConfigError(f"--jobs {arguments.jobs} --trials {arguments.trials}: expected 1 or more")
    changes = _changes(arguments)
    if arguments.measure is not None:
        changes["measure"] = arguments.measure
    folder = arguments.out or _folder(arguments.plan, "tune")
    stopping = stop_on_signals()
    search = Search(read_search(arguments.plan, changes), folder, arguments.jobs, _options(arguments), stopping)
    done = search.run(arguments.trials)
    if stopping.is_set():
        print("stopped; run the same command again to resume")
        return INTERRUPTED
    return 0 if done else 1


def crossplay(arguments: argparse.Namespace) -> int:
    """`bidist crossplay`."""
    from evaluator.evaluate import populations, random_population
    from evaluator.tournament import check, crossplay_all, read_rows
    from reports.crossplay import rows_of_people, show, write_report

    if arguments.episodes < 1 or arguments.workers < 0 or arguments.seed < 0:
        raise ConfigError(
            f"--episodes {arguments.episodes} --workers {arguments.workers} --seed {arguments.seed}: expected positive "
            "numbers"
        )
    if arguments.checkpoint == "all":
        raise ConfigError("--checkpoint all: one checkpoint of each run takes part; name it, or take the newest")
    folders = [find_run(arguments.folder, run) for run in arguments.runs]
    people = [person for folder in folders for person in populations(folder, [arguments.checkpoint])]
    if arguments.random:
        guest = random_population(people[0].config.environment.substrate)
        people.append(replace(guest, config=people[0].config))
    check(people)
    stopping = stop_on_signals()
    done = crossplay_all(people, arguments.episodes, arguments.out, arguments.seed, arguments.workers, stopping)
    rows = rows_of_people(read_rows(arguments.out), people, arguments.episodes, arguments.seed)
    if found := write_report(rows, arguments.out, _crossplay_command(arguments)):
        show(found, arguments.out)
    if not done:
        print("stopped; run the same command again to resume")
    return 0 if done else INTERRUPTED


def _crossplay_command(arguments: argparse.Namespace) -> str:
    command = ["bidist", "crossplay", *arguments.runs, "--episodes", str(arguments.episodes)]
    for option, default in (("checkpoint", "newest"), ("seed", 0), ("folder", Path("runs"))):
        if (value := getattr(arguments, option)) != default:
            command += [f"--{option}", str(value)]
    return shlex.join([*command, *(["--random"] if arguments.random else []), "--out", str(arguments.out)])


def report(arguments: argparse.Namespace) -> int:
    """`bidist report`."""
    from evaluator.results import read_results
    from experiments.plan import PLAN
    from experiments.sweep_report import write_sweep_report
    from reports.curves import compare_curves
    from reports.evaluation import write_report

    out, paths = arguments.out, arguments.results
    sweeps = [path for path in paths if (path / PLAN).exists()]
    for path in sweeps:
        print(f"report: {write_sweep_report(path, out if len(paths) == 1 else out / path.resolve().name)}")
    if not (rest := [path for path in paths if path not in sweeps]):
        return 0
    rows = read_results(rest)
    folders = [RunFolder(c.parent) for path in rest if path.is_dir() for c in path.rglob("config.yaml")]
    trained = [folder for folder in folders if read_lines(folder.metrics)]
    curves = None
    if trained:
        out.mkdir(parents=True, exist_ok=True)
        curves = out / "learning_curves.png"
        compare_curves(trained, curves)
    print(f"{len(rows)} episodes; report: {write_report(rows, out, curves)}")
    return 0


def _options(arguments: argparse.Namespace) -> list[str]:
    """Arguments of `bidist train` that do not change what is learnt."""
    return [] if arguments.actors is None else ["--actors", str(arguments.actors)]


def _folder(plan: Path | None, name: str = "sweep") -> Path:
    """Where a sweep lives if the command line does not say."""
    if plan is not None and plan.is_dir():
        return plan
    return Path("sweeps") / (name if plan is None else plan.stem)


def _changes(arguments: argparse.Namespace) -> dict[str, Any]:
    """What the command line says of a plan."""
    found: dict[str, Any] = {
        "methods": _listed(arguments.method), "substrates": _listed(arguments.substrate), "seeds": arguments.seeds,
        "steps": arguments.steps, "preset": arguments.preset, "games": arguments.games,
        "settings": parse_overrides(arguments.overrides) or None,
    }  # fmt: skip
    if arguments.scenario is not None:
        scenarios = [int(part) if part.isdecimal() else part for part in arguments.scenario.split(",")]
        found["evaluation"] = {"scenarios": scenarios}
    if arguments.episodes is not None:
        found["evaluation"] = {**found.get("evaluation", {}), "episodes": arguments.episodes}
    return {key: value for key, value in found.items() if value is not None}


def _listed(text: str | None) -> list[str] | None:
    return None if text is None else [part.strip() for part in text.split(",")]


COMMANDS = {"sweep": sweep, "tune": tune, "crossplay": crossplay, "report": report}
