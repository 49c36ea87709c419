"""A run's data in Redis; no other module names its keys.

Every key begins with `bidist:{run}:`; `docs/redis.md` lists them with their types and the redis-cli commands to read
them. All writes are safe to repeat, which matters because a broken connection retries; see `common.connection`.
"""

import contextlib
import json
import logging
import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any

import redis

from common import heartbeats, versions
from common.config import Config
from common.connection import PATIENCE_S, connect, shown
from common.errors import Stopped, StoreError
from common.ledger import Ledger
from common.settings import validate
from common.third_party import check_allowed
from common.weights import PHI, PHI_VERSION, Observations, Weights

log = logging.getLogger(__name__)

PREFIX = "bidist"
JOIN_S = 60.0
STARVATION_S = 120
STREAM_LENGTH = 10_000


def runs(client: Any) -> list[str]:
    """Returns the names of the runs in Redis."""
    return sorted(key.decode().split(":")[1] for key in client.scan_iter(match=f"{PREFIX}:*:config", count=1000))


class Store:
    """One run's data.

    Args:
      url: URL of the Redis server.
      run: name of the run.
      stopping: set when the role should stop, so that waits end early.
      patience_s: how long to retry a broken connection.
      stream_length: how many metrics and events Redis keeps, approximately.
      allowed: the code from outside BiDist that the configuration may name; see `common.third_party`.
    """

    def __init__(
        self,
        url: str,
        run: str,
        stopping: threading.Event | None = None,
        patience_s: float = PATIENCE_S,
        stream_length: int = STREAM_LENGTH,
        allowed: Collection[str] = (),
    ) -> None:
        self._allowed, self._skipped = allowed, b""
        self.url, self.run, self._stream_length = url, run, stream_length
        self.stopping = stopping or threading.Event()
        self.client = connect(url, self.stopping, patience_s)
        self.ledger = Ledger(self.client, self.key)

    def key(self, name: str) -> str:
        """Returns the full name of a key."""
        return f"{PREFIX}:{self.run}:{name}"

    def put_config(self, config: Config) -> None:
        """Writes the resolved configuration."""
        self.client.set(self.key("config"), config.model_dump_json())

    def config(self, timeout_s: float = 60.0) -> Config:
        """Reads the configuration, waiting for the learner to write it.

        Raises:
          StoreError: if none appears in time, or it is damaged.
          ConfigError: if it names code that is not allowed here.
        """
        text = self._wait("config", lambda: self.client.get(self.key("config")), timeout_s)
        with self._reading("config"):
            config = validate(json.loads(text))
        check_allowed(config, self._allowed)
        return config

    def put_endpoint(self, endpoint: str) -> None:
        """Publishes where the learner listens."""
        self.client.set(self.key("endpoint"), endpoint)

    def endpoint(self) -> str | None:
        """Returns where the learner listens, or None if that is not known yet."""
        value = self.client.get(self.key("endpoint"))
        return value.decode(errors="replace") if value else None

    def wait_for_endpoint(self, timeout_s: float = 120.0) -> str:
        """Returns where the learner listens, waiting until it has been published.

        Raises:
          StoreError: if it is not published in time.
        """
        endpoint: str = self._wait("endpoint", self.endpoint, timeout_s)
        return endpoint

    def count_start(self, role: str, name: str) -> int:
        """Returns how often a role of this name has started before, so that a restart can draw different seeds."""
        return int(self._write_repairing("starts", lambda key: self.client.hincrby(key, f"{role}:{name}", 1))) - 1

    def publish(self, name: str, weights: Weights) -> None:
        """Publishes a version of `theta` or a pooled policy atomically, unless Redis has a newer one."""
        versions.publish(self.client, self.key(name), weights)

    def publish_phi(self, phi: Weights, keep: int, since: int | None = None) -> bool:
        """Publishes a version of phi atomically as `phi` and as `phi:VERSION`; only the newest `keep` of those stay.

        With `since`, those from that version on go too. Returns False, and does nothing, if Redis has a newer phi.
        """
        with self._reading(PHI):
            return versions.publish_phi(self.client, self.key, phi, keep, since)

    def phis(self) -> dict[str, float]:
        """Returns the kept versions of phi by name, oldest first."""
        with self._reading("phis"):
            return {PHI_VERSION + v.decode(): float(v) for v in self.client.zrange(self.key("phis"), 0, -1)}

    def version(self, name: str, field: str = "version") -> int | None:
        """Returns the published version of `theta` or `phi`, or its `source_version`; None if there is none."""
        value = self.client.hget(self.key(name), field)
        with self._reading(name):
            return int(value) if value is not None else None

    def weights(self, name: str) -> Weights | None:
        """Returns the published version of `theta`, `phi` or a pooled policy, or None.

        Raises:
          StoreError: if the data is damaged.
        """
        fields: dict[bytes, bytes] = self.client.hgetall(self.key(name))
        with self._reading(name):
            return Weights.unpack(fields) if fields else None

    def wait_for_weights(self, name: str, timeout_s: float = 120.0) -> Weights:
        """Returns `theta` or `phi`, waiting for the first version.

        Raises:
          StoreError: if none appears in time.
        """
        weights: Weights = self._wait(name, lambda: self.weights(name), timeout_s)
        return weights

    def put_in_pool(self, number: int, weights: Weights, score: float) -> str:
        """Adds past policies with a score to the pool; returns their name for `weights`."""
        name = f"pool:{number}"
        self.publish(name, weights)
        self.client.zadd(self.key("pool"), {str(number): score})
        return name

    def remove_from_pool(self, name: str) -> None:
        """Removes past policies from the pool."""
        self.client.zrem(self.key("pool"), name.removeprefix("pool:"))
        self.client.delete(self.key(name))

    def pool(self) -> dict[str, float]:
        """Returns the score of each of the pool's past policies, by name."""
        entries: Any = self.client.zrange(self.key("pool"), 0, -1, withscores=True)
        return {f"pool:{number.decode(errors='replace')}": score for number, score in entries}

    def put_observations(self, observations: Observations) -> None:
        """Publishes D for the distiller; only the newest two are kept."""
        self.client.xadd(self.key("observations"), observations.pack(), maxlen=2, approximate=False)

    def drop_observations(self, after: int) -> None:
        """Removes every D that comes from a later update than the given one."""
        entries = self.client.xrange(self.key("observations"))
        for entry in (e for e, fields in entries if fields.get(b"update", b"").rjust(20, b"0") > b"%020d" % after):
            self.client.xdel(self.key("observations"), entry)

    def observations(self, other_than: int) -> Observations | None:
        """Returns the newest D unless it comes from the given update; it may be older if the learner was rewound.

        Damaged data counts as none, because the next will replace it.
        """
        entries: Any = self.client.xrevrange(self.key("observations"), count=1)
        if not entries or entries[0][1].get(b"update") == str(other_than).encode():
            return None
        try:
            return Observations.unpack(entries[0][1])
        except ValueError as error:
            if entries[0][0] != self._skipped:
                log.warning("%s: skipping damaged data: %s", self.key("observations"), error)
                self._skipped = entries[0][0]
            return None

    def put_queue(self, gauges: Mapping[str, str | int | float]) -> None:
        """Writes the state of the learner's queue."""
        self.client.hset(self.key("queue"), mapping=dict(gauges))

    def put_starvation(self, percent: float) -> None:
        """Writes the share of time that the learner spends waiting for unrolls, for autoscalers to read.

        It expires, because a learner that waited long ago is no reason to add actors.
        """
        self.client.set(self.key("starvation"), round(percent, 1), ex=STARVATION_S)

    def put_progress(self, fields: Mapping[str, str | int | float]) -> None:
        """Writes the run's progress; its `state` is starting, running, finishing, finished or stopped."""
        self.client.hset(self.key("progress"), mapping=dict(fields))

    @property
    def finished(self) -> bool:
        """Whether the run's budget is used up; the learner may still be shutting down."""
        return self.client.hget(self.key("progress"), "state") in (b"finishing", b"finished")

    def over(self, patience_s: float | None = None) -> bool:
        """Returns whether the run is finished and no learner resumes it within `patience_s` seconds.

        When everything starts at once, a learner that resumes the run with a larger budget may not have reported yet.
        """
        deadline = time.monotonic() + (JOIN_S if patience_s is None else patience_s)
        while self.finished:
            if time.monotonic() > deadline or self.stopping.wait(0.5):
                log.info("run %s is finished: nothing to do", self.run)
                return True
        return False

    def put_worker(self, role: str, name: str, fields: Mapping[str, str | int | float], ttl_s: float) -> str | None:
        """Writes a role's heartbeat, which expires after `ttl_s` seconds.

        Returns the incarnation of the previous heartbeat under this name, or None if that had expired.
        """
        return heartbeats.put(self.client, self.key(f"worker:{role}:{name}"), fields, ttl_s)

    def remove_worker(self, role: str, name: str, incarnation: str) -> None:
        """Removes the heartbeat of a role that has stopped, in one step, unless it is another incarnation's by now."""
        heartbeats.remove(self.client, self.key(f"worker:{role}:{name}"), incarnation)

    def workers(self) -> dict[tuple[str, str], dict[str, str]]:
        """Returns the latest heartbeat of each living role, by (role, name)."""
        return heartbeats.read(self.client, self.key("worker:"))

    def put_metrics(self, metrics: Mapping[str, float]) -> None:
        """Appends the metrics of one update to their stream."""
        fields: dict[Any, Any] = {name: repr(float(value)) for name, value in metrics.items()}
        self.client.xadd(self.key("metrics"), fields, maxlen=self._stream_length)

    def put_event(self, role: str, name: str, event: str, **details: str | int | float) -> None:
        """Appends an event, such as a start, a checkpoint or a distillation, to the stream of events."""
        fields: dict[Any, Any] = {"role": role, "name": name, "event": event, **details}
        self._write_repairing("events", lambda key: self.client.xadd(key, fields, maxlen=self._stream_length))

    def stream(self, name: str, count: int) -> list[tuple[float, dict[str, str]]]:
        """Returns the newest entries of `metrics` or `events`, oldest first, as (Unix time, fields)."""
        entries: Any = self.client.xrevrange(self.key(name), count=count)
        return [(int(key.split(b"-")[0]) / 1000, _text(fields)) for key, fields in reversed(entries)]

    def hash(self, name: str) -> dict[str, str]:
        """Returns a hash of short text fields, such as `queue`."""
        return _text(self.client.hgetall(self.key(name)))

    def _write_repairing(self, name: str, write: Callable[[str], Any]) -> Any:
        """Writes to a key that any actor may write to; deletes a value of the wrong type first."""
        key = self.key(name)
        try:
            return write(key)
        except redis.ResponseError as error:
            if not any(words in str(error) for words in ("WRONGTYPE", "not an integer", "overflow")):
                raise
            log.warning("%s is damaged (%s): removing it", key, error)
            self.client.delete(key)
            return write(key)

    @contextlib.contextmanager
    def _reading(self, name: str) -> Iterator[None]:
        try:
            yield
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            reason = str(error) if type(error) is ValueError else f"{type(error).__name__} {error}"
            raise StoreError(f"{self.key(name)}: damaged: {reason}; restart the learner to repair it") from None

    def _wait(self, what: str, read: Any, timeout_s: float) -> Any:
        deadline, logged = time.monotonic() + timeout_s, False
        while (value := read()) is None:
            if not logged:
                log.info("waiting for %s of run %s in Redis at %s", what, self.run, shown(self.url))
                logged = True
            if self.stopping.wait(0.1):
                raise Stopped(f"stopped while waiting for {what} of run {self.run!r}")
            if time.monotonic() > deadline:
                raise StoreError(
                    f"no {what} of run {self.run!r} in Redis at {shown(self.url)} after {timeout_s:.0f} s; "
                    f"is its {'distiller' if what == PHI else 'learner'} running?"
                )
        return value


def _text(fields: Mapping[bytes, bytes]) -> dict[str, str]:
    return {name.decode(errors="replace"): value.decode(errors="replace") for name, value in fields.items()}
