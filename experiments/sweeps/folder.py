"""The folder of a sweep: which trials may be added to it, its progress and its rows."""

from pathlib import Path

from rich.console import Console

import environments
from common.config import EnvironmentConfig
from common.errors import ConfigError
from common.settings import setting_variables
from evaluator.scenarios import require_bots, scenario
from experiments.sweeps.plan import PLAN, Plan, read_plan
from experiments.sweeps.progress import NOTES, TRIALS, Notes, progress, row, write_rows
from experiments.sweeps.view import Clock, render


def open_sweep(plan: Plan, folder: Path) -> None:
    """Creates a sweep's folder, or adds trials to an existing sweep.

    Raises:
      ConfigError: if a game cannot be built, a scenario is unknown or belongs to another game, the plan lacks a trial
        of the existing sweep, or a trial has started with other settings.
      SetupError: if bots are not installed.
    """
    trials = plan.trials()
    if found := setting_variables():
        raise ConfigError(
            f"{', '.join(found)}: environment variables would change every trial without showing in its command; unset "
            "them and put the settings into the plan"
        )
    for substrate in plan.substrates:
        environments.spec(EnvironmentConfig(substrate=substrate))
    for trial in trials:
        for known in (scenario(name) for name in trial.scenarios):
            if known.substrate != trial.substrate:
                raise ConfigError(f"trial {trial.name}: {known.name} is a scenario of another game; give its number")
    require_bots([scenario(name) for name in {name for trial in trials for name in trial.scenarios}])
    names = {trial.name for trial in trials}
    if (folder / PLAN).exists():
        for trial in read_plan(folder, {}).trials():
            if trial.name not in names:
                raise ConfigError(
                    f"{folder} holds another sweep: its trial {trial.name} is not in this plan; choose another --out, "
                    "or include the existing trials in the plan"
                )
    for trial in trials:
        record, place = Notes.of(folder, trial).read(), trial.folder(folder)
        if record and record["command"] != trial.command:
            raise ConfigError(
                f"{folder} holds {trial.name}, started by `{record['command']}`, which is not `{trial.command}`: "
                "name a new variant, or choose another --out"
            )
        if not record and place.path.exists():
            raise ConfigError(f"{place.path} is a run that this sweep did not start: move it, or choose another --out")
    (folder / NOTES).mkdir(parents=True, exist_ok=True)
    plan.save(folder)


def show(folder: Path) -> bool:
    """Prints a sweep's progress and writes its rows; returns whether all trials are done.

    Raises:
      ConfigError: if there is no sweep.
    """
    if not (folder / PLAN).exists():
        raise ConfigError(f"there is no sweep at {folder}: no {PLAN} was found in it")
    trials = read_plan(folder, {}).trials()
    states = {trial: progress(folder, trial) for trial in trials}
    Console().print(render(states, Clock(), folder))
    save_rows(folder)
    return all(seen.state == "done" for seen in states.values())


def save_rows(folder: Path) -> None:
    """Writes a row for each trial that has started."""
    trials = read_plan(folder, {}).trials()
    write_rows([row(folder, t) for t in trials if Notes.of(folder, t).read()], folder / TRIALS)
