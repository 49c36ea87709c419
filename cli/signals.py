"""How a command is stopped.

The first SIGTERM or Ctrl-C, or the SIGHUP of a terminal that is closed, asks it to finish the step, flush, write a
checkpoint and exit with 0. The second ends it at once, with one exception: a service manager signals a whole process
group, and the processes in it then pass the signal on to each other. A SIGTERM that follows closely on the first signal
is therefore taken as the same request. A second Ctrl-C always comes from a user and always ends the command.
"""

import contextlib
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from types import FrameType

log = logging.getLogger(__name__)

SIGNALS = (signal.SIGTERM, signal.SIGINT)
SAME_REQUEST_S = 1.0


def stop_on_signals(same_request_s: float = SAME_REQUEST_S) -> threading.Event:
    """Installs the two-step handler for SIGTERM and SIGINT; the first signal sets the event it returns.

    Args:
      same_request_s: for how long after the first signal further SIGTERMs are ignored.
    """
    stopping = threading.Event()
    first = 0.0

    def handle(number: int, frame: FrameType | None) -> None:
        nonlocal first
        del frame
        name = signal.Signals(number).name
        if not stopping.is_set():
            first = time.monotonic()
            log.info("%s: finishing the step, then exiting", name)
            stopping.set()
        elif number != signal.SIGTERM or time.monotonic() - first > same_request_s:
            log.warning("second %s: exiting now", name)
            os._exit(128 + number)

    for number in SIGNALS:
        signal.signal(number, handle)
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # as under nohup
        signal.signal(signal.SIGHUP, handle)
    return stopping


def exit_on_sigterm() -> None:
    """Makes SIGTERM end a command like Ctrl-C: what it started is ended, and its temporary files are removed."""
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))


@contextlib.contextmanager
def restored_handlers() -> Iterator[None]:
    """Restores on exit the signal handlers that were installed on entry."""
    before = {number: signal.getsignal(number) for number in (*SIGNALS, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            if signal.getsignal(number) is not handler:
                signal.signal(number, handler)
