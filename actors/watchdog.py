"""Ends an actor that hangs, in a game for instance, so that its supervisor starts it again."""

import faulthandler
import time
from types import TracebackType
from typing import Self

REARM_S = 0.5


class Watchdog:
    """Ends this process, and prints where it hangs, if `alive` is not called for a time; a context manager.

    The clock is in C and needs no interpreter: it works, too, if a game's own code never returns.

    Args:
      hang_s: seconds between two calls of `alive` after which the process hangs.
    """

    def __init__(self, hang_s: float) -> None:
        self._hang_s = hang_s
        self._armed = 0.0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        faulthandler.cancel_dump_traceback_later()

    def alive(self) -> None:
        """Tells that the process does not hang; the first call starts the clock."""
        now = time.monotonic()
        if now - self._armed > REARM_S:
            self._armed = now
            faulthandler.dump_traceback_later(self._hang_s + REARM_S, exit=True, file=2)
