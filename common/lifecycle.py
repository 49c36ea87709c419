"""The life of a role: it registers, sends heartbeats while it works, and deregisters."""

import logging
import os
import socket
import threading
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Self

import redis

from common.errors import BidistError
from common.store import Store

log = logging.getLogger(__name__)

MISSED_REPORTS = 4


def new_incarnation(name: str) -> str:
    """Returns a unique name for one start of a role."""
    return f"{name}-{uuid.uuid4().hex[:12]}"


def pid_scope() -> str:
    """Returns the scope in which this PID is unique: boot ID and PID namespace.

    Containers can share a host name, so it is only the fallback.
    """
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return socket.gethostname()


class Presence:
    """Keeps `worker:{role}:{name}` alive in Redis from a background thread.

    A context manager: adds a `start` event on entering, and `stop` or `error` on leaving. Its wall-clock times are
    only for display: no decision depends on them, because that clock may jump.

    Args:
      store: the run's keys.
      role: `learner`, `actor` or `distiller`.
      name: unique among the role's living processes.
      incarnation: of this start.
      heartbeat_s: seconds between heartbeats.
      clock: returns seconds, and never jumps.
    """

    def __init__(
        self,
        store: Store,
        role: str,
        name: str,
        incarnation: str,
        heartbeat_s: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store, self._role, self._name, self._heartbeat_s = store, role, name, heartbeat_s
        self._clock, self._advanced_at = clock, clock()
        self._fields: dict[str, str | int | float] = {
            "incarnation": incarnation,
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "place": pid_scope(),
            "started": int(time.time()),
            "state": "starting",
        }
        self._clashed = False
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="heartbeat", daemon=True)

    def say(self, **fields: str | int | float) -> None:
        """Changes fields of the next heartbeat: state, version, rate."""
        self._fields.update(fields)

    def advanced(self) -> None:
        """Records that the role is not only alive but has just made progress."""
        self._advanced_at = self._clock()
        self.say(advanced=round(time.time(), 3))

    def __enter__(self) -> Self:
        self._report(first=True)
        self._store.put_event(self._role, self._name, "start", incarnation=self._fields["incarnation"])
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self._thread.join(timeout=5)
        try:
            if error is None:
                self._store.put_event(self._role, self._name, "stop")
            else:
                self._store.put_event(self._role, self._name, "error", message=str(error)[:500])
            self._store.remove_worker(self._role, self._name, str(self._fields["incarnation"]))
        except (BidistError, redis.RedisError) as away:
            log.warning("could not deregister from Redis: %s", away)

    def _beat(self) -> None:
        while not self._over.wait(self._heartbeat_s):
            try:
                self._report()
            except (BidistError, redis.RedisError) as error:
                log.warning("could not send a heartbeat to Redis: %s", error)

    def _report(self, first: bool = False) -> None:
        idle_s = round(self._clock() - self._advanced_at, 1)
        fields = dict(self._fields, reported=round(time.time(), 3), idle_s=idle_s)
        before = self._store.put_worker(self._role, self._name, fields, MISSED_REPORTS * self._heartbeat_s)
        if not (first or self._clashed or before in (None, fields["incarnation"])):
            self._clashed = True
            twin = f"another {self._role} of run {self._store.run} is called {self._name!r} too ({before})"
            log.warning("%s: give each its own name", twin)
