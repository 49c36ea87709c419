"""Batches for the learner, from what the actors send; and the word to the ledger about what became of each unroll."""

import logging
import time

from common.ledger import Ledger, Outcome
from common.transport import GONE_S, Arrival, Inbox
from common.unroll import Unroll

log = logging.getLogger(__name__)


class Feed:
    """Takes unrolls in order of arrival, leaves out the stale, and accounts for all.

    Args:
      inbox: where unrolls arrive.
      ledger: the run's.
      batch_unrolls: B.
      max_policy_lag: how many versions back an unroll may have acted.
    """

    def __init__(self, inbox: Inbox, ledger: Ledger, batch_unrolls: int, max_policy_lag: int) -> None:
        self.inbox, self._ledger = inbox, ledger
        self._batch_unrolls, self._max_policy_lag = batch_unrolls, max_policy_lag
        self._fresh: list[Unroll] = []
        self._outcomes: list[tuple[Arrival, Outcome, str]] = []

    @property
    def waiting(self) -> int:
        """Unrolls that are here and not trained on."""
        return len(self.inbox.arrivals) + len(self._fresh)

    def next_batch(self, version: int, timeout_s: float) -> list[Unroll] | None:
        """Waits for B unrolls that are fresh at this version of theta; None if the timeout passes before."""
        deadline = time.monotonic() + timeout_s
        while True:
            self.inbox.poll()
            took = False
            while len(self._fresh) < self._batch_unrolls and (arrival := self.inbox.take()) is not None:
                self._sort(arrival, version)
                took = True
            if took:
                self.inbox.answer_all()
            if len(self._fresh) == self._batch_unrolls:
                batch, self._fresh = self._fresh, []
                return batch
            left = deadline - time.monotonic()
            if left <= 0:
                return None
            self.inbox.poll(min(left, 0.2))

    def account(self) -> None:
        """Writes to the ledger what became of everything taken so far; to be called when a batch has been trained."""
        assert not self._fresh
        self._ledger.account((a.incarnation, a.sequence, outcome, reason) for a, outcome, reason in self._outcomes)
        for arrival, _, _ in self._outcomes:
            self.inbox.account(arrival.incarnation, arrival.sequence)
        self._outcomes.clear()
        self.inbox.answer_all()

    def sweep(self, living: set[str]) -> None:
        """Closes the incarnations that are gone: no heartbeat, silent, and nothing of theirs waiting here."""
        now = time.monotonic()
        waiting = {a.incarnation for a in self.inbox.arrivals} | {a.incarnation for a, _, _ in self._outcomes}
        heard = {name for name, peer in self.inbox.peers.items() if now - peer.heard < GONE_S}
        for incarnation in self._ledger.incarnations().keys() - living - waiting - heard:
            lost = self._ledger.close(incarnation)
            self.inbox.forget(incarnation)
            log.info("actor incarnation %s is gone; %d of its unrolls are lost", incarnation, lost)

    def finish(self, timeout_s: float) -> None:
        """Tells the actors that the run is over, and accounts for what is still under way as stale."""
        self.inbox.finished = True
        deadline = time.monotonic() + timeout_s
        self.inbox.answer_all()
        while True:
            self._write_off("finished", set())
            if not self.inbox.peers or time.monotonic() > deadline:
                return
            self.inbox.poll(0.2)

    def stop(self) -> None:
        """Accounts for what waits here from actors that are gone; the others will send theirs to the next learner."""
        self.inbox.poll()
        self._write_off("stopped", set(self.inbox.peers))

    def _write_off(self, reason: str, spared: set[str]) -> None:
        """Counts whatever was not trained on as stale, but for what comes from some incarnations."""
        taken = [(a, "stale" if o == "trained" else o, r or reason) for a, o, r in self._outcomes]
        while (arrival := self.inbox.take()) is not None:
            taken.append((arrival, "stale", reason) if arrival.unroll else (arrival, "rejected", arrival.reason))
        self._outcomes = [entry for entry in taken if entry[0].incarnation not in spared]
        self._fresh.clear()
        self.account()

    def _sort(self, arrival: Arrival, version: int) -> None:
        if arrival.unroll is None:
            self._outcomes.append((arrival, "rejected", arrival.reason))
        elif version - arrival.unroll.header.theta_version > self._max_policy_lag:
            self._outcomes.append((arrival, "stale", "lag"))
        else:
            self._fresh.append(arrival.unroll)
            self._outcomes.append((arrival, "trained", ""))
