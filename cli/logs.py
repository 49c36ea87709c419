"""The log of a command: plain lines for people, or one JSON object per line for log collectors."""

import json
import logging
import socket
import sys
import time

from common.errors import ConfigError
from common.settings import LOG_VARIABLE

log = logging.getLogger(__name__)

FORMS = ("plain", "json")
TIME = "%Y-%m-%dT%H:%M:%S"


class Form(logging.Formatter):
    """Formats the records of one command.

    Args:
      role: the command that logs.
      run: the run that it belongs to; None if it belongs to none, or to one without a name yet.
    """

    def __init__(self, role: str, run: str | None) -> None:
        super().__init__()
        self.role, self.run, self.host = role, run, socket.gethostname()


class Plain(Form):
    """Formats a record as a line: time in UTC, role, run and host, level, message."""

    def format(self, record: logging.LogRecord) -> str:
        """See `logging.Formatter`."""
        when, where = time.gmtime(record.created), f"{self.run}@{self.host}" if self.run else self.host
        start = f"{time.strftime(TIME, when)}Z {self.role:<9} {where} {record.levelname:<7}"
        return f"{start} {super().format(record)}"


class Json(Form):
    """Formats a record as a JSON object: time in UTC, level, role, run, host, logger, message, and any traceback."""

    def format(self, record: logging.LogRecord) -> str:
        """See `logging.Formatter`."""
        line = {
            "time": f"{time.strftime(TIME, time.gmtime(record.created))}.{record.msecs:03.0f}Z",
            "level": record.levelname,
            "role": self.role,
            "run": self.run,
            "host": self.host,
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line)


def start(form: str | None, role: str, run: str | None, debug: bool) -> None:
    """Sends the log to standard error.

    Args:
      form: one of `FORMS`; None is the first.
      role: the command that logs.
      run: the run that it belongs to; None if it belongs to none.
      debug: whether to log debug messages too.

    Raises:
      ConfigError: if there is no such form.
    """
    if form not in (None, *FORMS):
        raise ConfigError(f"{LOG_VARIABLE}={form}: expected {' or '.join(FORMS)}")
    handler = logging.StreamHandler()
    handler.setFormatter(Json(role, run) if form == "json" else Plain(role, run))
    logging.basicConfig(level=logging.DEBUG if debug else logging.INFO, handlers=[handler])


def belongs_to(run: str) -> None:
    """Names the run of all further records, for a command that learns its run's name after it has started."""
    for handler in logging.getLogger().handlers:
        if isinstance(handler.formatter, Form):
            handler.formatter.run = run


def status(form: str | None, line: str) -> None:
    """Reports how a run is doing: as a record of a log in JSON, or else on standard output.

    If that is no terminal, the time in UTC stands before the line.

    Args:
      form: that of the log.
      line: what to report.
    """
    if form == "json":
        log.info("%s", line)
    else:
        print(line if sys.stdout.isatty() else f"{time.strftime(TIME, time.gmtime())}Z {line}", flush=True)


def failure(form: str | None, error: Exception) -> None:
    """Reports why a command failed, in one line on standard error.

    Args:
      form: that of the log.
      error: its message is the reason.
    """
    if form == "json":
        log.error("%s", error)
    else:
        print(f"bidist: error: {error}", file=sys.stderr)
