"""The learner's checkpoints: its own state, and phi as it was in Redis at the time."""

import logging
from pathlib import Path

import redis

from common import checkpoint
from common.checkpoint import Checkpoint
from common.config import Config
from common.errors import CheckpointError, ConfigError, StoreError
from common.settings import differences
from common.store import Store
from common.weights import PHI, THETA, Weights
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

    def resume(self, config: Config) -> Checkpoint | None:
        """Returns the newest undamaged checkpoint, None if there is none, and clears away what is damaged.

        Newer checkpoints are set aside; theta and phi in Redis are removed if they cannot be read.

        Args:
          config: with which the run is to continue.

        Raises:
          ConfigError: if the run in Redis is another one: it has other settings, or checkpoints elsewhere.
        """
        saved = self.newest()
        self._check_same(config, saved)
        checkpoint.set_aside(self._folder, after=-1 if saved is None else int(saved.path.name))
        for name in (THETA, PHI):
            try:
                self._store.weights(name)
            except (StoreError, redis.ResponseError) as error:
                log.warning("removing what cannot be read; it will be published again: %s: %s", name, error)
                self._store.client.delete(self._store.key(name))
        return saved

    def _check_same(self, config: Config, saved: Checkpoint | None) -> None:
        run, updates = config.run.name, self._store.hash("progress").get("checkpoint_updates", "0")
        if not updates.isdecimal() or int(updates) == 0:
            return
        if saved is None and not any(self._folder.glob("[0-9]*")):
            raise ConfigError(
                f"run {run} in this Redis has a checkpoint of update {updates}, and {self._folder} has none: name the "
                "--folder that has it, or start another --run"
            )
        try:
            known = self._store.config(timeout_s=0.0)
        except StoreError:  # lost or damaged: it is written again
            return
        changed = [
            f"{name} is {there!r} there and {here!r} here"
            for name, (there, here) in differences(known, config).items()
            if not name.startswith("run.")
        ]
        if changed:
            raise ConfigError(f"run {run} in this Redis has other settings: {'; '.join(changed)}; start another --run")

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
        self._store.put_progress({"checkpoint_updates": learner.updates})
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
