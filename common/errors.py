"""Every error the project raises on purpose.

    BidistError
    ├── ConfigError        a setting is wrong; the message names it and what would be right
    ├── SetupError         this machine lacks something; the message says how to get it
    ├── SubstrateError     an environment cannot be built, or broke while it ran
    ├── WireError          a message cannot be trusted; `reason` is the counter it goes under
    ├── StoreError         Redis is away, or what it holds is missing or damaged
    └── CheckpointError    a checkpoint is missing, incomplete or does not fit

The command line prints the message of a `BidistError` as one line; anything else is a defect and shows its
traceback.
"""


class BidistError(Exception):
    """The root: catch this to catch whatever the project raises on purpose.

    Attributes:
      status: the exit status of a command that ends with it; 2 if trying again would not help.
    """

    status = 3


class ConfigError(BidistError):
    """A setting is wrong."""

    status = 2


class SetupError(BidistError):
    """The machine lacks something that the project needs."""

    status = 2


class SubstrateError(BidistError):
    """An environment cannot be built, or broke while it ran."""


class WireError(BidistError):
    """A message cannot be trusted.

    Args:
      reason: one word, the counter under which the ledger files it.
      detail: what was found and what was expected.
    """

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason


class StoreError(BidistError):
    """Redis is away, or what it holds is missing or damaged."""


class CheckpointError(BidistError):
    """A checkpoint is missing, incomplete, or does not fit the run."""
