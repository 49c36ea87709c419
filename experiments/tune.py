"""Searches for settings with Optuna: each suggestion is a variant of a sweep, run over the plan's seeds and measured.

The study is a journal file in the sweep's folder, so that several processes and machines search together, and a search
that was killed goes on: a suggestion that nobody works on any more is taken up where its runs were.
"""

import logging
import math
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from common.errors import ConfigError, SetupError
from common.files import locked, write
from evaluator.scenarios import OFFICIAL
from experiments.plan import PLAN, Plan, Settings, read_plan
from experiments.sweep import Sweep, open_sweep
from experiments.sweep_report import evenness, scaled
from experiments.trials import NOTES, row

log = logging.getLogger(__name__)

JOURNAL, REPORT = "study.journal", "tune.md"
PATIENCE_S = 60.0
MEASURES = {
    "return_auc": "the mean training return over all player steps",
    "return_end": "the training return over the last tenth",
    "scaled": "the mean over validation scenarios of (x - random) / (ACB - random)",
    "evenness": "the worst validation scenario's return over the best's",
}


@dataclass(frozen=True)
class Range:
    """The values that a setting may take.

    Attributes:
      key: `section.key`.
      low, high: the ends, both included; None for choices.
      log: whether it is searched on a logarithmic scale.
      choices: the values, if they are listed.
    """

    key: str
    low: float | None = None
    high: float | None = None
    log: bool = False
    choices: tuple[Any, ...] = ()

    @classmethod
    def parse(cls, key: str, value: Any) -> "Range | None":
        """Reads `0.9..0.99`, `log:1e-4..1e-3` or `4|8|16`; None for any other value, which is no range.

        Raises:
          ConfigError: if it looks like a range and is none.
        """
        if not isinstance(value, str):
            return None
        if "|" in value:
            return cls(key, choices=tuple(_number(part) for part in value.split("|")))
        text, logarithmic = value.removeprefix("log:"), value.startswith("log:")
        low, dots, high = text.partition("..")
        if not dots:
            return None
        ends = _number(low), _number(high)
        numbers = all(isinstance(end, int | float) for end in ends)
        if not numbers or not ends[0] < ends[1] or (logarithmic and ends[0] <= 0):
            raise ConfigError(f"--set {key}={value}: expected low..high, log:low..high (above 0), or a|b|c")
        return cls(key, ends[0], ends[1], logarithmic)

    def suggest(self, trial: Any) -> Any:
        """Asks Optuna for a value."""
        if self.choices:
            return trial.suggest_categorical(self.key, self.choices)
        if isinstance(self.low, int) and isinstance(self.high, int):
            return trial.suggest_int(self.key, self.low, self.high, log=self.log)
        return trial.suggest_float(self.key, self.low, self.high, log=self.log)


