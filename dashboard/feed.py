"""A run's state and news, read from Redis once a second on behalf of all watchers."""

import asyncio
import time
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path

from dashboard.history import History
from dashboard.shared import Shared
from dashboard.source import AWAY, Address, Entry, RunReader, ended
from dashboard.state import Row, event, state, update

TICK_S = 1.0

Message = tuple[str, Row]
"""A server-sent event: its name, and its data."""


@dataclass
class _Seen:
    """What one watcher has already received."""

    edition: int = -1
    updates: int = 0
    distillations: int = 0
    events: int = 0


class Feed(Shared):
    """A run's state, pushed to whoever iterates over `messages`.

    Args:
      find: returns the run's address, which changes if it is resumed with a Redis of its own.
      folder: the run's; None if it is elsewhere.
      tick_s: seconds between readings.
    """

    def __init__(self, find: Callable[[], Address], folder: Path | None = None, tick_s: float = TICK_S) -> None:
        super().__init__(tick_s)
        self._find, self._folder = find, folder
        self._address = find()
        self._history = History()
        self._frame: Row | None = None
        self._away: Row | None = None
        self._trouble: str | None = None
        self._reader: RunReader | None = None

    async def messages(self) -> AsyncGenerator[Message, None]:
        """Yields `history` first, then a `frame` of news every second, or `away` while Redis is away."""
        seen = _Seen()
        async with aclosing(self.turns()) as turns:
            async for _ in turns:
                for message in self._unsent(seen):
                    yield message

    async def read(self) -> None:
        """Reads the run once, or records since when Redis has been away."""
        address, self._address = self._address, self._find()
        if address != self._address:
            self._forget()
        try:
            reader, frame, updates, events = await asyncio.to_thread(self._look, self._reader)
        except asyncio.CancelledError:
            self._forget()  # the last watcher left during a read, whose result was dropped
            raise
        except AWAY as error:
            self._forget()  # Redis may have lost its last second of writes
            away = {"server": self._address.shown, "reason": str(error), "trouble": self._trouble}
            over, now = await asyncio.to_thread(self._ended), time.time()
            self._away = {**away, "ended": over, "since": self._away["since"] if self._away else now, "now": now}
            return
        self._reader = reader
        self._history.add(map(update, updates), map(event, events))
        self._frame, self._away = {**frame, "checkpoint": self._history.checkpoint}, None

    def _forget(self) -> None:
        self._reader, self._history = None, History(self._history.edition + 1)

    def _ended(self) -> str:
        # Once it has ended, its lock is left alone: `bidist train --resume` will want it.
        known: str = self._away["ended"] if self._away else ""
        return known or ("" if self._folder is None else ended(self._folder))

    def _look(self, reader: RunReader | None) -> tuple[RunReader, Row, Sequence[Entry], Sequence[Entry]]:
        self._trouble = None
        if (reason := self._address.refusal()) is not None:
            raise ConnectionError(reason)
        reader = reader or RunReader(self._address)
        self._trouble = reader.trouble()
        frame = state(reader.snapshot(), self._trouble)  # a server that is out of memory refuses to read the ledger
        frame |= {"now": time.time(), "server": self._address.shown, "redis_bytes": reader.memory_bytes()}
        frame["starvation_percent"] = reader.starvation_percent()
        return reader, frame, reader.new("metrics"), reader.new("events")

    def _unsent(self, seen: _Seen) -> list[Message]:
        history = self._history
        if self._away is not None:
            return [("away", self._away)]
        if self._frame is None:
            return []
        messages: list[Message] = []
        new: Row = {}
        if seen.edition != history.edition:
            messages.append(("history", history.sent()))
        else:
            new["updates"] = history.updates[seen.updates :]
            new["distillations"] = history.distillations[seen.distillations :]
            new["events"] = history.events_after(seen.events)
        seen.edition, seen.events = history.edition, history.counted
        seen.updates, seen.distillations = len(history.updates), len(history.distillations)
        return [*messages, ("frame", {**self._frame, "new": new})]
