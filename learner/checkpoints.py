"""The learner's checkpoints: its own state, and phi as it was in Redis at the time."""

import logging
from pathlib import Path

import redis

from common import checkpoint
from common.checkpoint import Checkpoint
from common.errors import CheckpointError, StoreError
from common.store import Store
from common.weights import PHI, Weights
from learner.learner import Learner

log = logging.getLogger(__name__)


class Checkpoints:
    """Saves the learner, and restores it together with phi.

    The distiller keeps phi and publishes it. The copy in the learner's checkpoints is used if both Redis and the
    distiller, perhaps on another machine, have lost theirs.

    Args:
      store: the run's keys.
      folder: of the checkpoints.
      keep: how many of the newest are kept.

    Attributes:
      unsaved: why the newest checkpoint could not be saved; empty if it was.
    """

    def __init__(self, store: Store, folder: Path, keep: int) -> None:
        self._store, self._folder, self._keep = store, folder, keep
        self.unsaved = ""

    def newest(self) -> Checkpoint | None:
        """Returns the newest undamaged checkpoint, None if there is none."""
        return checkpoint.newest(self._folder)

    def save(self, learner: Learner) -> None:
        """Saves everything from which the run resumes exactly. If that fails, the run continues from the last one."""
        tensors, state = learner.tensors(), learner.counters()
        try:
            phi = self._store.weights(PHI)
        except (StoreError, redis.RedisError) as error:
            log.warning("saving a checkpoint without phi: %s", error)
            phi = None
        if phi is not None:
            tensors["phi"] = dict(phi.parameters)
            state["phi"] = {
                "version": phi.version,
                "source_version": phi.source_version,
                "direction": phi.direction,
            }
        try:
            path = checkpoint.save(self._folder, learner.updates, tensors, state, self._keep)
        except CheckpointError as error:
            log.error("%s", error)
            self.unsaved = str(error)[:500]
            self._store.put_event("learner", "learner", "unsaved", message=str(error)[:500])
            return
        self.unsaved = ""
        if phi is not None:  # the distiller keeps its own checkpoints back to this one
            self._store.put_progress({"checkpoint_phi_version": phi.version})
        self._store.put_event("learner", "learner", "checkpoint", path=str(path), updates=learner.updates)

    def take_phi_back(self, saved: Checkpoint | None, keep: int) -> None:
        """Publishes a checkpoint's phi again if the one in Redis was distilled from a theta that is lost.

        It gets a higher version, because versions never go back; those since the checkpoint are dropped.

        Args:
          saved: what the learner resumed from.
          keep: how many of phi's versions the method draws from.
        """
        if saved is None:
            return
        self._store.drop_observations(after=saved.state["updates"])
        while "phi" in saved.tensors and (self._store.version(PHI, "source_version") or 0) > saved.state["version"]:
            # The distiller may have saved the next version and not yet published it.
            version = (self._store.version(PHI) or 0) + 2
            phi = Weights(**{**saved.state["phi"], "version": version}, parameters=saved.tensors["phi"])
            if self._store.publish_phi(phi, keep, since=saved.state["phi"]["version"]):
                log.info("phi is version %d again, published as version %d", saved.state["phi"]["version"], version)

    def restore_phi(self, saved: Checkpoint | None) -> None:
        """Publishes a checkpoint's phi, if it has one and Redis has none."""
        if saved is not None and "phi" in saved.tensors and self._store.version(PHI) is None:
            self._store.publish_phi(Weights(parameters=saved.tensors["phi"], **saved.state["phi"]), keep=1)
