"""What Redis holds of a run, and the only module that names its keys.

Every key begins with `bidist:{run}:`. `docs/redis.md` lists them with their types and the redis-cli commands that
read them. All writes may be repeated safely, as a connection does that was broken; see `common.connection`.
"""

import hashlib
import json
import logging
import threading
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import msgpack
import numpy as np

from common.config import Config
from common.connection import connect, shown
from common.errors import StoreError
from common.ledger import Ledger
from common.settings import validate
from common.weights import Observations, Weights

if TYPE_CHECKING:
    pass

log = logging.getLogger(__name__)

PREFIX = "bidist"
JOIN_S = 60.0
STARVATION_S = 120
STREAM_LENGTH = 10_000


def runs(client: Any) -> list[str]:
    """Names of the runs that Redis knows."""
    keys = client.scan_iter(match=f"{PREFIX}:*:config", count=1000)
    return sorted(key.decode().split(":")[1] for key in keys)


class Store:
    """One run's keys.

    Args:
      url: Redis' URL.
      run: name of the run.
      stopping: set when the role is to stop, so that waits end early.
    """

    def __init__(self, url: str, run: str, stopping: threading.Event | None = None) -> None:
        self.url, self.run = url, run
        self.stopping = stopping or threading.Event()
        self.client = connect(url, self.stopping)
        self.ledger = Ledger(self.client, self.key("ledger"), self.key("sequences"), self.key("closed"))

    def key(self, name: str) -> str:
        """The full name of a key."""
        return f"{PREFIX}:{self.run}:{name}"

    def put_config(self, config: Config) -> None:
        """Writes the resolved configuration."""
        self.client.set(self.key("config"), config.model_dump_json())

    def config(self, timeout_s: float = 60.0) -> Config:
        """Reads the configuration, waiting for the learner to write it.

        Raises:
          StoreError: if none appears in time.
        """
        text = self._wait("config", lambda: self.client.get(self.key("config")), timeout_s)
        return validate(json.loads(text))

    def put_endpoint(self, endpoint: str) -> None:
        """Says where the learner listens."""
        self.client.set(self.key("endpoint"), endpoint)

    def endpoint(self) -> str | None:
        """Where the learner listens, if it said so."""
        value = self.client.get(self.key("endpoint"))
        return value.decode() if value else None

    def wait_for_endpoint(self, timeout_s: float = 120.0) -> str:
        """Where the learner listens, waiting for it to say so.

        Raises:
          StoreError: if it does not in time.
        """
        endpoint: str = self._wait("endpoint", self.endpoint, timeout_s)
        return endpoint

    def count_start(self, role: str, name: str) -> int:
        """Counts the starts of a role by its name: 0 for the first, so that a restart can draw other seeds."""
        return int(self.client.hincrby(self.key("starts"), f"{role}:{name}", 1)) - 1

    def publish(self, name: str, weights: Weights) -> None:
        """Writes a version of `theta`, `phi` or one of the pool in one step, so that nobody ever reads half of one."""
        import safetensors.torch  # here, so that who only looks at a run need not load torch

        data = safetensors.torch.save({k: v.detach().cpu().contiguous() for k, v in weights.parameters.items()})
        fields: dict[str, Any] = {
            "version": weights.version,
            "source_version": weights.source_version,
            "direction": weights.direction,
            "digest": hashlib.sha256(data).hexdigest(),
            "bytes": data,
        }
        self.client.hset(self.key(name), mapping=fields)

    def version(self, name: str) -> int | None:
        """The version of `theta` or `phi` that is published, None if none is."""
        value = self.client.hget(self.key(name), "version")
        return int(value) if value is not None else None

    def weights(self, name: str) -> Weights | None:
        """Pulls the published version of `theta`, `phi` or one of the pool; None if there is none.

        Raises:
          StoreError: if the bytes are not those that were published.
        """
        import safetensors.torch

        fields: dict[bytes, bytes] = self.client.hgetall(self.key(name))
        if not fields:
            return None
        data = fields.get(b"bytes", b"")
        if hashlib.sha256(data).hexdigest().encode() != fields.get(b"digest"):
            raise StoreError(f"{self.key(name)}: the bytes do not match their digest; restart the learner to repair it")
        return Weights(
            int(fields[b"version"]),
            safetensors.torch.load(data),
            int(fields[b"source_version"]),
            fields[b"direction"].decode(),
        )

    def wait_for_weights(self, name: str, timeout_s: float = 120.0) -> Weights:
        """Pulls `theta` or `phi`, waiting for the first version.

        Raises:
          StoreError: if none appears in time.
        """
        weights: Weights = self._wait(name, lambda: self.weights(name), timeout_s)
        return weights

    def put_in_pool(self, number: int, weights: Weights, rank: float) -> str:
        """Adds past policies under a number and with a rank; returns the name by which `weights` pulls them."""
        name = f"pool:{number}"
        self.publish(name, weights)
        self.client.zadd(self.key("pool"), {str(number): rank})
        return name

    def remove_from_pool(self, name: str) -> None:
        """Takes past policies out."""
        self.client.zrem(self.key("pool"), name.removeprefix("pool:"))
        self.client.delete(self.key(name))

    def pool(self) -> dict[str, float]:
        """The past policies that there are, by name, each with its rank."""
        entries: Any = self.client.zrange(self.key("pool"), 0, -1, withscores=True)
        return {f"pool:{number.decode()}": rank for number, rank in entries}

    def put_observations(self, observations: Observations) -> None:
        """Hands D to the distiller; only the newest two are kept."""
        arrays = {name: getattr(observations, name) for name in ("rgb", "features", "policy", "mask")}
        table = {name: (a.dtype.str, a.shape) for name, a in arrays.items()}
        fields: dict[str, Any] = {"update": observations.update, "table": msgpack.packb(table)}
        fields |= {name: np.ascontiguousarray(a).tobytes() for name, a in arrays.items()}
        self.client.xadd(self.key("observations"), fields, maxlen=2, approximate=False)

    def observations(self, other_than: int) -> Observations | None:
        """The newest D, if it comes from another update than this; an earlier one, if the learner had to go back."""
        entries: Any = self.client.xrevrange(self.key("observations"), count=1)
        if not entries or int(entries[0][1][b"update"]) == other_than:
            return None
        fields = entries[0][1]
        table = msgpack.unpackb(fields[b"table"])
        arrays = {
            name: np.frombuffer(fields[name.encode()], dtype=dtype).reshape(shape)
            for name, (dtype, shape) in table.items()
        }
        return Observations(int(fields[b"update"]), **arrays)

    def put_queue(self, gauges: Mapping[str, str | int | float]) -> None:
        """Writes the state of the learner's queue."""
        self.client.hset(self.key("queue"), mapping=dict(gauges))

    def put_starvation(self, percent: float) -> None:
        """Writes what share of its time the learner waits for unrolls, by itself, for autoscalers to read.

        The word fades: who waited long ago is no reason for more actors.
        """
        self.client.set(self.key("starvation"), round(percent, 1), ex=STARVATION_S)

    def put_progress(self, fields: Mapping[str, str | int | float]) -> None:
        """Writes how far the run is: `state` is starting, running, finishing, finished or stopped."""
        self.client.hset(self.key("progress"), mapping=dict(fields))

    @property
    def finished(self) -> bool:
        """Whether the learner said that the run's budget is used up, though it may not have left yet."""
        return self.client.hget(self.key("progress"), "state") in (b"finishing", b"finished")

    def over(self, patience_s: float | None = None) -> bool:
        """Whether there is nothing to join: the run is finished, and no learner goes on with it within some time.

        Where everything starts at once, the learner of a run whose budget was raised may not have said so yet.
        """
        deadline = time.monotonic() + (JOIN_S if patience_s is None else patience_s)
        while self.finished:
            if time.monotonic() > deadline or self.stopping.wait(0.5):
                log.info("run %s is finished: nothing to do", self.run)
                return True
        return False

    def put_worker(self, role: str, name: str, fields: Mapping[str, str | int | float], ttl_s: float) -> str | None:
        """Says that a role is alive; the word fades after `ttl_s` seconds.

        Returns the incarnation that spoke last under this name, None if none did for long.
        """
        key = self.key(f"worker:{role}:{name}")
        with self.client.pipeline(transaction=True) as pipe:
            pipe.hget(key, "incarnation")
            pipe.hset(key, mapping=dict(fields))
            pipe.pexpire(key, int(ttl_s * 1000))
            before = pipe.execute()[0]
        return None if before is None else str(before.decode())

    def remove_worker(self, role: str, name: str) -> None:
        """Says that a role left in good order."""
        self.client.delete(self.key(f"worker:{role}:{name}"))

    def workers(self) -> dict[tuple[str, str], dict[str, str]]:
        """The living roles, (role, name) to what they last said of themselves."""
        head = self.key("worker:")
        keys = sorted(self.client.scan_iter(match=f"{head}*", count=1000))
        with self.client.pipeline(transaction=False) as pipe:
            for key in keys:
                pipe.hgetall(key)
            hashes = pipe.execute()
        found = {}
        for key, fields in zip(keys, hashes, strict=True):
            role, _, name = key.decode().removeprefix(head).partition(":")
            if fields:
                found[role, name] = {k.decode(): v.decode() for k, v in fields.items()}
        return found

    def put_metrics(self, metrics: Mapping[str, float]) -> None:
        """Appends one update's scalars to the stream of metrics."""
        fields: dict[Any, Any] = {name: repr(float(value)) for name, value in metrics.items()}
        self.client.xadd(self.key("metrics"), fields, maxlen=STREAM_LENGTH)

    def put_event(self, role: str, name: str, event: str, **details: str | int | float) -> None:
        """Appends a start, a stop, a checkpoint, a distillation event or the like to the stream of events."""
        fields: dict[Any, Any] = {"role": role, "name": name, "event": event, **details}
        self.client.xadd(self.key("events"), fields, maxlen=STREAM_LENGTH)

    def stream(self, name: str, count: int) -> list[tuple[float, dict[str, str]]]:
        """The newest entries of `metrics` or `events`, oldest first: (time in s since 1970, fields)."""
        entries: Any = self.client.xrevrange(self.key(name), count=count)
        return [
            (int(key.split(b"-")[0]) / 1000, {k.decode(): v.decode() for k, v in fields.items()})
            for key, fields in reversed(entries)
        ]

    def hash(self, name: str) -> dict[str, str]:
        """A hash of short text fields, such as `queue`."""
        fields: Any = self.client.hgetall(self.key(name))
        return {k.decode(): v.decode() for k, v in fields.items()}

    def _wait(self, what: str, read: Any, timeout_s: float) -> Any:
        deadline = time.monotonic() + timeout_s
        said = False
        while (value := read()) is None:
            if not said:
                log.info("waiting for %s of run %s in Redis at %s", what, self.run, shown(self.url))
                said = True
            if time.monotonic() > deadline or self.stopping.is_set():
                raise StoreError(
                    f"no {what} of run {self.run!r} in Redis at {shown(self.url)} after {timeout_s:.0f} s; "
                    "is its learner running?"
                )
            time.sleep(0.1)
        return value
