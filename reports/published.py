"""Published figures to compare results with: DeepMind's returns by scenario, and the paper's Table 1."""

from pathlib import Path
from typing import Any

import numpy as np
import yaml

PUBLISHED = Path(__file__).with_name("published.yaml")
# Where random players and ACB differ by less than this share, a scaled return is mostly noise.
LEAST_SPAN = 0.1


def published() -> dict[str, Any]:
    """Reads `returns`, DeepMind's by scenario, and `table_1`, the paper's by method and game."""
    found: dict[str, Any] = yaml.safe_load(PUBLISHED.read_text())
    return found


class Scale:
    """A scale on which DeepMind's published returns are 0 for random players and 1 for ACB."""

    def __init__(self) -> None:
        self.returns: dict[str, dict[str, Any]] = published()["returns"]

    def span(self, scenario: str) -> tuple[float, float] | None:
        """Finds the returns at 0 and at 1; None if nothing was published or the two hardly differ."""
        if scenario not in self.returns:
            return None
        low, high = self.returns[scenario]["random"], float(np.mean(self.returns[scenario]["acb"]))
        return (low, high) if abs(high - low) > LEAST_SPAN * max(abs(low), abs(high)) else None

    def __call__(self, scenario: str, x: Any) -> Any:
        """Scales a return, or an array of them; None if the scenario has no scale."""
        span = self.span(scenario)
        return None if span is None or x is None else (x - span[0]) / (span[1] - span[0])
