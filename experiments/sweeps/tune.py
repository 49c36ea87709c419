"""Searches for settings with Optuna: each suggestion is a variant of a sweep, run over the plan's seeds and measured.

The study is a journal file in the sweep's folder, so several processes and machines can search together. A search that
was killed resumes: abandoned suggestions continue from their runs' checkpoints.
"""

import contextlib
import logging
import math
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from common.errors import ConfigError, SetupError
from common.files import locked, write
from common.settings import read_yaml
from evaluator.scenarios import OFFICIAL, scenario
from experiments.sweeps.folder import open_sweep
from experiments.sweeps.plan import PLAN, Plan, make_plan, merge, read_plan
from experiments.sweeps.progress import NOTES, row
from experiments.sweeps.ranges import Range, split_ranges
from experiments.sweeps.report import evenness, scaled
from experiments.sweeps.sweep import Sweep
from experiments.sweeps.trial import Settings

log = logging.getLogger(__name__)

SEARCH, JOURNAL, REPORT = "tune.yaml", "study.journal", "tune.md"
PATIENCE_S = 60.0
MEASURES = {
    "return_auc": "the mean training return over all player steps",
    "return_end": "the training return over the last tenth",
    "scaled": "the mean over validation scenarios of (x - random) / (ACB - random)",
    "evenness": "the worst validation scenario's return over the best's",
}


class Search:
    """A search for settings.

    Args:
      tree: a plan's keys, with ranges among its `settings`, and `measure`, one of `MEASURES`, to be maximised.
      folder: the folder of the search and its runs.
      jobs, options, stopping: as for `Sweep`.

    Raises:
      ConfigError: if no setting has a range, the measure would use test scenarios or lacks scenarios, or the folder
        holds another search.
      SetupError: if Optuna is not installed.
    """

    def __init__(
        self, tree: Mapping[str, Any], folder: Path, jobs: int, options: Sequence[str], stopping: threading.Event
    ) -> None:
        self._optuna = _optuna()
        self._tree = {"measure": "return_auc", **tree}
        fixed, self._ranges = split_ranges(self._tree.get("settings") or {})
        self._measure = str(self._tree["measure"])
        if "variants" in tree:
            raise ConfigError("a search makes its own variants: leave `variants` out of the plan")
        self._plan = make_plan({key: x for key, x in self._tree.items() if key != "measure"} | {"settings": fixed})
        _check(self._plan, self._ranges, self._measure)
        self._folder, self._jobs, self._options, self._stopping = folder, jobs, options, stopping

    def run(self, trials: int) -> bool:
        """Searches until a number of suggestions are measured or have failed, including those of other processes.

        Returns: False if the search was stopped first, or if suggestions are still being measured elsewhere.
        """
        self._open()
        state = self._optuna.trial.TrialState
        backend = self._optuna.storages.journal.JournalFileBackend(str(self._folder / JOURNAL))
        storage = self._optuna.storages.JournalStorage(backend)
        study = self._optuna.create_study(storage=storage, study_name="tune", direction="maximize", load_if_exists=True)
        while not self._stopping.is_set():
            with contextlib.ExitStack() as claim:
                if (chosen := self._next(study, trials, claim)) is None:
                    break
                self._work(study, *chosen)
        self.write_report(study)
        if running := len(study.get_trials(states=[state.RUNNING])):
            print(f"{running} suggestions are not measured yet: other processes are measuring them, or were stopped")
        return len(study.get_trials(states=[state.COMPLETE, state.FAIL])) >= trials

    def write_report(self, study: Any) -> None:
        """Writes the suggestions as `tune.md`, best first, and prints the best."""
        done = sorted((t for t in study.get_trials() if t.value is not None), key=lambda t: -t.value)
        keys = [r.key for r in self._ranges]
        seeds = ", ".join(map(str, self._plan.seeds))
        lines = [
            f"# Search by `{self._measure}`",
            "",
            f"The measure is {MEASURES[self._measure]}, averaged over seeds {seeds}.",
            "The best of many is partly luck: repeat it with other seeds. The commands are in `trials.csv`.",
            "",
            f"| variant | {self._measure} | {' | '.join(keys)} |",
            "|---" * (len(keys) + 2) + "|",
        ]
        for t in done:
            lines.append(f"| {_name(t.number)} | {t.value:.4g} | {' | '.join(_short(t.params.get(k)) for k in keys)} |")
        write(self._folder / REPORT, ("\n".join(lines) + "\n").encode())
        if done:
            best = " ".join(f"--set {key}={_short(done[0].params[key])}" for key in keys)
            print(f"best of {len(done)}: {self._measure} {done[0].value:.4g} with {best}")
        print(f"report: {self._folder / REPORT}")

    def _open(self) -> None:
        """Writes the search into its folder, or checks that the folder holds the same search."""
        (self._folder / NOTES).mkdir(parents=True, exist_ok=True)
        place = self._folder / SEARCH
        if place.exists():
            before = read_yaml(place)
            for key in before.keys() | self._tree.keys():
                if before.get(key) != self._tree.get(key):
                    raise ConfigError(
                        f"{self._folder} holds a search with {key}={before.get(key)!r}, which is not "
                        f"{self._tree.get(key)!r}: choose another --out"
                    )
        else:
            write(place, yaml.safe_dump(self._tree, sort_keys=False).encode())

    def _next(self, study: Any, trials: int, claim: contextlib.ExitStack) -> tuple[int, Settings] | None:
        """Claims an abandoned suggestion or asks for a new one; returns None if there are enough."""
        state = self._optuna.trial.TrialState
        with locked(self._folder / NOTES / "ask.lock", PATIENCE_S):
            for trial in study.get_trials(states=[state.RUNNING]):
                try:
                    claim.enter_context(locked(self._claim_of(trial.number)))
                except TimeoutError:
                    continue
                if trial.params.keys() == {r.key for r in self._ranges}:
                    return trial.number, dict(trial.params)
                study.tell(trial.number, state=state.FAIL)  # killed before it had asked for every parameter
            if len(study.get_trials()) >= trials:
                return None
            study.sampler = self._optuna.samplers.TPESampler(seed=len(study.get_trials()), constant_liar=True)
            trial = study.ask()
            claim.enter_context(locked(self._claim_of(trial.number)))
            return trial.number, {r.key: r.suggest(trial) for r in self._ranges}

    def _claim_of(self, number: int) -> Path:
        return self._folder / NOTES / f"{_name(number)}.claim"

    def _work(self, study: Any, number: int, params: Settings) -> None:
        """Runs a suggestion and reports its measure to the study."""
        failed = self._optuna.trial.TrialState.FAIL
        plan = self._extend(_name(number), params)
        done = Sweep(plan, self._folder, self._jobs, self._options, self._stopping).run()
        if self._stopping.is_set():
            return
        value = self._value(plan) if done else math.nan
        if math.isnan(value):
            log.warning(
                "%s has no %s: %s", _name(number), self._measure, "a run failed" if not done else "see its rows"
            )
            study.tell(number, state=failed)
        else:
            log.info("%s: %s %.4g with %s", _name(number), self._measure, value, params)
            study.tell(number, value)

    def _extend(self, name: str, settings: Settings) -> Plan:
        """Adds a variant to the sweep's plan; returns the plan of this variant alone."""
        with locked(self._folder / NOTES / "plan.lock", PATIENCE_S):
            known = read_plan(self._folder, {}).variants if (self._folder / PLAN).exists() else {}
            open_sweep(_with_variants(self._plan, known | {name: settings}), self._folder)
        return _with_variants(self._plan, {name: settings})

    def _value(self, plan: Plan) -> float:
        trials = plan.trials()
        rows = [row(self._folder, trial) for trial in trials]
        if self._measure in ("scaled", "evenness"):
            measure = scaled if self._measure == "scaled" else evenness
            values = [measure(found, trial.scenarios) for found, trial in zip(rows, trials, strict=True)]
        else:
            values = [found[self._measure] for found in rows]
        return float(np.mean([math.nan if value is None else value for value in values]))


