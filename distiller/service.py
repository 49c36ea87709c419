"""The distiller process: publishes phi's first version, waits for observations, distils, publishes; resumes exactly."""

import contextlib
import logging
import shutil
import time
from types import TracebackType
from typing import Any, Self

import torch
from torch import Tensor

import environments
from common import checkpoint
from common.checkpoint import Checkpoint
from common.config import Config
from common.errors import CheckpointError
from common.lifecycle import Presence, new_incarnation
from common.metrics import MetricsLog
from common.run_folder import RunFolder
from common.store import Store
from common.weights import PHI, THETA, Weights
from distiller.distiller import Distiller
from distiller.initial_phi import first_phi
from methods import make_method

log = logging.getLogger(__name__)

POLL_S, IDLE_S = 0.2, 1.0
MAX_KEPT = 100
"""The most checkpoints to keep while the learner saves none, because its disk is full, for instance."""


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
                presence.say(
                    state=service.state,
                    events=service.distiller.events,
                    phi_version=service.version,
                    unsaved=service.unsaved,
                )
                if not service.step():
                    store.stopping.wait(POLL_S)
                presence.advanced()


class DistillerService:
    """A distiller with its checkpoints and metrics.

    A context manager: on entering it waits for the learner and makes sure that phi is published.

    Args:
      store: the run's keys.
      config: the run's.

    Attributes:
      unsaved: why the newest checkpoint could not be saved; empty if it was.
    """

    distiller: Distiller

    def __init__(self, store: Store, config: Config) -> None:
        self.store, self.config = store, config
        self.version, self.update, self.unsaved = -1, 0, ""
        self._folder = RunFolder.of(config.run)
        self._source_version, self._direction = 0, "initial"

    def __enter__(self) -> Self:
        # The learner announces its endpoint last: by then it has restored phi if its checkpoint has it.
        self.store.wait_for_endpoint()
        self._method, self._spec = make_method(self.config), environments.spec(self.config.environment)
        self.distiller = Distiller(self._method, self._spec)
        published, saved = self.store.weights(PHI), checkpoint.newest(self._folder.distiller)
        checkpoint.set_aside(self._folder.distiller, after=-1 if saved is None else int(saved.path.name))
        if saved is not None:
            self._restore(saved.tensors, saved.state)
            log.info("continuing after event %d", self.distiller.events)
        elif published is None:
            phi = first_phi(self._method, self._spec, self.store.wait_for_weights(THETA))
            self.distiller.adopt(phi.parameters)
            self.version, self._source_version, self._direction = phi.version, phi.source_version, phi.direction
        # A run of an older version has no kept versions, from which actors draw.
        if published is None or (published.version == self.version and not self.store.phis()):
            self._publish()
        self._metrics = self._open_metrics()
        self._keep_up()
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
        self._keep_up()
        observations = self.store.observations(other_than=self.update)
        if observations is None:
            return False
        started = time.monotonic()
        theta = self.store.wait_for_weights(THETA)
        metrics = self.distiller.event(theta.parameters, observations)
        self.version += 1
        self.update = observations.update
        self._source_version, self._direction = theta.version, str(metrics["direction"])
        progress = self.store.hash("progress")
        # Saved before it is published: whatever the actors play can always be restored.
        self._save(int(progress.get("checkpoint_phi_version", 0)))
        if not self._publish():
            return True  # the learner took phi back in the meantime
        event_s = time.monotonic() - started
        metrics |= {"phi_version": self.version, "theta_version": theta.version, "event_s": event_s}
        metrics["player_steps"] = int(progress.get("player_steps", 0))
        self._metrics.write(metrics)
        self.store.put_event("distiller", "distiller", "distillation", **metrics)
        return True

    def _keep_up(self) -> None:
        """Makes sure that phi here is phi in Redis: publishes it again if Redis has lost it, or follows the learner."""
        published = self.store.version(PHI)
        if published == self.version or self.store.endpoint() is None:
            return
        newer = published is not None and published > self.version
        if published is None or not (newer or self._source_version > (self.store.version(THETA) or 0)):
            log.warning("Redis has lost phi: publishing version %d again", self.version)
            self._publish()
            return
        version = self.version
        self._follow(self.store.wait_for_weights(PHI))
        if not newer:
            self.version = version + 1
            self._publish()
        self._metrics.close()
        self._metrics = self._open_metrics()

    def _follow(self, phi: Weights) -> None:
        """Continues from a phi that the learner went back to, in the state that the distiller had then."""
        self.version, self._source_version, self._direction = phi.version, phi.source_version, phi.direction
        saved = self._saved_with(phi)
        if saved is not None:
            self._restore(saved.tensors, saved.state | {"version": phi.version})
        elif phi.direction == "initial":
            self.update, self.distiller = 0, Distiller(self._method, self._spec)
            self.distiller.adopt(phi.parameters)
        else:
            self.distiller.adopt(phi.parameters)
        log.info("continuing from phi %d, after event %d", self.version, self.distiller.events)
        for path in checkpoint.checkpoints(self._folder.distiller):
            if int(path.name) > self.distiller.events:
                shutil.rmtree(path, ignore_errors=True)

    def _saved_with(self, phi: Weights) -> Checkpoint | None:
        """Returns the newest checkpoint with exactly this phi, whatever its version; None if there is none."""
        for path in reversed(checkpoint.checkpoints(self._folder.distiller)):
            with contextlib.suppress(CheckpointError):
                saved = checkpoint.load(path)
                known = saved.state["source_version"], saved.state["direction"]
                if known == (phi.source_version, phi.direction) and all(
                    torch.equal(x, phi.parameters[name]) for name, x in saved.tensors["phi"].items()
                ):
                    return saved
        return None

    def _restore(self, tensors: dict[str, dict[str, Tensor]], state: dict[str, Any]) -> None:
        self.distiller.restore(tensors, state["distiller"])
        self.version, self.update = state["version"], state["update"]
        self._source_version, self._direction = state["source_version"], state["direction"]

    def _open_metrics(self) -> MetricsLog:
        tensorboard = self._folder.tensorboard / "distiller"
        return MetricsLog(self._folder.distillation, tensorboard, "events", self.distiller.events)

    def _publish(self) -> bool:
        parameters = dict(self.distiller.phi.named_parameters())
        phi = Weights(self.version, parameters, self._source_version, self._direction)
        return self.store.publish_phi(phi, self._method.phi_versions)

    def _save(self, needed: int) -> None:
        """Saves a checkpoint, and keeps those since the version of phi that the learner may go back to."""
        keep = min(max(2, self.version - needed + 1), MAX_KEPT)
        state = {
            "version": self.version,
            "update": self.update,
            "source_version": self._source_version,
            "direction": self._direction,
            "distiller": self.distiller.state(),
        }
        try:
            checkpoint.save(self._folder.distiller, self.distiller.events, self.distiller.tensors(), state, keep)
        except CheckpointError as error:
            log.error("no checkpoint was saved: phi reverts to an earlier version if the distiller dies: %s", error)
            self.unsaved = str(error)[:500]
            self.store.put_event("distiller", "distiller", "unsaved", message=self.unsaved)
        else:
            self.unsaved = ""
