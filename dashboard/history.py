"""A run's past, condensed enough to send to a page that has just been opened."""

from collections import deque
from collections.abc import Iterable, Sequence
from typing import Any

from dashboard.state import CURVES, Row

MAX_POINTS = 3000
"""How many updates or distillation events are kept; beyond it, every second one is dropped."""
MAX_EVENTS = 60


class History:
    """Updates, distillation events and other events of one run.

    Args:
      edition: the first edition.

    Attributes:
      edition: changes whenever the past changes, so that the page redraws everything.
      counted: events so far, other than distillations.
    """

    def __init__(self, edition: int = 0) -> None:
        self.edition, self.counted = edition, 0
        self.updates: list[Row] = []
        self.distillations: list[Row] = []
        self.events: deque[Row] = deque(maxlen=MAX_EVENTS)
        self.checkpoint: Row | None = None

    def add(self, updates: Iterable[Row], events: Iterable[Row]) -> None:
        """Adds what is new; if the learner returned to a checkpoint, later updates are dropped."""
        for row in updates:
            self._append(self.updates, row, "updates")
        for event in events:
            if "distillation" in event:
                self._append(self.distillations, event["distillation"], "events")
            else:
                self.events.append(event)
                self.counted += 1
            if event["event"] == "checkpoint":
                self.checkpoint = {"time_s": event["time_s"], "updates": event["details"].get("updates")}
        self.updates, self.distillations = self._thinned(self.updates), self._thinned(self.distillations)

    def sent(self) -> Row:
        """Returns everything, with one column per curve, as charts need it."""
        return {
            "curves": columns(self.updates, CURVES),
            "distillations": self.distillations,
            "events": list(self.events),
        }

    def events_after(self, counted: int) -> list[Row]:
        """Returns the events after the first `counted`."""
        new = min(self.counted - counted, len(self.events))
        return list(self.events)[-new:] if new else []

    def _append(self, rows: list[Row], row: Row, order: str) -> None:
        place = row[order]
        if place is None:
            return
        while rows and rows[-1][order] >= place:
            rows.pop()
            self.edition += 1
        rows.append(row)

    def _thinned(self, rows: list[Row]) -> list[Row]:
        if len(rows) <= MAX_POINTS:
            return rows
        self.edition += 1
        return rows[-1::-2][::-1]


def columns(rows: Sequence[Row], names: Iterable[str]) -> dict[str, list[Any]]:
    """Turns rows into columns."""
    return {name: [row.get(name) for row in rows] for name in names}


def averaged(rows: Sequence[Row], names: Sequence[str], points: int) -> dict[str, list[Any]]:
    """Shortens columns to a number of points: means over equal stretches, ignoring missing values."""
    if len(rows) <= points:
        return columns(rows, names)
    edges = [round(i * len(rows) / points) for i in range(points + 1)]
    stretches = [rows[low:high] for low, high in zip(edges, edges[1:], strict=False)]
    return {name: [_mean([row.get(name) for row in stretch]) for stretch in stretches] for name in names}


def _mean(values: Sequence[Any]) -> float | None:
    there = [value for value in values if isinstance(value, int | float)]
    return sum(there) / len(there) if there else None
