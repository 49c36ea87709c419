"""Periodic work that is done once on behalf of all watchers, and only while there are any."""

import asyncio
import logging
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator

log = logging.getLogger(__name__)


class Shared(ABC):
    """Something that is read once per tick while it has watchers.

    Args:
      tick_s: seconds between readings.
    """

    def __init__(self, tick_s: float) -> None:
        self._tick_s = tick_s
        self._watchers = self._turn = 0
        self._changed = asyncio.Condition()
        self._task: asyncio.Task[None] | None = None

    @property
    def watchers(self) -> int:
        """The current number of watchers."""
        return self._watchers

    @abstractmethod
    async def read(self) -> None:
        """Reads once."""

    async def turns(self) -> AsyncGenerator[int, None]:
        """Yields at once if others watch already, then after each reading.

        A slow watcher gets fewer turns, never a queue.
        """
        seen = -1
        if not self._watchers:
            seen = self._turn  # a reading made for an earlier watcher may be stale
            self._task = asyncio.create_task(self._run())
        self._watchers += 1
        try:
            while True:
                async with self._changed:
                    while self._turn == seen:
                        await self._changed.wait()
                seen = self._turn
                yield seen
        finally:
            self._watchers -= 1
            if not self._watchers and self._task is not None:
                self._task.cancel()

    async def _run(self) -> None:
        while True:
            try:
                await self.read()
            except Exception:  # a bug, or a file that vanished: watchers should still get the next reading
                log.exception("a reading failed; trying again in %.0f s", self._tick_s)
            async with self._changed:
                self._turn += 1
                self._changed.notify_all()
            await asyncio.sleep(self._tick_s)
