"""Table 1 and Figure 1 of the paper: trains, evaluates and reports all of it, and resumes from what is archived."""

import threading
from collections.abc import Sequence
from pathlib import Path

from evaluator.results import number_of, read_results
from experiments.sweeps.archive import restore
from experiments.sweeps.folder import open_sweep
from experiments.sweeps.plan import read_plan
from experiments.sweeps.report import write_sweep_report
from experiments.sweeps.sweep import Sweep
from reports.evaluation import write_report
from reports.provenance import record_command

PAPER = Path(__file__).parents[1] / "paper"
# The plans in the order in which they run: Figure 1 needs the first.
GAMES = ("pure_coordination", "prisoners_dilemma", "chicken", "coins", "coop_mining")
SMALL = ("small",)
ARCHIVE = "trials"
TEST_SCENARIOS = 5


def reproduce(
    small: bool,
    work: Path,
    out: Path,
    jobs: int,
    options: Sequence[str],
    stopping: threading.Event,
    command: Sequence[str],
    plans: Path = PAPER,
    train: bool = True,
) -> bool:
    """Runs the paper's experiments game by game, and reports after each.

    Args:
      small: whether to run the short version.
      work: a sweep's folder for each game is made in it.
      out: gets `report.md` with Table 1, a folder for each game with its learning curves, and the archive `trials`.
      jobs: runs at a time.
      options: further arguments of `bidist train` that do not affect learning.
      stopping: when set, the runs stop with a checkpoint.
      command: recorded with the results as the one that made them, word by word.
      plans: the folder of the plans.
      train: whether to run what is not archived yet; if not, only what is gets reported.

    Returns: whether everything that it was to run is done.

    Raises:
      ConfigError: if the archive or the work folder holds something else.
      SetupError: if bots are not installed.
    """
    done = True
    for game in SMALL if small else GAMES:
        plan, folder = read_plan(plans / f"{game}.yaml", {}), work / game
        open_sweep(plan, folder)
        restore(folder, plan.trials(), out / ARCHIVE)
        if train:
            done &= Sweep(plan, folder, jobs, options, stopping, out / ARCHIVE).run()
        if any(folder.rglob("metrics.jsonl")):
            record_command(write_sweep_report(folder, out / game).parent, command)
        if _write_table(work, out):
            record_command(out, command)
        if stopping.is_set():
            return False
    return done


def _write_table(work: Path, out: Path) -> bool:
    """Reports the test scenarios that have been played so far, over all games; returns whether there are any."""
    rows = read_results([work]) if any(work.rglob("evaluation.jsonl")) else []
    test = [row for row in rows if number_of(row["scenario"]) < TEST_SCENARIOS]
    if test:
        write_report(test, out, validation=rows)
    return bool(test)
