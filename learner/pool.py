"""Past policies that players may be driven by: in Redis for the actors, on disk in case Redis loses them."""

import logging
import shutil
from pathlib import Path

from common import checkpoint
from common.errors import CheckpointError
from common.store import Store
from common.weights import Weights
from methods import Method

log = logging.getLogger(__name__)


class Pool:
    """The past policies of a run. Only the learner changes them; actors read them in Redis.

    Args:
      store: the run's keys.
      folder: holds a checkpoint of each.
    """

    def __init__(self, store: Store, folder: Path) -> None:
        self._store, self._folder = store, folder
        self._scores: dict[str, float] = {}

    @property
    def scores(self) -> dict[str, float]:
        """The score of every past policy by its name."""
        return dict(self._scores)

    def offer(self, method: Method, updates: int, theta: Weights, training_return: float) -> None:
        """Adds theta if the method gives it a score, then removes those that the method evicts.

        Args:
          method: decides.
          updates: how many the learner has made.
          theta: as it is after them.
          training_return: of the learning players; NaN until there is one.
        """
        score = method.score(updates, training_return, self.scores)
        if score is None:
            return
        state = {"score": score, "version": theta.version}
        try:
            checkpoint.save(self._folder, updates, {"theta": theta.parameters}, state, keep=None)
        except CheckpointError as error:
            log.error("a past policy could not be saved to disk and is lost if Redis loses its data: %s", error)
        self._publish(updates, theta, score)
        for name in method.evict(self.scores):
            self._remove(name)

    def restore(self, updates: int) -> None:
        """Restores the pool, here, on disk and in Redis, to what it was after so many updates."""
        for name in self._store.pool():
            self._store.remove_from_pool(name)
        self._scores = {}
        for path in checkpoint.checkpoints(self._folder):
            if int(path.name) > updates:
                shutil.rmtree(path)
                continue
            try:
                saved = checkpoint.load(path)
            except CheckpointError as error:
                log.warning("dropping a past policy from the pool: %s", error)
                continue
            theta = Weights(saved.state["version"], saved.tensors["theta"])
            # Earlier releases called the score a rank.
            score = saved.state["score" if "score" in saved.state else "rank"]
            self._publish(int(path.name), theta, score)

    def _publish(self, updates: int, theta: Weights, score: float) -> None:
        name = self._store.put_in_pool(updates, theta, score)
        self._scores[name] = score

    def _remove(self, name: str) -> None:
        del self._scores[name]
        self._store.remove_from_pool(name)
        number = int(name.rpartition(":")[2])
        shutil.rmtree(checkpoint.path_of(self._folder, number), ignore_errors=True)
