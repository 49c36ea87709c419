"""How a command is stopped.

The first SIGTERM or Ctrl-C asks: finish the step, flush, checkpoint, leave with 0. The second ends it at once.
"""

import logging
import os
import signal
import threading
from types import FrameType

log = logging.getLogger(__name__)


def stop_on_signals() -> threading.Event:
    """Installs the two-step handler for SIGTERM and SIGINT; the event it returns is set by the first."""
    stopping = threading.Event()

    def handle(number: int, frame: FrameType | None) -> None:
        del frame
        if stopping.is_set():
            log.warning("second %s: leaving now", signal.Signals(number).name)
            os._exit(128 + number)
        log.info("%s: finishing the step, then leaving", signal.Signals(number).name)
        stopping.set()

    signal.signal(signal.SIGTERM, handle)
    signal.signal(signal.SIGINT, handle)
    return stopping