def read_search(path: Path | None, changes: Mapping[str, Any]) -> dict[str, Any]:
    """Reads a search from a file or from the folder of a search, with changes from the command line.

    Raises:
      ConfigError: if the file cannot be read.
    """
    if path is None:
        return dict(changes)
    return merge(read_yaml(path / SEARCH if path.is_dir() else path), changes)


def _check(plan: Plan, ranges: Sequence[Range], measure: str) -> None:
    if not ranges:
        raise ConfigError("nothing to search: give a range, such as --set learner.learning_rate=log:1e-4..1e-3")
    if measure not in MEASURES:
        raise ConfigError(f"--measure {measure}: expected one of {', '.join(MEASURES)}")
    for one in ranges:
        for value in one.examples:
            _with_variants(plan, {"end": {one.key: value}})
    names = [name for trial in plan.trials() for name in trial.scenarios]
    if measure in ("scaled", "evenness") and not names:
        raise ConfigError(f"--measure {measure} needs validation scenarios: name them with --scenario")
    for name in (scenario(name).name for name in names):
        if int(name.rpartition("_")[2]) < OFFICIAL:
            raise ConfigError(
                f"{name} is a test scenario: tuning on it would invalidate the test; use scenarios from {OFFICIAL} on"
            )


def _with_variants(plan: Plan, variants: Mapping[str, Settings]) -> Plan:
    return make_plan(plan.model_dump() | {"variants": variants})


def _optuna() -> Any:
    try:
        import optuna
    except ImportError:
        raise SetupError('bidist tune needs Optuna: pip install "bidist[tune]"') from None
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna


def _name(number: int) -> str:
    return f"t{number}"


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
