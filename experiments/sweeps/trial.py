"""One run of a sweep, and the commands that train and evaluate it."""

import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from common.config import Config
from common.errors import ConfigError
from common.run_folder import RunFolder
from common.settings import load_config
from methods import resolve

if TYPE_CHECKING:
    from experiments.sweeps.plan import Plan

Settings = dict[str, Any]
"""`section.key` to value."""


@dataclass(frozen=True, eq=False)
class Trial:
    """One run of a sweep, compared by identity.

    Attributes:
      name: of the run and its folder.
      method, substrate, variant, seed, steps: the combination.
      settings: `section.key` to value.
      games: episodes of self-play for the run's summary.
      preset: the preset that settings start from.
      scenarios: full names; empty if nothing is evaluated.
      episodes: per scenario.
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
    def of(cls, plan: "Plan", method: str, substrate: str, variant: str, seed: int) -> "Trial":
        """Returns the trial of a plan for one combination."""
        game = substrate.replace("_in_the_matrix", "").rpartition(":")[2]
        parts = [method.rpartition(":")[2], game, *filter(None, [variant]), f"s{seed}"]
        chosen = plan.evaluation
        scenarios: list[str] = []
        if chosen is not None:
            named = [name if isinstance(name, str) else f"{substrate}_{name}" for name in chosen.scenarios]
            scenarios = list(dict.fromkeys(named))
        return cls(
            name="-".join(parts),
            method=method,
            substrate=substrate,
            variant=variant,
            seed=seed,
            steps=plan.steps,
            settings={**plan.settings, **plan.methods[method], **plan.variants[variant]},
            games=plan.games,
            preset=plan.preset,
            scenarios=tuple(scenarios),
            episodes=0 if chosen is None else chosen.episodes,
        )

    @property
    def label(self) -> str:
        """The name of its group of seeds: the method, and the variant if it has a name."""
        return f"{self.method} {self.variant}".strip()

    def train(self) -> list[str]:
        """The arguments of `bidist` that train it."""
        named = ["--run", self.name, "--method", self.method, "--substrate", self.substrate]
        numbers = ["--seed", str(self.seed), "--steps", str(self.steps), "--games", str(self.games)]
        preset = [] if self.preset is None else ["--preset", self.preset]
        sets = [part for key, value in self.settings.items() for part in ("--set", f"{key}={_text(value)}")]
        return ["train", *named, *numbers, *preset, *sets]

    def evaluate(self, folder: Path) -> list[str]:
        """The arguments of `bidist` that evaluate it; empty if nothing is evaluated."""
        if not self.scenarios:
            return []
        named = [part for name in self.scenarios for part in ("--scenario", name)]
        return ["evaluate", str(folder / self.name), "--episodes", str(self.episodes), *named]

    @property
    def command(self) -> str:
        """The command that trains it, as typed in a shell."""
        return shlex.join(["bidist", *self.train()])

    def config(self) -> Config:
        """Resolves the run's configuration.

        Raises:
          ConfigError: naming the trial and the setting that is wrong.
        """
        values: Settings = {
            "run.name": self.name,
            "method.name": self.method,
            "environment.substrate": self.substrate,
            "run.seed": self.seed,
            "run.player_steps": self.steps,
        }
        try:
            overrides = [f"{key}={_text(value)}" for key, value in self.settings.items()]
            return resolve(load_config(self.preset, overrides, values, environ={}))
        except ConfigError as error:
            raise ConfigError(f"trial {self.name}: {error}") from None

    def folder(self, sweep: Path) -> RunFolder:
        """The run's folder."""
        return RunFolder(sweep / self.name)


def _text(value: Any) -> str:
    """A setting's value as `--set` parses it."""
    return yaml.safe_dump(value, default_flow_style=True).strip().removesuffix("...").strip()
