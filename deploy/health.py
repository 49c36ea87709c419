"""Health checks of the roles on a host, for container engines: by a command, or over HTTP by the role itself."""

import contextlib
import socket
import threading
from collections.abc import Callable
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self

import redis

from common.connection import refusal
from common.errors import ConfigError
from common.store import Store

PATIENCE_S = 120.0


def problem(url: str, run: str, role: str, patience_s: float, alive: bool, host: str | None = None) -> str | None:
    """Returns what is wrong with a role, or None if it is healthy.

    A role that has just started is healthy, and so is every role of a finished run.

    Args:
      url: URL of the Redis server.
      run: the run's name.
      role: `learner`, `actor` or `distiller`; of several on the host, one healthy instance suffices.
      patience_s: how many seconds ago it may last have made progress: the learner an update, an actor an unroll, the
        distiller a check for new observations.
      alive: whether a heartbeat is enough. The role then also passes if Redis is unreachable or takes no writes, and
        so no heartbeats, because restarting every role would not help.
      host: where the role should run; None means this host.
    """
    if (reason := refusal(url)) is not None:
        return None if alive else f"no Redis answers: {reason}"
    store, host = Store(url, run), host or socket.gethostname()
    if store.finished:
        return None
    if (reason := _unwritable(url, store.key(f"worker:{role}:"))) is not None:
        return None if alive else reason
    here = [fields for (kind, _), fields in store.workers().items() if kind == role and fields.get("host") == host]
    if not here:
        return f"no {role} of run {run} sends heartbeats from {host}"
    if alive or (idle := min(float(fields.get("idle_s", 0)) for fields in here)) <= patience_s:
        return None
    state = ", ".join(sorted({fields.get("state", "?") for fields in here}))
    return f"the {role} has made no progress for {idle:.0f} s: {state}"


def _unwritable(url: str, key: str) -> str | None:
    """Returns why Redis takes no writes; None if it takes them.

    A role's user may not ask for the server's state, so this makes a write that changes nothing: an entry for a stream
    that does not exist and that it may not create.
    """
    with redis.Redis.from_url(url, socket_timeout=5, socket_connect_timeout=5, retry=None) as client:
        try:
            client.xadd(key, {"": ""}, nomkstream=True)
        except (redis.OutOfMemoryError, redis.ReadOnlyError) as error:
            return f"Redis takes no writes: {error}"
        except redis.ResponseError as error:
            return f"Redis takes no writes: {error}" if str(error).startswith("MISCONF") else None
        except redis.RedisError:
            pass  # it has gone meanwhile, which the next check finds
    return None


class Probes:
    """Answers `/healthz`, whether a role is alive, and `/readyz`, whether it makes progress, from a background thread.

    A context manager that listens from entry to exit, on every interface, because a cluster probes from outside. The
    answer is 200, or 503 with the problem.

    Args:
      check: returns the problem, None if there is none; its argument is whether a heartbeat is enough.
      port: where to listen; 0 takes a free one.
    """

    def __init__(self, check: Callable[[bool], str | None], port: int) -> None:
        self._check, self.port = check, port
        self._server: ThreadingHTTPServer | None = None

    def __enter__(self) -> Self:
        try:
            self._server = ThreadingHTTPServer(("", self.port), partial(_Answer, self._check))
        except (OSError, OverflowError) as error:
            raise ConfigError(
                f"cannot answer probes on port {self.port}: {error}; name another --health-port"
            ) from None
        self.port = self._server.server_port
        threading.Thread(target=self._server.serve_forever, name="probes", daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._server is not None
        self._server.shutdown()
        self._server.server_close()


class _Answer(BaseHTTPRequestHandler):
    timeout = 5  # seconds that a client may take to ask

    def __init__(self, check: Callable[[bool], str | None], *arguments: Any) -> None:
        self._check = check
        super().__init__(*arguments)

    def handle(self) -> None:
        """Answers, unless the client has given up in the meantime, as engines do when a host is busy."""
        with contextlib.suppress(ConnectionError):
            super().handle()

    def do_GET(self) -> None:
        self.wfile.write(self._head())

    def do_HEAD(self) -> None:
        self._head()

    def _head(self) -> bytes:
        """Sends the status and the headers of the answer; returns its body."""
        if self.path not in ("/healthz", "/readyz"):
            self.send_error(404)  # with its body, which a HEAD gets none of
            return b""
        found = self._check(self.path == "/healthz")
        body = f"{found or 'healthy'}\n".encode()
        self.send_response(503 if found else 200)
        self.send_header("Content-Type", "text/plain; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        return body

    def log_message(self, format: str, *arguments: Any) -> None:
        """Logs nothing: probes come every few seconds."""
