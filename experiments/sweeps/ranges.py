"""Ranges of settings for a search: `0.9..0.99`, `log:1e-4..1e-3`, `1..4`, `4|8|16`."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import yaml

from common.errors import ConfigError
from common.settings import load_yaml


@dataclass(frozen=True)
class Range:
    """The values that a search may give to a setting.

    Attributes:
      key: `section.key`.
      low, high: the bounds, inclusive; None for choices.
      log: whether the scale is logarithmic.
      choices: the listed values; empty for an interval.
    """

    key: str
    low: float | None = None
    high: float | None = None
    log: bool = False
    choices: tuple[Any, ...] = ()

    @classmethod
    def parse(cls, key: str, value: Any) -> "Range | None":
        """Parses `0.9..0.99`, `log:1e-4..1e-3` or `4|8|16`; returns None for any other value, which is fixed.

        Raises:
          ConfigError: if it looks like a range but is malformed.
        """
        if not isinstance(value, str):
            return None
        wrong = ConfigError(f"--set {key}={value}: expected low..high, log:low..high (above 0), or a|b|c")
        if "|" in value:
            parts = [part.strip() for part in value.split("|")]
            if not all(parts):
                raise wrong
            try:
                return cls(key, choices=tuple(map(load_yaml, parts)))
            except yaml.YAMLError:
                raise wrong from None
        text, logarithmic = value.removeprefix("log:"), value.startswith("log:")
        low, dots, high = text.partition("..")
        if not dots:
            return None
        ends = _number(low), _number(high)
        if ends[0] is None or ends[1] is None or ends[0] >= ends[1] or (logarithmic and ends[0] <= 0):
            raise wrong
        return cls(key, ends[0], ends[1], logarithmic)

    @property
    def examples(self) -> list[Any]:
        """The bounds, or all choices."""
        return list(self.choices) or [self.low, self.high]

    def suggest(self, trial: Any) -> Any:
        """Asks an Optuna trial for a value."""
        if self.choices:
            return trial.suggest_categorical(self.key, self.choices)
        if isinstance(self.low, int) and isinstance(self.high, int):
            return trial.suggest_int(self.key, self.low, self.high, log=self.log)
        return trial.suggest_float(self.key, self.low, self.high, log=self.log)


def split_ranges(settings: Mapping[str, Any]) -> tuple[dict[str, Any], list[Range]]:
    """Separates fixed settings from ranges.

    Raises:
      ConfigError: if a range is malformed.
    """
    found = {key: Range.parse(key, value) for key, value in settings.items()}
    fixed = {key: value for key, value in settings.items() if found[key] is None}
    return fixed, [one for one in found.values() if one is not None]


def _number(text: str) -> int | float | None:
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return None
