"""The plan of a sweep: which trials there are, each with the commands that run it."""

import itertools
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from pydantic import Field, field_validator

from common.config import EnvironmentConfig, Section
from common.errors import ConfigError
from common.files import write
from common.run_folder import RunFolder
from common.settings import build, load_config, read_yaml
from methods import resolve

PLAN = "sweep.yaml"
# What a plan says by keys of its own.
OWN_KEYS = {
    "run.name": "trials are named by the sweep", "run.folder": "runs lie in the sweep's folder",
    "run.player_steps": "use the plan's steps", "run.seed": "use the plan's seeds",
    "method.name": "use the plan's methods", "environment.substrate": "use the plan's substrates",
}  # fmt: skip

Settings = dict[str, Any]
"""`section.key` to value."""


class EvaluationPlan(Section):
    """The evaluation that follows each run."""

    scenarios: list[int | str] = Field([0, 1, 2, 3, 4], min_length=1)
    """Official scenarios: numbers of the run's own game, or full names."""
    episodes: int = Field(20, ge=1)
    """Of each scenario."""


class Plan(Section):
    """A sweep: every method in every variant on every substrate with every seed."""

    methods: dict[str, Settings] = Field({"bidist": {}}, min_length=1)
    """Names, each with settings for this method alone; a list of names will do."""
    substrates: list[str] = Field([EnvironmentConfig().substrate], min_length=1)
    """Games, as `--substrate` takes them."""
    seeds: list[int] = Field([0], min_length=1)
    """A list, or text such as `100-104`."""
    steps: int = Field(2_000_000, gt=0)
    """Player steps of each run."""
    preset: str | None = None
    """Where every run's settings start from, as `--preset` takes it."""
    settings: Settings = {}
    """Settings of every run."""
    variants: dict[str, Settings] = Field({"": {}}, min_length=1)
    """Names, each with settings; they override the method's."""
    games: int = Field(0, ge=0)
    """Games that the trained and a random population play at the end of each run, as `--games` takes it."""
    evaluation: EvaluationPlan | None = None
    """null evaluates nothing."""

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

    def trials(self) -> list["Trial"]:
        """All trials, seed by seed, so that each seed is complete before the next begins.

        Raises:
          ConfigError: naming the trial and its setting, if one is wrong.
        """
        found = [
            Trial.of(self, method, substrate, variant, seed)
            for seed, substrate, variant, method in itertools.product(
                self.seeds, self.substrates, self.variants, self.methods
            )
        ]
        for trial in found:
            trial.check()
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


@dataclass(frozen=True, eq=False)
class Trial:
    """One run of a sweep; two are equal if they are the same object.

    Attributes:
      name: of the run and its folder.
      method, substrate, variant, seed, steps: what is run.
      settings: `section.key` to value.
      games: played for the run's summary.
      preset: where settings start from.
      scenarios: full names; empty if nothing is evaluated.
      episodes: of each scenario.
    """

    name: str
    method: str
    substrate: str
    variant: str
    seed: int
    steps: int
    settings: Mapping[str, Any]
    games: int
    preset: str | None
    scenarios: tuple[str, ...]
    episodes: int

    @classmethod
    def of(cls, plan: Plan, method: str, substrate: str, variant: str, seed: int) -> "Trial":
        """The trial of a plan for one combination."""
        game = substrate.replace("_in_the_matrix", "").rpartition(":")[2]
        parts = [method.rpartition(":")[2], game, *filter(None, [variant]), f"s{seed}"]
        chosen = plan.evaluation
        scenarios: list[str] = []
        if chosen is not None:
            named = [name if isinstance(name, str) else f"{substrate}_{name}" for name in chosen.scenarios]
            scenarios = list(dict.fromkeys(named))
        return cls(
            "-".join(parts), method, substrate, variant, seed, plan.steps,
            {**plan.settings, **plan.methods[method], **plan.variants[variant]}, plan.games, plan.preset,
            tuple(scenarios), 0 if chosen is None else chosen.episodes,
        )  # fmt: skip

    @property
    def label(self) -> str:
        """What is compared over seeds: the method, and the variant if it has a name."""
        return f"{self.method} {self.variant}".strip()

    def train(self) -> list[str]:
        """The arguments of `bidist` that train it."""
        sets = [part for key, value in self.settings.items() for part in ("--set", f"{key}={_text(value)}")]
        preset = [] if self.preset is None else ["--preset", self.preset]
        return [
            "train", "--run", self.name, "--method", self.method, "--substrate", self.substrate, "--seed",
            str(self.seed), "--steps", str(self.steps), "--games", str(self.games), *preset, *sets,
        ]  # fmt: skip

    def evaluate(self, folder: Path) -> list[str]:
        """The arguments of `bidist` that evaluate it; none if nothing is evaluated."""
        if not self.scenarios:
            return []
        named = [part for name in self.scenarios for part in ("--scenario", name)]
        return ["evaluate", str(folder / self.name), "--episodes", str(self.episodes), *named]

    @property
    def command(self) -> str:
        """The command that trains it, for people."""
        return shlex.join(["bidist", *self.train()])

    def check(self) -> None:
        """Resolves the run's configuration, to find mistakes before anything starts.

        Raises:
          ConfigError: naming the trial and the setting.
        """
        values: Settings = {
            "run.name": self.name, "method.name": self.method, "environment.substrate": self.substrate,
            "run.seed": self.seed, "run.player_steps": self.steps,
        }  # fmt: skip
        try:
            resolve(load_config(self.preset, [f"{k}={_text(v)}" for k, v in self.settings.items()], values, environ={}))
        except ConfigError as error:
            raise ConfigError(f"trial {self.name}: {error}") from None

    def folder(self, sweep: Path) -> RunFolder:
        """The run's folder."""
        return RunFolder(sweep / self.name)


def read_plan(path: Path, changes: Mapping[str, Any]) -> Plan:
    """Reads a plan from a file, or from the folder of a sweep.

    Args:
      path: a YAML file, or a sweep's folder.
      changes: keys of the plan that override it, from the command line.

    Raises:
      ConfigError: naming the key that is wrong.
    """
    path = path / PLAN if path.is_dir() else path
    return make_plan(merge(read_yaml(path), changes), f"{path}: ")


def merge(tree: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """A plan's keys with changes from the command line; `settings` and `evaluation` change key by key."""
    merged = {**tree, **changes}
    for key in ("settings", "evaluation"):
        if isinstance(tree.get(key), dict) and isinstance(changes.get(key), dict):
            merged[key] = {**tree[key], **changes[key]}
    return merged


def make_plan(tree: Mapping[str, Any], source: str = "") -> Plan:
    """Makes a plan of plain values.

    Raises:
      ConfigError: naming the key that is wrong, behind `source`.
    """
    try:
        plan = build(Plan, tree)
        plan.trials()
    except ConfigError as error:
        raise ConfigError(f"{source}{error}") from None
    return plan


def parse_seeds(text: str) -> list[int]:
    """Seeds from text: `3`, `0,2,5`, `100-104`, or a mixture.

    Raises:
      ValueError: if it is none of these.
    """
    seeds: list[int] = []
    for part in text.split(","):
        first, dash, last = part.strip().partition("-")
        if not first.isdecimal() or (dash and not last.isdecimal()):
            raise ValueError(f"expected seeds such as 0-4 or 0,2,5, found {text!r}")
        seeds += range(int(first), int(last or first) + 1)
    return seeds


def _text(value: Any) -> str:
    """A setting's value as `--set` reads it."""
    return yaml.safe_dump(value, default_flow_style=True).strip().removesuffix("...").strip()
