"""The connection to Redis, which survives a restart of the server.

A broken connection is logged and retried for up to `patience_s` seconds.
"""

import contextlib
import logging
import re
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self
from urllib.parse import quote

import redis
from redis.backoff import AbstractBackoff
from redis.connection import parse_url
from redis.retry import Retry

from common.errors import SetupError, StoreError

log = logging.getLogger(__name__)

PATIENCE_S = 60.0
TIMEOUT_S = 10.0
"""How long an answer may take, and sending one value. A dead connection is found before the learner misses an actor."""
# The server is gone, is loading its file, is out of memory, or takes no writes, because it is a replica or its disk is
# full: it may recover.
UNABLE = [
    redis.ConnectionError,
    redis.TimeoutError,
    redis.BusyLoadingError,
    redis.OutOfMemoryError,
    redis.ReadOnlyError,
]
FOREVER = -1  # redis-py retries without end, until `_Patience` raises


class _Patience(AbstractBackoff):
    """Backs off exponentially, logs the wait once, and gives up in the end, sooner if the role is stopping."""

    def __init__(self, url: str, stopping: threading.Event, patience_s: float) -> None:
        self._url, self._stopping, self._patience_s = url, stopping, patience_s
        self._since = threading.local()  # threads wait independently

    def compute(self, failures: int) -> float:
        if failures == 1:
            self._since.s = time.monotonic()
            log.warning("waiting up to %.0f s for Redis at %s", self._patience_s, shown(self._url))
        if time.monotonic() - self._since.s > self._patience_s:
            raise StoreError(f"Redis at {shown(self._url)} was unreachable for {self._patience_s:.0f} s: giving up")
        if self._stopping.is_set() and failures > 8:
            raise StoreError(f"Redis at {shown(self._url)} is unreachable, and this role is stopping")
        return float(min(1.0, 0.05 * 2 ** min(failures, 5)))

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        return self  # redis-py copies it for each connection; all must share one event


_STATES = {"OOM command": redis.OutOfMemoryError, "READONLY": redis.ReadOnlyError, "MISCONF": redis.ReadOnlyError}
"""Words by which a server says that its state forbids a write, and what to raise."""


class _Pipeline(redis.client.Pipeline):
    """Recognises a server whose disk is full, for which redis-py has no error of its own."""

    def parse_response(self, connection: Any, command_name: Any, **options: Any) -> Any:
        with _naming_states():
            return super().parse_response(connection, command_name, **options)  # type: ignore[no-untyped-call]


class _Client(redis.Redis):
    """Raises a script's error about the server's state as a plain command's, so that the script is retried like one.

    A script is refused before its first write, never in the middle.
    """

    def parse_response(self, connection: Any, command_name: Any, **options: Any) -> Any:
        with _naming_states():
            return super().parse_response(connection, command_name, **options)  # type: ignore[no-untyped-call]

    def pipeline(self, transaction: bool = True, shard_hint: Any = None) -> _Pipeline:
        return _Pipeline(self.connection_pool, self.response_callbacks, transaction, shard_hint)


@contextlib.contextmanager
def _naming_states() -> Iterator[None]:
    try:
        yield
    except redis.ResponseError as error:
        for words, kind in _STATES.items():
            if words in str(error) and not isinstance(error, kind):
                raise kind(str(error)) from None
        raise


def connect(url: str, stopping: threading.Event | None = None, patience_s: float = PATIENCE_S) -> Any:
    """Returns a client that survives a restart of Redis; untyped, because redis-py types sync and async as one.

    Raises:
      StoreError: if the URL is not valid.
    """
    try:
        return _Client.from_url(
            checked(url),
            retry=Retry(_Patience(url, stopping or threading.Event(), patience_s), FOREVER),
            retry_on_error=UNABLE,
            socket_timeout=TIMEOUT_S,
            socket_connect_timeout=5,
        )
    except ValueError as error:
        raise StoreError(str(error)) from None


def shown(url: str) -> str:
    """Returns a Redis URL without its password, for logs and messages."""
    url = re.sub(r"([?&][^=&]*password=)[^&]*", r"\1***", url, flags=re.IGNORECASE)
    return re.sub(r"(://[^/@:]*:).+@", r"\1***@", url)


def checked(url: str) -> str:
    """Returns a Redis URL if it is one.

    Raises:
      ValueError: if it is none; the message says why, without its password.
    """
    try:
        if "#" in url or "/" in url.partition("://")[2].rpartition("@")[0]:
            raise ValueError("write # and / in its password as %23 and %2F")
        parse_url(url)  # type: ignore[no-untyped-call]
    except ValueError as error:
        wrong = f"{shown(url)!r} is not a Redis URL ({error})"
        raise ValueError(f"{wrong}; expected something like redis://localhost:6379/0") from None
    return url


def with_password(url: str, path: Path | None) -> str:
    """Returns a Redis URL completed by the password in a file, unless it has one already.

    Raises:
      SetupError: if the file cannot be read or is empty.
    """
    scheme, separator, rest = url.partition("://")
    place = rest.partition("/")[0] if not scheme.startswith("unix") else rest
    user, at, _ = place.rpartition("@")
    if path is None or not separator or ":" in user:
        return url
    try:
        password = path.read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        raise SetupError(f"Redis' password cannot be read: {error}") from None
    if not password:
        raise SetupError(f"Redis' password cannot be read: {path} is empty")
    return f"{scheme}://{user}:{quote(password, safe='')}@{rest[len(user) + len(at) :]}"


def refusal(url: str) -> str | None:
    """Returns why no Redis answers at a URL, or None if one does."""
    try:
        with redis.Redis.from_url(checked(url), socket_timeout=5, socket_connect_timeout=5, retry=None) as client:
            client.ping()
    except redis.BusyLoadingError:
        return None
    except (redis.RedisError, ValueError) as error:
        if str(error).startswith("MISCONF"):  # it cannot write its file, and answers nevertheless
            return None
        if "HELLO must be called with the client already authenticated" in str(error):
            return (
                "it requires a user and a password: name the user in the URL, and the password's file in "
                "BIDIST_REDIS_PASSWORD_FILE"
            )
        return str(error)
    return None
