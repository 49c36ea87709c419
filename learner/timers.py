"""Timers for work that is due from time to time."""

import time


class Every:
    """Becomes due periodically, for the first time one period after its creation.

    Args:
      seconds: from one time to the next.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._last = time.monotonic()

    @property
    def elapsed_s(self) -> float:
        """Seconds since it was last restarted."""
        return time.monotonic() - self._last

    @property
    def due(self) -> bool:
        """Whether the time has passed."""
        return self.elapsed_s > self._seconds

    def restart(self) -> None:
        """Starts the next period now."""
        self._last = time.monotonic()
