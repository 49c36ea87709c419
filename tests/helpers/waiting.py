"""Waiting for what has to happen, with a limit, so that a test that fails does not hang."""

import time
from collections.abc import Callable
from typing import TypeVar

PATIENCE_S = 60.0

T = TypeVar("T")


def until(
    condition: Callable[[], T],
    meanwhile: Callable[[], object] = lambda: time.sleep(0.02),
    what: Callable[[], object] = lambda: "it never happened",
    patience_s: float = PATIENCE_S,
) -> T:
    """Repeats something until a condition holds, and returns the condition's value.

    Args:
      condition: asked before each repetition.
      meanwhile: what is repeated.
      what: describes what was waited for, if that was in vain.
      patience_s: the limit.
    """
    deadline = time.monotonic() + patience_s
    while not (value := condition()):
        assert time.monotonic() < deadline, what()
        meanwhile()
    return value


def within(seconds: float, condition: Callable[[], bool]) -> bool:
    """Returns whether a condition comes to hold in time."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True
