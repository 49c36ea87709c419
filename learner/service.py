"""The learner process: restores the run, receives unrolls, updates theta until the budget is used up, and leaves."""

import contextlib
import ipaddress
import logging
import math
import time
from collections.abc import Callable
from types import TracebackType
from typing import Self

import torch

import environments
from common.checkpoint import Checkpoint
from common.config import Config, LearnerConfig, learner_threads
from common.errors import ConfigError, SetupError
from common.inbox import Inbox
from common.keys import LearnerKeys
from common.lifecycle import MISSED_REPORTS, Presence, new_incarnation
from common.metrics import MetricsLog
from common.run_folder import RunFolder
from common.store import Store
from common.unroll import Unroll, UnrollSpec
from common.weights import THETA
from learner.batch import Batch, collate
from learner.checkpoints import Checkpoints
from learner.feed import Feed
from learner.gauges import Gauges
from learner.learner import Learner
from learner.ownership import OPENING_S, Ownership
from learner.pool import Pool
from learner.ranks import Launch, Ranks, device_of
from learner.timers import Every
from methods import make_method

log = logging.getLogger(__name__)

FINISH_S = 15.0
STOP_S = 2.0
"""How long a learner without unrolls may take to notice that it should stop."""


def run(store: Store, config: Config, listen: str, host: str, launch: Launch, keys: LearnerKeys | None = None) -> None:
    """Runs the learner until it is stopped or the run's budget is used up."""
    torch.set_num_threads(learner_threads(config.learner))
    with (
        Ranks(device_of(config.learner.device), launch) as ranks,
        LearnerService(store, config, listen, host, ranks, keys=keys) as service,
        Presence(store, "learner", "learner", service.incarnation, config.run.heartbeat_s) as presence,
    ):
        learner = service.learner
        if learner.finished:
            log.info("run %s is finished: raise its steps, or start another run", store.run)
        while not (store.stopping.is_set() or learner.finished):
            updated = service.step(min(config.run.heartbeat_s, STOP_S))
            if updated:
                presence.advanced()
            state = "learning" if updated else "waiting for unrolls"
            presence.say(state=state, updates=learner.updates, theta_version=learner.version, unsaved=service.unsaved)
        # Not after an error: the parameters may be what is broken, and the newest checkpoint is whole.
        service.leave()
    log.info("%d updates, %d player steps", learner.updates, learner.player_steps)


def follow(config: Config, launch: Launch) -> None:
    """Runs any rank but 0: makes the same updates as rank 0 until that one leaves."""
    torch.set_num_threads(learner_threads(config.learner))
    with Ranks(device_of(config.learner.device), launch) as ranks:
        learner = Learner(config.learner, config.run, make_method(config), unroll_spec(config), ranks)
        learner.restore(*ranks.share_state(learner.tensors(), learner.counters()))
        log.info("rank %d of %d follows on %s", ranks.rank, ranks.size, ranks.device)
        while (batch := ranks.share_batch(None)) is not None:
            learner.update(batch)


