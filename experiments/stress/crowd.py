"""Synthetic actors: they play nothing, but talk to Redis and the learner as actors do. Many fit into one process."""

import contextlib
import itertools
import random
import socket
import time
from collections.abc import Iterator
from types import TracebackType
from typing import Self

import numpy as np

from common.config import Config
from common.lifecycle import MISSED_REPORTS, new_incarnation
from common.outbox import Outbox
from common.store import Store
from common.unroll import ARRAYS, PROTOCOL, Unroll, UnrollHeader, UnrollSpec
from common.weights import THETA

IDLE_S = 0.005
VERSION_S = 0.2


class Crowd:
    """Actors that make up unrolls as fast as the learner takes them, and die now and then; a context manager.

    Args:
      store: the run's keys.
      config: the run's.
      spec: what its unrolls look like.
      size: how many live at a time.
      life_s: how long one lives on average; another takes its place, under the same name.
      seed: of what they send and when they die.
    """

    def __init__(self, store: Store, config: Config, spec: UnrollSpec, size: int, life_s: float, seed: int) -> None:
        self._store, self._config, self._spec = store, config, spec
        self._names, self._life_s, self._rng = [f"made-up-{i}" for i in range(size)], life_s, random.Random(seed)
        self._actors: dict[str, Outbox] = {}
        self._incarnations: dict[str, str] = {}
        self._due: dict[str, float] = {}
        self._beats = self._looked = 0.0
        self._theta = 0
        self.produced = 0
        """Unrolls produced."""
        self.further = 0
        """The same, except the first of each life."""
        self.lives = 0
        """Incarnations so far."""
        self.closed_while_alive = 0
        """Incarnations that the ledger had closed although they were alive."""

    def __enter__(self) -> Self:
        self._endpoint = self._store.wait_for_endpoint()
        self._unrolls = itertools.cycle(list(made_up(self._spec, self._rng.randrange(2**32))))
        for name in self._names:
            self._begin(name)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for outbox in self._actors.values():
            outbox.close()

    @property
    def waiting(self) -> int:
        """The number of actors that the learner holds back."""
        return sum(outbox.waiting > 0 for outbox in self._actors.values())

    @property
    def unaccounted(self) -> int:
        """The number of unrolls from living actors that the learner has not accounted for."""
        return sum(outbox.unaccounted for outbox in self._actors.values())

    def play(self, seconds: float) -> None:
        """Lets all actors play for some seconds."""
        deadline = time.monotonic() + seconds
        while (now := time.monotonic()) < deadline:
            self._report(now)
            if not sum([self._turn(name, now) for name in self._names]):
                time.sleep(IDLE_S)

    def _turn(self, name: str, now: float) -> bool:
        """Lets one actor exchange messages and produce an unroll if it may; returns whether it did."""
        outbox = self._actors[name]
        outbox.pump()
        if now > self._due[name]:
            outbox.close()  # whatever it has not delivered is lost
            self._begin(name)
            return True
        if outbox.waiting:
            return False
        incarnation, sequence = self._incarnations[name], outbox.produced + 1
        if not self._store.ledger.produced(incarnation, sequence):
            self.closed_while_alive += 1
            self._due[name] = 0.0
            return False
        self.produced += 1
        self.further += sequence > 1
        unroll = next(self._unrolls)
        header = unroll.header.model_copy(
            update={
                "run": self._config.run.name,
                "actor": name,
                "incarnation": incarnation,
                "sequence": sequence,
                "theta_version": self._theta,
            }
        )
        outbox.put(Unroll(header, **{array: getattr(unroll, array) for array in ARRAYS}))
        return True

    def _begin(self, name: str) -> None:
        self._incarnations[name] = new_incarnation(name)
        self._due[name] = time.monotonic() + self._rng.expovariate(1 / self._life_s)
        self._actors[name] = Outbox(self._config.run.name, name, self._incarnations[name], self._endpoint).__enter__()
        self.lives += 1
        self._beat(name)

    def _report(self, now: float) -> None:
        if now - self._looked > VERSION_S:
            self._looked, self._theta = now, self._store.version(THETA) or 0
        if now - self._beats > self._config.run.heartbeat_s:
            self._beats = now
            for name in self._names:
                self._beat(name)

    def _beat(self, name: str) -> None:
        fields = {"incarnation": self._incarnations[name], "host": socket.gethostname(), "state": "playing"}
        with contextlib.suppress(OSError):
            self._store.put_worker("actor", name, fields, MISSED_REPORTS * self._config.run.heartbeat_s)


def made_up(spec: UnrollSpec, seed: int, count: int = 32) -> Iterator[Unroll]:
    """Yields unrolls that a learner accepts."""
    rng, players = np.random.default_rng(seed), spec.environment.players
    for _ in range(count):
        drawn: dict[str, np.ndarray] = {
            name: np.zeros(shape, dtype) for name, (dtype, shape) in spec.shapes(spec.unroll_length).items()
        }
        drawn["rgb"] = rng.integers(0, 256, drawn["rgb"].shape, dtype=np.uint8)
        drawn["features"] = rng.random(drawn["features"].shape, np.float32)
        drawn["action"] = rng.integers(0, spec.environment.actions, drawn["action"].shape, dtype=np.int32)
        drawn["log_prob"] = np.full_like(drawn["log_prob"], -np.log(spec.environment.actions))
        drawn["reward"] = rng.random(drawn["reward"].shape, np.float32)
        drawn["active"][:], drawn["discount"][:] = True, 1.0
        header = UnrollHeader(
            protocol=PROTOCOL,
            run="?",
            actor="?",
            incarnation="?",
            sequence=1,
            environment=0,
            theta_version=0,
            drivers=[THETA] * players,
            policy=[i % spec.policies for i in range(players)],
            episode=None,
            arrays=[(name, drawn[name].dtype.str, drawn[name].shape) for name in ARRAYS],
        )
        yield Unroll(header, **drawn)
