"""An actor's end of the connection in the tests of the learner's process."""

from tcp import pump_until
from unrolls import make_unroll
from waiting import until

from common.config import Config
from common.outbox import Outbox
from common.store import Store
from common.unroll import Unroll
from learner.service import LearnerService, unroll_spec

BATCH = 3


class Sender:
    """An actor's end of the connection that ships made-up unrolls.

    Args:
      store: the run's keys.
      config: the run's.
      incarnation: of the actor.
      skip: unrolls that another incarnation has shipped; their numbers decide what is made up.
    """

    def __init__(self, store: Store, config: Config, incarnation: str = "a-1", skip: int = 0) -> None:
        self._store, self._config, self._incarnation, self._skip = store, config, incarnation, skip
        self._spec = unroll_spec(config)
        self.outbox = Outbox(config.run.name, "a", incarnation, store.wait_for_endpoint()).__enter__()

    def batch(self, theta_version: int) -> None:
        """Ships a batch."""
        for _ in range(BATCH):
            sequence = self.outbox.produced + 1
            unroll = make_unroll(self._spec, self._skip + sequence, run=self._config.run.name)
            own = {"sequence": sequence, "incarnation": self._incarnation, "theta_version": theta_version}
            arrays = {name: array for name, array in vars(unroll).items() if name != "header"}
            self._store.ledger.produced(self._incarnation, sequence)
            self.outbox.put(Unroll(unroll.header.model_copy(update=own), **arrays))

    def update(self, learner: LearnerService) -> None:
        """Ships a batch that was played by the learner's theta, and lets the learner make one update."""
        self.batch(learner.learner.version)
        until(lambda: learner.step(timeout_s=0.01), lambda: self.outbox.pump(0.01))
        pump_until(lambda: not self.outbox.unaccounted, learner.feed.inbox, self.outbox)