class LearnerService:
    """A learner with its socket, checkpoints, metrics and gauges.

    A context manager: on entering it binds its port, restores the run and announces it in Redis; on exit it stops
    listening and lets the other ranks go.

    Args:
      store: the run's keys.
      config: the run's; written to Redis for the other roles.
      listen: where to bind, such as `tcp://127.0.0.1:*`.
      host: the name under which actors reach this machine.
      ranks: this process among those of its learner.
      on_batch: called with the unrolls of every batch before it is trained on.
      keys: whom to admit; None admits anyone who reaches the port.
    """

    learner: Learner
    feed: Feed
    pool: Pool
    endpoint: str

    def __init__(
        self,
        store: Store,
        config: Config,
        listen: str,
        host: str,
        ranks: Ranks,
        on_batch: Callable[[list[Unroll]], None] | None = None,
        keys: LearnerKeys | None = None,
    ) -> None:
        self._keys = keys
        self.store, self.config = store, config
        self.incarnation = new_incarnation("learner")
        silence_s = max(OPENING_S, MISSED_REPORTS * config.run.heartbeat_s)
        self._owned = Ownership(store, self.incarnation, silence_s)
        self._ledger = store.ledger.of(self.incarnation)
        self._listen, self._host, self._ranks, self._on_batch = listen, host, ranks, on_batch
        self._folder = RunFolder.of(config.run)
        self._checkpoints = Checkpoints(store, self._folder.checkpoints, config.run.keep_checkpoints)
        self._resources = contextlib.ExitStack()
        self._wait_s = 0.0  # since the last update

    def __enter__(self) -> Self:
        with self._resources:  # closes what is open if a later step fails
            self._open()
            self._resources = self._resources.pop_all()
        log.info("learning on %s, %d ranks, listening at %s", self._ranks.device, self._ranks.size, self.endpoint)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._resources.close()

    @property
    def unsaved(self) -> str:
        """Why the newest checkpoint could not be saved; empty if it was."""
        return self._checkpoints.unsaved

    def step(self, timeout_s: float) -> bool:
        """Makes one update if a batch arrives in time, then whatever is due; returns whether it updated."""
        started = time.monotonic()
        unrolls = self.feed.next_batch(self.learner.version, timeout_s)
        received = time.monotonic()
        self._wait_s += received - started
        self._gauges.waited(received - started)
        if unrolls is not None:
            if self._on_batch is not None:
                self._on_batch(unrolls)
            batch = collate(unrolls, self.config.actor.unroll_length, self._ranks.device)
            self._ranks.share_batch(batch)
            metrics = self.learner.update(batch) | self.learner.count(unrolls)
            self._owned.check()  # this process may have been stopped for a long time during the update
            self._publish(batch, metrics)
            self.feed.account()
            self._log(metrics, time.monotonic() - received)
        if self._report_due.due:
            self.report()
        if self._save_due.due:
            self.save()
        return unrolls is not None

    def report(self) -> None:
        """Writes the gauges, and closes the accounts of actors that are gone.

        Raises:
          SetupError: if another learner has taken the run over.
        """
        self._report_due.restart()
        endpoint = self.store.endpoint()
        if endpoint is None:
            log.warning("Redis has lost the run: announcing it again")
            self._owned.restore()
            self._rewind()
            self._announce(self._checkpoints.newest())
        elif endpoint != self.endpoint:
            raise SetupError(f"another learner, at {endpoint}, took run {self.store.run} over; a run has only one")
        known = self._ledger.incarnations()
        workers = self.store.workers()
        actors = {fields.get("incarnation", "") for (role, _), fields in workers.items() if role == "actor"}
        self.feed.sweep(actors, known)
        self._gauges.report(len(actors))

    def save(self) -> None:
        """Saves a checkpoint from which the run resumes exactly."""
        self._checkpoints.save(self.learner)
        self._save_due.restart()

    def leave(self) -> None:
        """Saves, accounts for what is in flight, and ends the run if its budget is used up."""
        self._owned.check()
        self.save()
        if self.learner.finished:
            self._gauges.progress("finishing")
            self.feed.finish(FINISH_S)
            for incarnation in self._ledger.incarnations():
                self._ledger.close(incarnation)
        else:
            self.feed.stop()
        self.store.put_starvation(0.0)
        self._gauges.progress("finished" if self.learner.finished else "stopped")

    def _open(self) -> None:
        config, store, on_exit = self.config, self.store, self._resources.callback
        method, spec = make_method(config), unroll_spec(config)
        capacity = max(1, round(config.learner.queue_batches * config.learner.batch_unrolls))
        # The port and the claim come first: a second learner must not touch what belongs to the one that runs.
        inbox = Inbox(self._listen, config.run.name, self.incarnation, spec, capacity, {}, keys=self._keys)
        self._resources.enter_context(inbox)
        self.endpoint = f"tcp://{self._host}:{inbox.port}"
        self._owned.claim()
        on_exit(self.store.remove_worker, "learner", "learner", self.incarnation)
        accounted = {name: last for name, (_, last) in store.ledger.incarnations().items()}
        inbox.take_over(accounted, store.ledger.closed())
        grace_s = MISSED_REPORTS * config.run.heartbeat_s
        bound = config.learner.max_policy_lag
        self.feed = Feed(inbox, self._ledger, config.learner.batch_unrolls, bound, grace_s)
        self.pool = Pool(store, self._folder.pool)
        self.learner = Learner(config.learner, config.run, method, spec, self._ranks)
        saved = self._checkpoints.resume(config)
        if saved is not None:
            self.learner.restore(saved.tensors, saved.state)
            log.info("continuing from %s, %d player steps", saved.path, self.learner.player_steps)
        published = store.version(THETA)
        if published is not None:
            self.learner.version = max(self.learner.version, published) + 1
        self._ranks.share_state(self.learner.tensors(), self.learner.counters())
        on_exit(self._ranks.share_batch, None)
        self._rewind()
        self._checkpoints.take_phi_back(saved, method.phi_versions)
        self._announce(saved)
        tensorboard = self._folder.tensorboard / "learner"
        self._metrics = MetricsLog(self._folder.metrics, tensorboard, "updates", self.learner.updates)
        on_exit(self._metrics.close)
        self._metrics.describe(config)
        self._gauges = Gauges(store, self.learner, self.feed, capacity, config.run.player_steps)
        self._report_due, self._save_due = Every(config.run.heartbeat_s), Every(config.run.checkpoint_s)
        self.report()

    def _rewind(self) -> None:
        """Takes back in the ledger what was trained on since the checkpoint; logs what Redis lost."""
        unrolls, updates = self._ledger.rewind(self.learner.unrolls), self.learner.updates
        if unrolls:
            log.warning("going back to update %d: %d unrolls trained on since then count as rewound", updates, unrolls)
            self.store.put_event("learner", "learner", "rewound", unrolls=unrolls, updates=updates)
        elif missing := self._ledger.balance().unrecorded:
            log.warning("theta was trained on %d unrolls that the ledger in Redis does not record as trained", missing)

    def _announce(self, saved: Checkpoint | None) -> None:
        """Writes what the other roles wait for to Redis; the endpoint comes last: it signals that the rest is there."""
        self.store.put_config(self.config)
        self.store.publish(THETA, self.learner.theta)
        self._checkpoints.restore_phi(saved)
        self.pool.restore(self.learner.updates)
        self.store.put_endpoint(self.endpoint)

    def _publish(self, batch: Batch, metrics: dict[str, float]) -> None:
        """Publishes theta, the observations to distil on if an event is due, and theta for the pool."""
        learner = self.learner
        theta = learner.theta
        self.store.publish(THETA, theta)
        if learner.method.directions and learner.updates % self.config.distiller.every == 0:
            self.store.put_observations(batch.observations(learner.updates))
        self.pool.offer(learner.method, learner.updates, theta, metrics.get("return_learning", math.nan))

    def _log(self, metrics: dict[str, float], update_s: float) -> None:
        metrics |= {
            "wait_s": self._wait_s,
            "update_s": update_s,
            "player_steps_per_s": self._gauges.player_steps_per_s,
            "queue_unrolls": self.feed.waiting,
        }
        self._wait_s = 0.0
        self._gauges.updated(update_s)
        self._metrics.write(metrics)
        self.store.put_metrics(metrics)


def check_exposure(listen: str, config: LearnerConfig, keys: LearnerKeys | None) -> None:
    """Checks that a learner without keys, to which anybody can send unrolls, listens on this machine only.

    Raises:
      ConfigError: if it would not, and `learner.plain_tcp` does not allow that.
    """
    allowed = keys is not None or config.plain_tcp
    host = listen.partition("://")[2].rpartition(":")[0].strip("[]")
    with contextlib.suppress(ValueError):
        allowed |= ipaddress.ip_address(host).is_loopback
    if not (allowed or host == "localhost"):
        raise ConfigError(
            f"--listen {listen} lets anybody who reaches this machine send unrolls: make keys with `bidist keys` and "
            "name the learner's folder with --keys, or accept it with learner.plain_tcp=true"
        )


def unroll_spec(config: Config) -> UnrollSpec:
    """Returns the shape of a run's unrolls."""
    spec, method = environments.spec(config.environment), make_method(config)
    policies = method.policies(spec.players)
    return UnrollSpec(spec, config.actor.unroll_length, method.network(spec, policies).state_size, policies)
