"""All roles in one process and one thread: the same code, step by step, for tests and debuggers.

On the CPU, with a deterministic game, the same seed gives bit-identical parameters.
"""

import contextlib
import logging
import threading
from collections.abc import Callable, Iterator
from types import TracebackType

import torch

from actors.actor import Actor
from common.config import Config
from common.lifecycle import Presence
from common.run_folder import RunFolder
from common.store import Store
from common.unroll import Unroll
from deploy import views
from deploy.redis_server import RedisServer
from distiller.service import DistillerService
from learner.ranks import Ranks, device_of
from learner.service import LearnerService

log = logging.getLogger(__name__)

SAY_EVERY = 20


class Serial:
    """A run whose roles take turns: the actor plays a batch, the learner updates, the distiller looks for work.

    A context manager: on leaving it closes everything and, unless there was an error, writes a checkpoint.

    Args:
      config: the run's.
      url: Redis' URL.
      on_batch: called with the unrolls of every batch before it is trained on.
    """

    learner: LearnerService
    actor: Actor
    distiller: DistillerService | None

    def __init__(self, config: Config, url: str, on_batch: Callable[[list[Unroll]], None] | None = None) -> None:
        self.config, self._on_batch = config, on_batch
        self.store = Store(url, config.run.name, threading.Event())
        self._batch = config.learner.batch_unrolls
        self._roles, self._presences = contextlib.ExitStack(), contextlib.ExitStack()

    def __enter__(self) -> "Serial":
        config, store = self.config, self.store
        with self._roles:  # closes what is open if a later step fails
            self._roles.enter_context(deterministic())
            ranks = self._roles.enter_context(Ranks(device_of(config.learner.device)))
            learner = LearnerService(store, config, "tcp://127.0.0.1:*", "127.0.0.1", ranks, self._on_batch)
            self.learner = self._roles.enter_context(learner)
            distils = self.learner.learner.method.phi is not None
            self.distiller = self._roles.enter_context(DistillerService(store, config)) if distils else None
            self.actor = self._roles.enter_context(Actor(config, store, "0"))
            self._roles = self._roles.pop_all()
        self._taken = self.actor.outbox.produced
        lives = [("learner", "learner", self.learner.incarnation), ("actor", "0", self.actor.incarnation)]
        for role, name, incarnation in lives:
            presence = Presence(store, role, name, incarnation, config.run.heartbeat_s)
            self._presences.enter_context(presence).say(state="serial")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._presences, self._roles:
            self.actor.outbox.close()
            if kind is None:
                self.learner.leave()

    def update(self) -> None:
        """Plays until there is a batch, updates once, and distils if an event is due."""
        while self.actor.outbox.produced - self._taken < self._batch:
            self.actor.step()
        while not self.learner.step(timeout_s=0.01):
            room = self.actor.wait(timeout_s=0.01)
            if room and not self.actor.outbox.unreceived and self.learner.feed.waiting < self._batch:
                self.actor.step()  # some of what was played turned out to be stale
        self._taken += self._batch
        if self.distiller is not None:
            self.distiller.step()


def train(config: Config, url: str | None, stopping: threading.Event, say: Callable[[str], None]) -> str | None:
    """Trains until the budget is used up and returns the ledger as text; returns None if `stopping` is set first.

    Args:
      config: the run's.
      url: an external Redis server; None starts one in the run's folder.
      stopping: set to stop.
      say: takes a line of status now and then.
    """
    folder = RunFolder.of(config.run)
    with contextlib.ExitStack() as stack:
        for role in ("train", "learner"):
            stack.enter_context(folder.held(role))
        folder.begin(config)
        if url is None:
            server = stack.enter_context(RedisServer(folder.redis))
            url = server.url
            folder.put_url(url)
        with Serial(config, url) as serial:
            while not (serial.learner.learner.finished or stopping.is_set()):
                serial.update()
                if serial.learner.learner.updates % SAY_EVERY == 0:
                    say(views.plain(views.snapshot(serial.store)))
        return str(serial.store.ledger.balance()) if serial.store.finished else None


@contextlib.contextmanager
def deterministic() -> Iterator[None]:
    """Makes torch deterministic and single-threaded for the length of the block."""
    before = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    threads = torch.get_num_threads()
    torch.use_deterministic_algorithms(True)
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before[0], warn_only=before[1])
        torch.set_num_threads(threads)
