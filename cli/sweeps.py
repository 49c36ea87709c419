"""The commands that start many runs: a sweep, or a search for settings."""

import argparse
from pathlib import Path
from typing import Any

from cli.arguments import INTERRUPTED, count, positive, steps
from cli.commands import Commands
from cli.signals import stop_on_signals
from common.settings import parse_overrides

SWEEP_EXAMPLES = """\
examples:
  bidist sweep --method mappo,bidist --seeds 0-4 --steps 3e6
  bidist sweep plan.yaml                     start it, or resume it
  bidist sweep sweeps/plan --status

Several processes and machines can work on one sweep: start the same command on each.
"""
REPRODUCE_NOTES = """\
Trains twelve methods with eight seeds in pure coordination and the paper's six with five seeds in the other four
games: 216 runs of 1 million player steps, each followed by its evaluation. On two cores that takes one to three days.
Every finished run is kept in FOLDER/trials, and the same command resumes from there, on another machine too.
"""
TUNE_EXAMPLES = """\
example:
  bidist tune --method mappo learner.learning_rate=log:1e-4..1e-3 'learner.minibatches=4|8|16'
"""


def add_parsers(commands: Commands) -> None:
    """Adds `sweep`, `reproduce` and `tune`."""
    summary = "train a matrix of methods, variants, substrates and seeds; resumable"
    sweep = commands.add("many runs", "sweep", summary, _sweep, "[PLAN] [SECTION.KEY=VALUE ...]", SWEEP_EXAMPLES)
    _add_plan(sweep)
    sweep.add_argument("--status", action="store_true", help="print the progress, update trials.csv and exit")
    sweep.add_argument(
        "--archive",
        type=Path,
        metavar="FOLDER",
        help="keep each trial's measurements here, in a small file without checkpoints; trials here count as done",
    )
    sweep.add_argument("--slurm", type=positive, metavar="N", help="submit N workers to SLURM and exit")
    sweep.add_argument(
        "--slurm-option",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        dest="slurm_options",
        help="an option of submitit, such as timeout_min=600; repeatable",
    )

    summary = "train and evaluate everything behind the paper's Table 1 and Figure 1; resumable"
    reproduce = commands.add("many runs", "reproduce", summary, _reproduce, notes=REPRODUCE_NOTES)
    reproduce.add_argument("--small", action="store_true", help="short runs of two games, in about twenty minutes")
    reproduce.add_argument(
        "--out", type=Path, metavar="FOLDER", help="tables, figures and archive (default: results/table-1)"
    )
    reproduce.add_argument(
        "--report-only", action="store_true", help="rebuild the report from the archive without running anything"
    )
    reproduce.add_argument("--work", type=Path, metavar="FOLDER", help="where runs are kept (default: sweeps/table-1)")
    reproduce.add_argument("--jobs", type=positive, default=1, metavar="N", help="runs at a time (default: 1)")
    reproduce.add_argument("--actors", type=count, metavar="N", help="actor processes of each run")

    summary = "search for settings with Optuna; resumable"
    tune = commands.add("many runs", "tune", summary, _tune, "[PLAN] [SECTION.KEY=RANGE ...]", TUNE_EXAMPLES)
    _add_plan(tune)
    tune.add_argument("--trials", type=positive, default=20, metavar="N", help="suggestions to measure (default: 20)")
    tune.add_argument(
        "--measure",
        metavar="NAME",
        help="what to maximise: return_auc (default), return_end, or in validation scenarios scaled, evenness",
    )


def _add_plan(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("plan", nargs="?", type=Path, metavar="PLAN", help="a YAML file, or the folder of a sweep")
    parser.add_argument("--method", metavar="A,B", help="methods")
    parser.add_argument("--substrate", metavar="X,Y", help="games")
    parser.add_argument("--seeds", metavar="0-4", help="seeds, such as 0-4 or 0,2,5")
    parser.add_argument("--steps", type=steps, metavar="N", help="player steps of each run, such as 2e6")
    parser.add_argument("--preset", metavar="PRESET", help="as for train")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="SECTION.KEY=VALUE",
        dest="overrides",
        help="a setting of every run (`bidist settings` lists them), with or without `--set` in front; repeatable; for "
        "tune also a range: log:1e-4..1e-3, 1..4, 4|8",
    )
    parser.add_argument("--scenario", metavar="5,6", help="evaluate each run in these scenarios, by number or name")
    parser.add_argument("--episodes", type=positive, metavar="N", help="episodes per scenario (default: 20)")
    parser.add_argument("--games", type=count, metavar="N", help="as for train (default: 0)")
    parser.add_argument("--out", type=Path, metavar="FOLDER", help="the sweep's folder (default: sweeps/NAME)")
    parser.add_argument("--jobs", type=positive, default=1, metavar="N", help="runs at a time (default: 1)")
    parser.add_argument("--actors", type=count, metavar="N", help="actor processes of each run")


