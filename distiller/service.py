"""The distiller process: publishes phi's first version, waits for observations, distils, publishes; resumes exactly."""

import logging
import time
from types import TracebackType
from typing import Self

import torch

import environments
from common import checkpoint
from common.config import Config
from common.errors import CheckpointError
from common.lifecycle import Presence, new_incarnation
from common.metrics import MetricsLog
from common.run_folder import RunFolder
from common.store import Store
from common.weights import PHI, THETA, Weights
from distiller.distiller import Distiller
from distiller.first import first_phi
from methods import make_method

log = logging.getLogger(__name__)

POLL_S, IDLE_S = 0.2, 1.0


def run(store: Store) -> None:
    """Runs the distiller until it is stopped or the run is finished."""
    config = store.config()
    if store.over():
        return
    torch.set_num_threads(config.distiller.threads)
    with Presence(store, "distiller", "distiller", new_incarnation("distiller"), config.run.heartbeat_s) as presence:
        if make_method(config).phi is None:
            log.info("method %s has no distilled policies: nothing to do", config.method.name)
            presence.say(state="idle: this method distils nothing")
            while not (store.stopping.wait(IDLE_S) or store.finished):
                pass
            return
        with DistillerService(store, config) as service:
            while not (store.stopping.is_set() or store.finished):
                presence.say(state=service.state, events=service.distiller.events, phi_version=service.version)
                if not service.step():
                    store.stopping.wait(POLL_S)
                presence.advanced()


class DistillerService:
    """A distiller with its checkpoints and metrics.

    A context manager: on entering it waits for the learner and makes sure that phi is published.

    Args:
      store: the run's keys.
      config: the run's.
    """

    distiller: Distiller
    version: int

    def __init__(self, store: Store, config: Config) -> None:
        self.store, self.config = store, config
        self.update = 0
        self._folder = RunFolder.of(config.run)
        self._source_version, self._direction = 0, "initial"

    def __enter__(self) -> Self:
        # The learner announces its endpoint last: by then it has restored phi if its checkpoint has it.
        self.store.wait_for_endpoint()
        method, spec = make_method(self.config), environments.spec(self.config.environment)
        self.distiller = Distiller(method, spec)
        published, saved = self.store.weights(PHI), checkpoint.newest(self._folder.distiller)
        if saved is not None and (published is None or saved.state["version"] >= published.version):
            self.distiller.restore(saved.tensors, saved.state["distiller"])
            self.version, self.update = saved.state["version"], saved.state["update"]
            self._source_version, self._direction = saved.state["source_version"], saved.state["direction"]
            log.info("continuing after event %d", self.distiller.events)
        else:
            phi = published or first_phi(method, spec, self.store.wait_for_weights(THETA))
            self.distiller.phi.load_state_dict(phi.parameters)
            self.version, self._source_version, self._direction = phi.version, phi.source_version, phi.direction
        # A run of an older version has no kept versions, from which actors draw.
        if published is None or published.version != self.version or not self.store.phis():
            self._publish()
        events, tensorboard = self.distiller.events, self._folder.tensorboard / "distiller"
        self._metrics = MetricsLog(self._folder.distillation, tensorboard, "events", events)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._metrics.close()

    @property
    def state(self) -> str:
        """What it is doing, in words."""
        direction = self.distiller.direction
        return f"waiting for observations, next {direction}" if direction else "idle: this method distils nothing"

    def step(self) -> bool:
        """Distils if the learner left new observations; returns whether it did."""
        self._publish_if_lost()
        observations = self.store.observations(other_than=self.update)
        if observations is None:
            return False
        started = time.monotonic()
        theta = self.store.wait_for_weights(THETA)
        metrics = self.distiller.event(theta.parameters, observations)
        self.version += 1
        self.update = observations.update
        self._source_version, self._direction = theta.version, str(metrics["direction"])
        # Saved before it is published: whatever the actors play can always be restored.
        self._save()
        self._publish()
        event_s = time.monotonic() - started
        metrics |= {"phi_version": self.version, "theta_version": theta.version, "event_s": event_s}
        metrics["player_steps"] = int(self.store.hash("progress").get("player_steps", 0))
        self._metrics.write(metrics)
        self.store.put_event("distiller", "distiller", "distillation", **metrics)
        return True

    def _publish_if_lost(self) -> None:
        """Publishes phi again if Redis has lost it, once the learner has announced the run again."""
        if self.store.version(PHI) is None and self.store.endpoint() is not None:
            log.warning("Redis has lost phi: publishing version %d again", self.version)
            self._publish()

    def _publish(self) -> None:
        parameters = dict(self.distiller.phi.named_parameters())
        phi = Weights(self.version, parameters, self._source_version, self._direction)
        self.store.publish_phi(phi, self.distiller.method.phi_versions)

    def _save(self) -> None:
        state = {
            "version": self.version,
            "update": self.update,
            "source_version": self._source_version,
            "direction": self._direction,
            "distiller": self.distiller.state(),
        }
        try:
            checkpoint.save(self._folder.distiller, self.distiller.events, self.distiller.tensors(), state, keep=2)
        except CheckpointError as error:
            log.error("phi would go back if the distiller died: %s", error)
