"""The connection to Redis: one that outlives a restart of the server, and what to say where there is none.

A broken connection is logged and retried for up to `PATIENCE_S` seconds.
"""

import logging
import re
import threading
import time
from typing import Any, Self

import redis
from redis.backoff import AbstractBackoff
from redis.retry import Retry

from common.errors import StoreError

log = logging.getLogger(__name__)

PATIENCE_S = 60.0
FOR_EVER = -1  # in redis-py's words; _Patience says when it is enough


class _Patience(AbstractBackoff):
    """Waits a little longer after each failure, says so once, and gives up in time: early when the role is to stop."""

    def __init__(self, url: str, stopping: threading.Event) -> None:
        self._url, self._stopping = url, stopping
        self._since = threading.local()  # each thread waits for a command of its own

    def compute(self, failures: int) -> float:
        if failures == 1:
            self._since.s = time.monotonic()
            log.warning("waiting for Redis at %s, for up to %.0f s", shown(self._url), PATIENCE_S)
        if time.monotonic() - self._since.s > PATIENCE_S:
            raise StoreError(f"Redis at {shown(self._url)} was away for {PATIENCE_S:.0f} s: giving up")
        if self._stopping.is_set() and failures > 8:
            raise StoreError(f"Redis at {shown(self._url)} is away, and this role was told to stop")
        return float(min(1.0, 0.05 * 2 ** min(failures, 5)))

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        return self  # redis-py copies it for each connection; all are to look at the same event


def connect(url: str, stopping: threading.Event | None = None) -> Any:
    """Opens a connection that outlives a restart of Redis; untyped, for redis-py types sync and async as one.

    Raises:
      StoreError: if the URL is not one.
    """
    try:
        return redis.Redis.from_url(
            _checked(url),
            retry=Retry(_Patience(url, stopping or threading.Event()), FOR_EVER),
            retry_on_error=[redis.ConnectionError, redis.TimeoutError, redis.BusyLoadingError],
            socket_timeout=30,
            socket_connect_timeout=5,
        )
    except ValueError as error:
        raise StoreError(
            f"{shown(url)!r} is no Redis URL ({error}); expected something like redis://localhost:6379/0"
        ) from None


def shown(url: str) -> str:
    """A Redis URL as it may be shown: without its password."""
    return re.sub(r"(://[^/@:]*:).+@", r"\1***@", url)


def _checked(url: str) -> str:
    if "#" in url or "/" in url.partition("://")[2].rpartition("@")[0]:
        raise ValueError("in its password # and / have to be written as %23 and %2F")
    return url


def refusal(url: str) -> str | None:
    """Why no Redis answers at an address now; None if one does."""
    try:
        with redis.Redis.from_url(_checked(url), socket_timeout=5, socket_connect_timeout=5, retry=None) as client:
            client.ping()
    except redis.BusyLoadingError:
        return None
    except (redis.RedisError, ValueError) as error:
        return str(error)
    return None
