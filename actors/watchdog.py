"""Ends an actor that hangs, in a game for instance, so that its supervisor starts it again."""

import faulthandler
import time
from types import TracebackType
from typing import Self

REARM_S = 0.5


class Watchdog:
    """Ends this process and prints where it hangs, unless `alive` is called often enough; a context manager.

    The timer runs in C, without the interpreter, so it also fires if a game's own code never returns.

    Args:
      hang_s: seconds without a call of `alive` after which the process counts as hung.
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
        """Restarts the timer; the first call starts it."""
        now = time.monotonic()
        if now - self._armed > REARM_S:
            self._armed = now
            faulthandler.dump_traceback_later(self._hang_s + REARM_S, exit=True, file=2)