def _sweep(arguments: argparse.Namespace) -> int:
    from experiments.sweeps.archive import restore
    from experiments.sweeps.folder import open_sweep, show
    from experiments.sweeps.plan import make_plan, read_plan
    from experiments.sweeps.sweep import Sweep

    changes = _changes(arguments)
    plan = make_plan(changes) if arguments.plan is None else read_plan(arguments.plan, changes)
    folder = arguments.out or _folder(arguments.plan)
    if arguments.status:
        return 0 if show(folder) else 1
    open_sweep(plan, folder)
    if arguments.archive is not None:
        restore(folder, plan.trials(), arguments.archive)
    options = _options(arguments)
    if arguments.slurm is not None:
        from experiments.sweeps.cluster import submit

        extra = [*options, "--jobs", str(arguments.jobs)]
        extra += ["--archive", str(arguments.archive)] if arguments.archive is not None else []
        submitted = submit(folder, arguments.slurm, parse_overrides(arguments.slurm_options, "--slurm-option"), extra)
        print(f"submitted jobs {', '.join(str(job.job_id) for job in submitted)}")
        print(f"follow their progress with: bidist sweep {folder} --status")
        return 0
    stopping = stop_on_signals()
    done = Sweep(plan, folder, arguments.jobs, options, stopping, arguments.archive).run()
    if stopping.is_set():
        print(f"stopped; resume with: bidist sweep {folder}")
        return INTERRUPTED
    return 0 if done else 1


def _reproduce(arguments: argparse.Namespace) -> int:
    from experiments.sweeps.reproduce import reproduce

    name = "table-1-small" if arguments.small else "table-1"
    work, out = arguments.work or Path("sweeps") / name, arguments.out or Path("results") / name
    stopping = stop_on_signals()
    flags = ["--small"] * arguments.small + ["--report-only"] * arguments.report_only
    command = ["bidist", "reproduce", *flags, "--out", str(out)]
    train = not arguments.report_only
    done = reproduce(arguments.small, work, out, arguments.jobs, _options(arguments), stopping, command, train=train)
    if stopping.is_set():
        print("stopped; run the same command again to resume")
        return INTERRUPTED
    print(f"report: {out / 'report.md'}")
    return 0 if done else 1


def _tune(arguments: argparse.Namespace) -> int:
    from experiments.sweeps.tune import Search, read_search

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


def _options(arguments: argparse.Namespace) -> list[str]:
    """Arguments of `bidist train` that do not affect learning."""
    return [] if arguments.actors is None else ["--actors", str(arguments.actors)]


def _folder(plan: Path | None, name: str = "sweep") -> Path:
    """The default folder of a sweep."""
    if plan is not None and plan.is_dir():
        return plan
    return Path("sweeps") / (name if plan is None else plan.stem)


def _changes(arguments: argparse.Namespace) -> dict[str, Any]:
    """The keys of a plan that the command line sets."""
    found: dict[str, Any] = {
        "methods": _listed(arguments.method),
        "substrates": _listed(arguments.substrate),
        "seeds": arguments.seeds,
        "steps": arguments.steps,
        "preset": arguments.preset,
        "games": arguments.games,
        "settings": parse_overrides(arguments.overrides) or None,
    }
    if arguments.scenario is not None:
        scenarios = [int(part) if part.isdecimal() else part for part in arguments.scenario.split(",")]
        found["evaluation"] = {"scenarios": scenarios}
    if arguments.episodes is not None:
        found["evaluation"] = {**found.get("evaluation", {}), "episodes": arguments.episodes}
    return {key: value for key, value in found.items() if value is not None}


def _listed(text: str | None) -> list[str] | None:
    return None if text is None else [part.strip() for part in text.split(",")]
