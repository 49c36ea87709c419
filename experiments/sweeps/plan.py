"""The plan of a sweep: a matrix of methods, variants, substrates and seeds."""

import itertools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from pydantic import Field, field_validator

from common.config import EnvironmentConfig, Section
from common.errors import ConfigError
from common.files import write
from common.settings import build, read_yaml
from experiments.sweeps.trial import Settings, Trial

PLAN = "sweep.yaml"
# Settings for which a plan has its own keys.
OWN_KEYS = {
    "run.name": "the sweep names its trials",
    "run.folder": "runs are kept in the sweep's folder",
    "run.player_steps": "use the plan's steps",
    "run.seed": "use the plan's seeds",
    "method.name": "use the plan's methods",
    "environment.substrate": "use the plan's substrates",
}


class EvaluationPlan(Section):
    """The evaluation that follows each run."""

    scenarios: list[int | str] = Field([0, 1, 2, 3, 4], min_length=1)
    """Official scenarios: full names, or numbers, which refer to the run's own game."""
    episodes: int = Field(20, ge=1)
    """Episodes per scenario."""


class Plan(Section):
    """A sweep: every method in every variant on every substrate with every seed."""

    methods: dict[str, Settings] = Field({"bidist": {}}, min_length=1)
    """Names, each with settings for that method alone; a list of names is fine too."""
    substrates: list[str] = Field([EnvironmentConfig().substrate], min_length=1)
    """Games, as `--substrate` takes them."""
    seeds: list[int] = Field([0], min_length=1)
    """A list, or text such as `100-104`."""
    steps: int = Field(2_000_000, gt=0)
    """Player steps of each run."""
    preset: str | None = None
    """The preset of every run, as `--preset` takes it."""
    settings: Settings = {}
    """Settings of every run."""
    variants: dict[str, Settings] = Field({"": {}}, min_length=1)
    """Names, each with settings, which override the method's."""
    games: int = Field(0, ge=0)
    """Episodes of self-play at the end of each run, as `--games` takes it."""
    evaluation: EvaluationPlan | None = None
    """The evaluation after each run; null for none."""

    @field_validator("methods", mode="before")
    @classmethod
    def _named(cls, methods: Any) -> Any:
        if isinstance(methods, list) and all(isinstance(name, str) for name in methods):
            return {name: {} for name in methods}
        return {name: settings or {} for name, settings in methods.items()} if isinstance(methods, dict) else methods

    @field_validator("variants", mode="before")
    @classmethod
    def _filled(cls, variants: Any) -> Any:
        return {name: settings or {} for name, settings in variants.items()} if isinstance(variants, dict) else variants

    @field_validator("seeds", mode="before")
    @classmethod
    def _ranged(cls, seeds: Any) -> Any:
        if isinstance(seeds, int):
            return [seeds]
        return parse_seeds(seeds) if isinstance(seeds, str) else seeds

    @field_validator("settings", "methods", "variants", mode="after")
    @classmethod
    def _unnamed(cls, found: dict[str, Any]) -> dict[str, Any]:
        groups = found.values() if all(isinstance(value, dict) for value in found.values()) else [found]
        for key in (key for group in groups for key in group):
            if key in OWN_KEYS:
                raise ValueError(f"{key} is not a setting of a trial here: {OWN_KEYS[key]}")
        return found

    def trials(self) -> list[Trial]:
        """All trials, seed by seed, so that each seed is complete before the next begins.

        Raises:
          ConfigError: naming the trial and the setting that is wrong.
        """
        found = [
            Trial.of(self, method, substrate, variant, seed)
            for seed, substrate, variant, method in itertools.product(
                self.seeds, self.substrates, self.variants, self.methods
            )
        ]
        for trial in found:
            trial.config()
        known: dict[str, Trial] = {}
        for trial in found:
            if (other := known.setdefault(trial.name, trial)) is not trial:
                same = [f"{x.method} on {x.substrate}, variant {x.variant!r}, seed {x.seed}" for x in (other, trial)]
                raise ConfigError(f"two trials are called {trial.name}: {same[0]}, and {same[1]}; rename one")
        return found

    def save(self, folder: Path) -> None:
        """Writes the plan into the sweep's folder."""
        folder.mkdir(parents=True, exist_ok=True)
        write(folder / PLAN, yaml.safe_dump(self.model_dump(mode="json"), sort_keys=False).encode())


def read_plan(path: Path, changes: Mapping[str, Any]) -> Plan:
    """Reads a plan from a file, or from the folder of a sweep.

    Args:
      path: a YAML file, or a sweep's folder.
      changes: keys from the command line that override the file's.

    Raises:
      ConfigError: naming the key that is wrong.
    """
    path = path / PLAN if path.is_dir() else path
    return make_plan(merge(read_yaml(path), changes), f"{path}: ")


def merge(tree: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Merges changes from the command line into a plan; `settings` and `evaluation` are merged key by key."""
    merged = {**tree, **changes}
    for key in ("settings", "evaluation"):
        if isinstance(tree.get(key), dict) and isinstance(changes.get(key), dict):
            merged[key] = {**tree[key], **changes[key]}
    return merged


def make_plan(tree: Mapping[str, Any], source: str = "") -> Plan:
    """Makes a plan from plain values.

    Args:
      tree: the plan's keys.
      source: where they come from, for messages.

    Raises:
      ConfigError: naming the key that is wrong.
    """
    try:
        plan = build(Plan, tree)
        plan.trials()
    except ConfigError as error:
        raise ConfigError(f"{source}{error}") from None
    return plan


def parse_seeds(text: str) -> list[int]:
    """Parses seeds: `3`, `0,2,5`, `100-104`, or a mixture.

    Raises:
      ValueError: if the text is none of these.
    """
    seeds: list[int] = []
    for part in text.split(","):
        first, dash, last = part.strip().partition("-")
        if not first.isdecimal() or (dash and not last.isdecimal()):
            raise ValueError(f"expected seeds such as 0-4 or 0,2,5, found {text!r}")
        seeds += range(int(first), int(last or first) + 1)
    return seeds
