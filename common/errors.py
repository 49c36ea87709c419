"""Every error the project raises on purpose.

    BidistError
    ├── ConfigError        a setting is wrong; the message names it and what is accepted
    ├── SetupError         this machine lacks something; the message says how to get it
    ├── SubstrateError     an environment cannot be built, or broke while running
    ├── WireError          a message is invalid; `reason` is the counter it is filed under
    ├── StoreError         Redis is unreachable, or data in it is missing or damaged
    ├── Stopped            the process was asked to stop while it waited
    └── CheckpointError    a checkpoint is missing, damaged or does not fit the run

The command line prints a `BidistError` as one line; anything else is a bug and shows its traceback.
"""

from collections import Counter


class BidistError(Exception):
    """Base class of everything the project raises on purpose.

    Attributes:
      status: the exit status of a command that ends with it; 2 means that retrying will not help.
    """

    status = 3


class ConfigError(BidistError):
    """A setting is wrong."""

    status = 2


class SetupError(BidistError):
    """This machine lacks something the project needs."""

    status = 2


class SubstrateError(BidistError):
    """An environment cannot be built, or broke while running."""


class WireError(BidistError):
    """A message is invalid.

    Args:
      reason: one word, the counter that the ledger files it under.
      detail: what was found and what was expected.
    """

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason


class StoreError(BidistError):
    """Redis is unreachable, or data in it is missing or damaged."""


class Stopped(BidistError):
    """The process was asked to stop while it waited."""


class CheckpointError(BidistError):
    """A checkpoint is missing, damaged, or does not fit the run."""


def worth_logging(counts: Counter[str], reason: str) -> bool:
    """Counts an event and returns whether it is the 1st, 2nd, 4th, 8th, ... of its kind, to keep the log short."""
    counts[reason] += 1
    return counts[reason].bit_count() == 1
