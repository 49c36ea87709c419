"""Past policies that others may play: in Redis for the actors, in the run's folder for a Redis that forgets."""

import logging
import shutil
from pathlib import Path

from common import checkpoint
from common.errors import CheckpointError
from common.store import Store
from common.weights import Weights

log = logging.getLogger(__name__)


class Pool:
    """Who is in it is written here alone; actors read it in Redis.

    Args:
      store: the run's keys.
      folder: where a checkpoint of each lies.
    """

    def __init__(self, store: Store, folder: Path) -> None:
        self._store, self._folder = store, folder
        self._ranks: dict[str, float] = {}

    @property
    def ranks(self) -> dict[str, float]:
        """Who is in it, by name, each with its rank."""
        return dict(self._ranks)

    def add(self, updates: int, theta: Weights, rank: float) -> None:
        """Takes theta in, as it is after so many updates."""
        state = {"rank": rank, "version": theta.version}
        checkpoint.save(self._folder, updates, {"theta": theta.parameters}, state, keep=None)
        self._publish(updates, theta, rank)

    def remove(self, name: str) -> None:
        """Lets one go."""
        del self._ranks[name]
        self._store.remove_from_pool(name)
        shutil.rmtree(self._folder / f"{int(name.rpartition(':')[2]):08d}", ignore_errors=True)

    def restore(self, updates: int) -> None:
        """Makes it what it was when the learner had made so many updates, here, in the folder and in Redis."""
        for name in self._store.pool():
            self._store.remove_from_pool(name)
        self._ranks = {}
        for path in checkpoint.checkpoints(self._folder):
            if int(path.name) > updates:
                shutil.rmtree(path)
                continue
            try:
                saved = checkpoint.load(path)
            except CheckpointError as error:
                log.warning("a past policy less in the pool: %s", error)
                continue
            theta = Weights(saved.state["version"], saved.tensors["theta"])
            self._publish(int(path.name), theta, saved.state["rank"])

    def _publish(self, updates: int, theta: Weights, rank: float) -> None:
        name = self._store.put_in_pool(updates, theta, rank)
        self._ranks[name] = rank
