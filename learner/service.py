"""The learner's life: restore, listen, step until the budget is used up, checkpoint, leave."""

import contextlib
import logging
import math
import time

import redis
import torch

import environments
from common import checkpoint
from common.config import Config, learner_threads
from common.errors import ConfigError, SetupError, StoreError
from common.inbox import Inbox
from common.lifecycle import Presence, new_incarnation
from common.metrics import MetricsLog
from common.run_folder import RunFolder
from common.store import Store
from common.unroll import UnrollSpec
from common.weights import Weights
from learner.batch import collate
from learner.feed import Feed
from learner.learner import Learner
from learner.pool import Pool
from learner.ranks import Ranks
from methods import make_method

log = logging.getLogger(__name__)

FINISH_S = 15.0
SAY_EVERY_S = 60.0


def device_of(name: str) -> torch.device:
    """The device that a setting means.

    Raises:
      ConfigError: if it asks for a GPU that is not there.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name.startswith("cuda") and not torch.cuda.is_available():
        raise ConfigError(f"learner.device={name}: no GPU that torch can use was found; set cpu or auto")
    return torch.device(name)


def unroll_spec(config: Config) -> UnrollSpec:
    """What an unroll of a run looks like."""
    spec, chosen = environments.spec(config.environment), make_method(config)
    policies = chosen.policies(spec.players)
    return UnrollSpec(spec, config.actor.unroll_length, chosen.network(spec, policies).state_size, policies)


class LearnerService:
    """A learner with everything around it: socket, checkpoints, metrics, gauges.

    Args:
      store: the run's keys.
      config: the run's; written to Redis for the other roles.
      listen: where to bind, such as `tcp://127.0.0.1:*`.
      host: the name under which actors reach this machine.
    """

    def __init__(self, store: Store, config: Config, listen: str, host: str) -> None:
        self.store, self.config = store, config
        self.folder = RunFolder.of(config.run)
        self.ranks = Ranks(device_of(config.learner.device))
        torch.set_num_threads(learner_threads(config.learner))
        self.incarnation = new_incarnation("learner")
        spec = unroll_spec(config)
        capacity = max(1, round(config.learner.queue_batches * config.learner.batch_unrolls))
        saved = checkpoint.newest(self.folder.checkpoints)
        store.ledger.rewind(0 if saved is None else saved.state["unrolls"])
        accounted = {name: last for name, (_, last) in store.ledger.incarnations().items()}
        inbox = Inbox(listen, config.run.name, self.incarnation, spec, capacity, accounted)
        self.feed = Feed(inbox, store.ledger, config.learner.batch_unrolls, config.learner.max_policy_lag)
        self.pool = Pool(store, self.folder.pool)
        self.learner = Learner(config, spec, self.ranks)
        self._capacity = capacity
        if saved is not None:
            self.learner.restore(saved.tensors, saved.state)
            log.info("continuing from %s, %d player steps", saved.path, self.learner.player_steps)
        published = store.version("theta")
        if published is not None:
            self.learner.version = max(self.learner.version, published) + 1
        self.ranks.share_state(self.learner.tensors(), self.learner.counters())
        self.endpoint = f"tcp://{host}:{inbox.port}"
        self._announce(saved)
        self.metrics = MetricsLog(
            self.folder.metrics, self.folder.tensorboard / "learner", "updates", self.learner.updates
        )
        self._last_checkpoint = self._last_report = time.monotonic()
        self._steps_at_report = self.learner.player_steps
        self._waited_s = self._updated_s = 0.0  # since the last report
        self._wait_s = 0.0  # since the last update
        self._rate = 0.0
        self._last_said = time.monotonic()
        self.report()
        log.info("learning on %s, %d ranks, listening at %s", self.ranks.device, self.ranks.size, self.endpoint)

    def step(self, timeout_s: float) -> bool:
        """One update, or none if no batch came in time; then whatever is due by the clock. Says whether it updated."""
        metrics = self._learn(timeout_s)
        if metrics is not None:
            self._updated_s += metrics["update_s"]
            metrics["player_steps_per_s"] = self._rate
            metrics["queue_unrolls"] = self.feed.waiting
            self.metrics.write(metrics)
            self.store.put_metrics(metrics)
        if time.monotonic() - self._last_report > self.config.run.heartbeat_s:
            self.report()
        if time.monotonic() - self._last_checkpoint > self.config.run.checkpoint_s:
            self.save()
        return metrics is not None

    def report(self) -> None:
        """Writes the gauges, and closes the accounts of actors that are gone.

        Raises:
          SetupError: if another learner took the run over.
        """
        endpoint = self.store.endpoint()
        if endpoint is None:
            log.warning("Redis has forgotten the run: telling it again")
            self._announce(checkpoint.newest(self.folder.checkpoints))
        elif endpoint != self.endpoint:
            raise SetupError(f"another learner, at {endpoint}, took run {self.store.run} over; a run has one")
        workers = self.store.workers()
        actors = [fields for (role, _), fields in workers.items() if role == "actor"]
        self.feed.sweep({fields["incarnation"] for fields in actors})
        now = time.monotonic()
        elapsed = now - self._last_report
        if elapsed > 0.5:
            self._rate = (self.learner.player_steps - self._steps_at_report) / elapsed
            self._last_report, self._steps_at_report = now, self.learner.player_steps
        self.store.put_queue(
            {
                "unrolls": self.feed.waiting,
                "capacity_unrolls": self._capacity,
                "malformed_messages": sum(self.feed.inbox.malformed.values()),
                "bottleneck": self._bottleneck(len(actors)),
            }
        )
        starvation = self._starvation()
        self.store.put_starvation(100 * (1.0 if starvation is None else starvation))
        self._waited_s = self._updated_s = 0.0
        self.progress("finishing" if self.learner.finished else "running")
        if now - self._last_said > SAY_EVERY_S:
            self._last_said = now
            log.info(
                "update %d, %d of %d player steps, %.0f a second, return %.2f, %d actors", self.learner.updates,
                self.learner.player_steps, self.config.run.player_steps, self._rate,
                self.learner.episodes.means().get("return_learning", math.nan), len(actors),
            )  # fmt: skip

    def progress(self, state: str) -> None:
        """Says how far the run is."""
        self.store.put_progress(
            {
                "state": state, "updates": self.learner.updates, "version": self.learner.version,
                "player_steps": self.learner.player_steps, "budget_player_steps": self.config.run.player_steps,
                "player_steps_per_s": round(self._rate), "episodes": self.learner.episodes.count,
            }
        )  # fmt: skip

    def save(self) -> None:
        """Saves everything from which this run can go on as if nothing had been."""
        tensors, state = self.learner.tensors(), self.learner.counters()
        try:
            phi = self.store.weights("phi")
        except (StoreError, redis.RedisError) as error:
            log.warning("this checkpoint is without phi: %s", error)
            phi = None
        if phi is not None:
            tensors["phi"] = dict(phi.parameters)
            state["phi"] = {
                "version": phi.version,
                "source_version": phi.source_version,
                "direction": phi.direction,
            }
        path = checkpoint.save(
            self.folder.checkpoints, self.learner.updates, tensors, state, self.config.run.keep_checkpoints
        )
        self._last_checkpoint = time.monotonic()
        self.store.put_event("learner", "learner", "checkpoint", path=str(path), updates=self.learner.updates)

    def leave(self) -> None:
        """Saves, accounts for what is under way, and ends the run if its budget is used up."""
        self.save()
        if self.learner.finished:
            self.progress("finishing")
            self.feed.finish(FINISH_S)
        else:
            self.feed.stop()
        if self.learner.finished:
            for incarnation in self.store.ledger.incarnations():
                self.store.ledger.close(incarnation)
        self.store.put_starvation(0.0)
        self.progress("finished" if self.learner.finished else "stopped")

    def close(self) -> None:
        """Stops listening, closes its files, and lets the other ranks go."""
        self.feed.inbox.close()
        self.metrics.close()
        self.ranks.share_batch(None)
        self.ranks.close()

    def _learn(self, timeout_s: float) -> dict[str, float] | None:
        """One update from the next batch, published and accounted for; None if no batch came in time."""
        learner, started = self.learner, time.monotonic()
        unrolls = self.feed.next_batch(learner.version, timeout_s)
        received = time.monotonic()
        self._wait_s += received - started
        self._waited_s += received - started
        if unrolls is None:
            return None
        batch = collate(unrolls, self.config.actor.unroll_length, self.ranks.device)
        self.ranks.share_batch(batch)
        metrics = learner.learn(unrolls, batch)
        self.store.publish("theta", learner.theta)
        if learner.method.directions and learner.updates % self.config.distiller.every == 0:
            self.store.put_observations(batch.observations(learner.updates))
        self.feed.account()
        self._remember(metrics.get("return_learning", math.nan))
        wait_s, self._wait_s = self._wait_s, 0.0
        return metrics | {"wait_s": wait_s, "update_s": time.monotonic() - received}

    def _remember(self, training_return: float) -> None:
        """Lets theta join the pool, if the method wants it to."""
        rank = self.learner.method.score(self.learner.updates, training_return, self.pool.ranks)
        if rank is not None:
            self.pool.add(self.learner.updates, self.learner.theta, rank)
            for name in self.learner.method.evict(self.pool.ranks):
                self.pool.remove(name)

    def _announce(self, saved: checkpoint.Checkpoint | None) -> None:
        """Tells Redis what the other roles need: configuration, policies, and last of all where to find the learner.

        phi starts as the method says; a Redis that has forgotten it gets the checkpoint's.
        """
        self.store.put_config(self.config)
        self.store.publish("theta", self.learner.theta)
        self._publish_first_phi(saved)
        self.pool.restore(self.learner.updates)
        self.store.put_endpoint(self.endpoint)

    def _publish_first_phi(self, saved: checkpoint.Checkpoint | None) -> None:
        chosen, learner = self.learner.method, self.learner
        if chosen.phi is None or self.store.version("phi") is not None:
            return
        if saved is not None and "phi" in saved.tensors:
            self.store.publish("phi", Weights(parameters=saved.tensors["phi"], **saved.state["phi"]))
            return
        phi = learner.network
        if chosen.phi == "random":
            phi = chosen.network(learner.spec.environment, learner.spec.policies)
        self.store.publish("phi", Weights(0, dict(phi.named_parameters()), learner.version, "initial"))

    def _starvation(self) -> float | None:
        """Share of the time since the last report that the learner waited for unrolls; None if it got none."""
        busy = self._waited_s + self._updated_s
        return self._waited_s / busy if busy else None

    def _bottleneck(self, actors: int) -> str:
        if not actors:
            return "no actor is there: the learner waits"
        share = self._starvation()
        if share is None:
            return "the learner waits for a whole batch"
        if share > 0.5:
            return f"the learner waits for actors, {share:.0%} of its time: add actors"
        return f"the actors wait for the learner, which is busy {1 - share:.0%} of its time"


def run(store: Store, config: Config, listen: str, host: str) -> None:
    """Lives a learner's life: until it is told to stop, or the budget is used up."""
    service = LearnerService(store, config, listen, host)
    with (
        contextlib.closing(service),
        Presence(store, "learner", "learner", service.incarnation, config.run.heartbeat_s) as presence,
    ):
        if service.learner.finished:
            log.info("run %s is finished: raise its steps, or start another run", store.run)
        while not (store.stopping.is_set() or service.learner.finished):
            updated = service.step(config.run.heartbeat_s)
            if updated:
                presence.advanced()
            presence.say(
                state="learning" if updated else "waiting for unrolls", updates=service.learner.updates,
                theta_version=service.learner.version,
            )  # fmt: skip
        # Not after an error: what broke may be in the parameters, and the newest checkpoint is whole.
        service.leave()
    log.info("%d updates, %d player steps", service.learner.updates, service.learner.player_steps)


def follow(config: Config) -> None:
    """Lives the life of another rank: makes the updates that rank 0 makes, until that leaves."""
    torch.set_num_threads(learner_threads(config.learner))
    ranks = Ranks(device_of(config.learner.device))
    learner = Learner(config, unroll_spec(config), ranks)
    learner.restore(*ranks.share_state(learner.tensors(), learner.counters()))
    log.info("rank %d of %d follows on %s", ranks.rank, ranks.size, ranks.device)
    while (batch := ranks.share_batch(None)) is not None:
        learner.update(batch)
    ranks.close()
