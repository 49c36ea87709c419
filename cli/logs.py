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


class Json(logging.Formatter):
    """Formats a record as a JSON object: time in UTC, level, role, run, host, logger, message, and any traceback.

    Args:
      role: the command that logs.
      run: the run that it belongs to; None if it belongs to none.
    """

    def __init__(self, role: str, run: str | None) -> None:
        super().__init__()
        self._origin = {"role": role, "run": run, "host": socket.gethostname()}

    def format(self, record: logging.LogRecord) -> str:
        """See `logging.Formatter`."""
        line = {
            "time": f"{time.strftime(TIME, time.gmtime(record.created))}.{record.msecs:03.0f}Z",
            "level": record.levelname,
            **self._origin,
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line)


def plain(role: str) -> logging.Formatter:
    """Returns a formatter of plain lines: time in UTC, role, level, message."""
    formatter = logging.Formatter(f"%(asctime)sZ {role:<9} %(levelname)-7s %(message)s", TIME)
    formatter.converter = time.gmtime
    return formatter


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
    handler.setFormatter(Json(role, run) if form == "json" else plain(role))
    logging.basicConfig(level=logging.DEBUG if debug else logging.INFO, handlers=[handler])


def status(form: str | None, line: str) -> None:
    """Reports how a run is doing: as a record of a log in JSON, or else on standard output, with the time in UTC.

    Args:
      form: that of the log.
      line: what to report.
    """
    if form == "json":
        log.info("%s", line)
    else:
        print(f"{time.strftime(TIME, time.gmtime())}Z {line}", flush=True)


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
