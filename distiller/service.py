"""The distiller's life: wait for observations, distil, publish phi; come back where it left off."""

import logging
import time

import torch

import environments
from common import checkpoint
from common.config import Config
from common.lifecycle import Presence, new_incarnation
from common.metrics import MetricsLog
from common.run_folder import RunFolder
from common.store import Store
from common.weights import Weights
from distiller.distiller import Distiller
from methods import make_method

log = logging.getLogger(__name__)

POLL_S = 0.2


class DistillerService:
    """A distiller with everything around it: Redis, checkpoints, metrics.

    Args:
      store: the run's keys.
      config: the run's.
    """

    def __init__(self, store: Store, config: Config) -> None:
        self.store, self.config = store, config
        self._folder = RunFolder.of(config.run)
        self.distiller = Distiller(make_method(config), environments.spec(config.environment))
        published = store.wait_for_weights("phi")
        self.version, self.update = published.version, 0
        saved = checkpoint.newest(self._folder.distiller)
        if saved is not None and saved.state["version"] >= published.version:
            self.distiller.restore(saved.tensors, saved.state["distiller"])
            self.version, self.update = saved.state["version"], saved.state["update"]
            if saved.state["version"] > published.version:
                self._publish(saved.state["source_version"], saved.state["direction"])
            log.info("continuing after event %d", self.distiller.events)
        else:
            self.distiller.phi.load_state_dict(published.parameters)
        self.metrics = MetricsLog(
            self._folder.distillation, self._folder.tensorboard / "distiller", "events", self.distiller.events
        )

    def step(self) -> bool:
        """Distils if the learner left new observations; says whether it did."""
        observations = self.store.observations(other_than=self.update)
        if observations is None:
            return False
        started = time.monotonic()
        theta = self.store.wait_for_weights("theta")
        direction = self.distiller.direction
        metrics = self.distiller.event(theta.parameters, observations)
        self.version += 1
        self.update = observations.update
        # Saved before it is published: what the actors play by can always be restored.
        state = {
            "version": self.version, "update": self.update, "source_version": theta.version,
            "direction": direction, "distiller": self.distiller.state(),
        }  # fmt: skip
        checkpoint.save(self._folder.distiller, self.distiller.events, self.distiller.tensors(), state, keep=2)
        self._publish(theta.version, direction)
        metrics |= {
            "phi_version": self.version,
            "theta_version": theta.version,
            "event_s": time.monotonic() - started,
        }
        self.metrics.write(metrics)
        self.store.put_event("distiller", "distiller", "distillation", **metrics)
        return True

    def close(self) -> None:
        """Closes its files."""
        self.metrics.close()

    def _publish(self, source_version: int, direction: str) -> None:
        parameters = dict(self.distiller.phi.named_parameters())
        self.store.publish("phi", Weights(self.version, parameters, source_version, direction))


def run(store: Store) -> None:
    """Lives a distiller's life: until it is told to stop, or the run is finished."""
    config = store.config()
    if store.over():
        return
    torch.set_num_threads(config.distiller.threads)
    with Presence(store, "distiller", "distiller", new_incarnation("distiller"), config.run.heartbeat_s) as presence:
        if not make_method(config).directions:
            log.info("method %s distils nothing: nothing to do", config.method.name)
            presence.say(state="idle: this method distils nothing")
            while not (store.stopping.wait(1.0) or store.finished):
                pass
            return
        service = DistillerService(store, config)
        try:
            while not (store.stopping.is_set() or store.finished):
                presence.say(
                    state=f"waiting for observations, next {service.distiller.direction}",
                    events=service.distiller.events, phi_version=service.version,
                )  # fmt: skip
                if not service.step():
                    store.stopping.wait(POLL_S)
                presence.advanced()
        finally:
            service.close()
