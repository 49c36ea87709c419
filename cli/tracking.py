"""The command `track`: sends a run to an experiment tracker."""

import argparse

from cli.arguments import add_folder
from cli.commands import Commands
from cli.extras import require
from cli.signals import stop_on_signals
from common.run_folder import find_run
from reports.trackers import TRACKERS

EXAMPLES = """\
examples:
  bidist track NAME --to wandb                     a run in training, until it ends, or a finished one
  WANDB_MODE=offline bidist track NAME --to wandb  into the run's folder; `wandb sync` uploads it later
  MLFLOW_TRACKING_URI=http://HOST:5000 bidist track NAME --to mlflow
"""


def add_parsers(commands: Commands) -> None:
    """Adds `track`."""
    summary = "send a run's metrics and settings to Weights & Biases or MLflow"
    track = commands.add("look", "track", summary, _track, "RUN", EXAMPLES)
    track.add_argument("run", metavar="RUN", help="a run's folder, or its name in --folder")
    track.add_argument("--to", required=True, choices=[*TRACKERS], help="the tracker")
    add_folder(track)


def _track(arguments: argparse.Namespace) -> int:
    require("track", arguments.to)
    from reports.tracking import track

    folder = find_run(arguments.folder, arguments.run)
    sent = track(folder, arguments.to, TRACKERS[arguments.to], stop_on_signals())
    print(f"sent {sent} rows of {folder.path} to {arguments.to}")
    return 0
