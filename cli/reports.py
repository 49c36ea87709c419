"""The commands that make tables and figures from existing results."""

import argparse
from pathlib import Path

from cli.arguments import add_folder
from cli.commands import Commands
from common.files import read_lines
from common.run_folder import RunFolder, find_run


def add_parsers(commands: Commands) -> None:
    """Adds `report` and `curves`."""
    report = commands.add(
        "evaluate", "report", "make tables and figures from results, beside the published ones", _report, "RESULTS ..."
    )
    report.add_argument(
        "results",
        nargs="+",
        type=Path,
        metavar="RESULTS",
        help="result files, run folders, folders that contain run folders, or sweeps",
    )
    report.add_argument(
        "--out", type=Path, default=Path("report"), metavar="FOLDER", help="where to write (default: report)"
    )

    curves = commands.add(
        "evaluate", "curves", "draw the learning curves of runs, and save them as CSV", _curves, "RUN ..."
    )
    curves.add_argument("runs", nargs="+", metavar="RUN", help="a run's folder, or its name in --folder")
    curves.add_argument(
        "--out", required=True, type=Path, metavar="FILE.png", help="the figure; the CSV gets the same name"
    )
    add_folder(curves)


def _report(arguments: argparse.Namespace) -> int:
    from evaluator.results import read_results
    from experiments.sweeps.plan import PLAN
    from experiments.sweeps.report import write_sweep_report
    from reports.curves import compare_curves
    from reports.evaluation import write_report

    out, paths = arguments.out, arguments.results
    sweeps = [path for path in paths if (path / PLAN).exists()]
    for path in sweeps:
        written = write_sweep_report(path, out if len(paths) == 1 else out / path.resolve().name)
        _note(written.parent, arguments)
        print(f"report: {written}")
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
    _note(out, arguments)
    return 0


def _note(folder: Path, arguments: argparse.Namespace) -> None:
    """Records, next to a report, the command that made it."""
    from reports.provenance import record_command

    record_command(folder, ["bidist", "report", *map(str, arguments.results), "--out", str(arguments.out)])


def _curves(arguments: argparse.Namespace) -> int:
    from reports.curves import compare_curves, draw_run, write_numbers

    folders = [find_run(arguments.folder, run) for run in arguments.runs]
    if len(folders) == 1:
        draw_run(folders[0], arguments.out)
    else:
        compare_curves(folders, arguments.out)
    write_numbers(folders, arguments.out.with_suffix(".csv"))
    return 0