class Search:
    """A search for settings.

    Args:
      plan: the runs of a suggestion; it has no variants of its own.
      ranges: what is searched.
      measure: one of `MEASURES`, made large.
      folder: of the search and its runs.
      jobs, options, stopping: as for `Sweep`.

    Raises:
      ConfigError: if there is nothing to search, or it would be measured by test scenarios or by none.
      SetupError: if Optuna is not installed.
    """

    def __init__(
        self, plan: Plan, ranges: Sequence[Range], measure: str, folder: Path, jobs: int, options: Sequence[str],
        stopping: threading.Event,
    ) -> None:  # fmt: skip
        _check(plan, ranges, measure)
        self._plan, self._ranges, self._measure, self._folder = plan, ranges, measure, folder
        self._jobs, self._options, self._stopping = jobs, options, stopping

    def run(self, trials: int) -> bool:
        """Searches until so many suggestions are measured, by all processes together; returns whether they are."""
        optuna = _optuna()
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        (self._folder / NOTES).mkdir(parents=True, exist_ok=True)
        backend = optuna.storages.journal.JournalFileBackend(str(self._folder / JOURNAL))
        study = optuna.create_study(
            storage=optuna.storages.JournalStorage(backend), study_name="tune", direction="maximize",
            load_if_exists=True, sampler=optuna.samplers.TPESampler(seed=self._seed(), constant_liar=True),
        )  # fmt: skip
        for trial in study.get_trials(states=[optuna.trial.TrialState.RUNNING]):
            if trial.params.keys() == {r.key for r in self._ranges}:
                self._work(study, trial.number, trial.params)
        while not self._stopping.is_set() and self._measured(study) + self._working(study) < trials:
            trial = study.ask()
            self._work(study, trial.number, {r.key: r.suggest(trial) for r in self._ranges})
        self.write_report(study)
        return self._measured(study) >= trials

    def write_report(self, study: Any) -> None:
        """Writes the suggestions, the best first, as `tune.md`, and prints the best."""
        done = sorted((t for t in study.get_trials() if t.value is not None), key=lambda t: -t.value)
        keys = [r.key for r in self._ranges]
        lines = [
            f"# Search by `{self._measure}`", "",
            f"The measure is {MEASURES[self._measure]}, mean over seeds {', '.join(map(str, self._plan.seeds))}.",
            "The best of many is flattered by chance: repeat it with other seeds. Commands are in `trials.csv`.", "",
            f"| variant | {self._measure} | {' | '.join(keys)} |", "|---" * (len(keys) + 2) + "|",
        ]  # fmt: skip
        for t in done:
            lines.append(f"| {_name(t.number)} | {t.value:.4g} | {' | '.join(_short(t.params.get(k)) for k in keys)} |")
        write(self._folder / REPORT, ("\n".join(lines) + "\n").encode())
        if done:
            best = " ".join(f"--set {key}={_short(done[0].params[key])}" for key in keys)
            print(f"best of {len(done)}: {self._measure} {done[0].value:.4g} with {best}")
        print(f"report: {self._folder / REPORT}")

    def _work(self, study: Any, number: int, params: Mapping[str, Any]) -> None:
        """Runs a suggestion and tells the study its measure, unless another process works on it."""
        try:
            with locked(self._folder / NOTES / f"{_name(number)}.claim"):
                plan = self._extend(_name(number), dict(params))
                if not Sweep(plan, self._folder, self._jobs, self._options, self._stopping).run():
                    if not self._stopping.is_set():
                        study.tell(number, state=_optuna().trial.TrialState.FAIL)
                    return
                value = self._value(plan)
                if math.isnan(value):
                    study.tell(number, state=_optuna().trial.TrialState.FAIL)
                else:
                    study.tell(number, value)
                log.info("%s: %s %.4g with %s", _name(number), self._measure, value, dict(params))
        except TimeoutError:
            pass

    def _extend(self, name: str, settings: Settings) -> Plan:
        """Adds a variant to the sweep's plan; returns the plan of this variant alone."""
        with locked(self._folder / NOTES / "plan.lock", PATIENCE_S):
            known = read_plan(self._folder, {}).variants if (self._folder / PLAN).exists() else {}
            open_sweep(self._plan.model_copy(update={"variants": known | {name: settings}}), self._folder)
        return self._plan.model_copy(update={"variants": {name: settings}})

    def _value(self, plan: Plan) -> float:
        trials = plan.trials()
        rows = [row(self._folder, trial) for trial in trials]
        if self._measure in ("scaled", "evenness"):
            measure = scaled if self._measure == "scaled" else evenness
            values = [measure(found, trial.scenarios) for found, trial in zip(rows, trials, strict=True)]
        else:
            values = [found[self._measure] for found in rows]
        return float(np.mean([math.nan if value is None else value for value in values]))

    def _seed(self) -> int:
        """The sampler's: processes that search together ought to suggest different things."""
        return len(list((self._folder / NOTES).glob("*.claim")))

    @staticmethod
    def _measured(study: Any) -> int:
        return sum(trial.value is not None for trial in study.get_trials())

    def _working(self, study: Any) -> int:
        """Suggestions that other processes work on."""
        return len(study.get_trials(states=[_optuna().trial.TrialState.RUNNING]))


def _check(plan: Plan, ranges: Sequence[Range], measure: str) -> None:
    if not ranges:
        raise ConfigError("nothing to search: give a range, such as --set learner.learning_rate=log:1e-4..1e-3")
    if measure not in MEASURES:
        raise ConfigError(f"--measure {measure}: expected one of {', '.join(MEASURES)}")
    names = [name for trial in plan.trials() for name in trial.scenarios]
    if measure in ("scaled", "evenness") and not names:
        raise ConfigError(f"--measure {measure} needs validation scenarios: name them with --scenario")
    for name in names:
        if int(name.rpartition("_")[2]) < OFFICIAL:
            raise ConfigError(
                f"{name} is a test scenario: settings that were chosen by it could not be tested on it any more; "
                f"validate on scenarios from {OFFICIAL} on"
            )


def _optuna() -> Any:
    try:
        import optuna
    except ImportError:
        raise SetupError('bidist tune needs Optuna: pip install "bidist[tune]"') from None
    return optuna


def _name(number: int) -> str:
    return f"t{number}"


def _number(text: str) -> Any:
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text.strip()


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
