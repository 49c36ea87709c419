"""Makes batches of the unrolls that arrive, and records the outcome of each unroll in the ledger."""

import logging
import time
from collections.abc import Collection

from common.inbox import GONE_S, Arrival, Inbox
from common.ledger import Entry, Ledger, Outcome
from common.unroll import Unroll

log = logging.getLogger(__name__)


class Feed:
    """Takes unrolls in order of arrival, drops stale ones, and accounts for all of them.

    Args:
      inbox: where unrolls arrive.
      ledger: the run's.
      batch_unrolls: B.
      max_policy_lag: how many versions older than the current one the theta that acted may be.
      grace_s: how long an incarnation has to be missing before it is closed. When Redis or the network comes back,
        nobody has a heartbeat yet.
    """

    def __init__(
        self, inbox: Inbox, ledger: Ledger, batch_unrolls: int, max_policy_lag: int, grace_s: float = 0.0
    ) -> None:
        self.inbox, self._ledger = inbox, ledger
        self._batch_unrolls, self._max_policy_lag = batch_unrolls, max_policy_lag
        self._fresh: list[Unroll] = []
        self._outcomes: list[Entry] = []
        self._grace_s, self._missing_since = grace_s, dict[str, float]()

    @property
    def waiting(self) -> int:
        """The number of unrolls that have arrived and are not trained on yet."""
        return len(self.inbox.arrivals) + len(self._fresh)

    def next_batch(self, version: int, timeout_s: float) -> list[Unroll] | None:
        """Waits for B unrolls that are not stale at this version of theta; returns None after the timeout."""
        deadline = time.monotonic() + timeout_s
        while True:
            self.inbox.poll()
            took = False
            while len(self._fresh) < self._batch_unrolls and (arrival := self.inbox.take()) is not None:
                self._sort(arrival, version)
                took = True
            if took:
                self._settle()
                self.inbox.answer_all()
            if len(self._fresh) == self._batch_unrolls:
                batch, self._fresh = self._fresh, []
                return batch
            left = deadline - time.monotonic()
            if left <= 0:
                return None
            self.inbox.poll(min(left, 0.2))

    def account(self) -> None:
        """Records the outcome of everything taken so far; call it once the batch has been trained on."""
        self._write(self._outcomes)
        self._outcomes = []
        self.inbox.answer_all()

    def sweep(self, living: set[str], known: Collection[str] | None = None) -> None:
        """Closes incarnations that are gone: without a heartbeat, silent, no unroll waiting here, for `grace_s` on end.

        Args:
          living: those with a heartbeat.
          known: those in the ledger before `living` was read, since one that has just joined is not in it; None reads.
        """
        now = time.monotonic()
        waiting = {a.incarnation for a in self.inbox.arrivals} | {incarnation for incarnation, *_ in self._outcomes}
        heard = {name for name, peer in self.inbox.peers.items() if now - peer.heard < GONE_S}
        known = self._ledger.incarnations() if known is None else known
        missing = (set(known) | self.inbox.peers.keys()) - living - waiting - heard
        self._missing_since = {name: self._missing_since.get(name, now) for name in missing}
        gone = {name for name, since in self._missing_since.items() if now - since >= self._grace_s}
        for incarnation in gone & set(known):
            lost = self._ledger.close(incarnation)
            self.inbox.forget(incarnation, closed=True)
            log.info("actor incarnation %s is gone; %d of its unrolls are lost", incarnation, lost)
        for incarnation in gone - set(known):  # those that never produced any
            self.inbox.forget(incarnation)

    def finish(self, timeout_s: float) -> None:
        """Tells the actors that the run is over, and records what is still in flight as stale."""
        self.inbox.finished = True
        deadline = time.monotonic() + timeout_s
        self.inbox.answer_all()
        while True:
            self._write_off("finished", set())
            if not self.inbox.peers or time.monotonic() > deadline:
                return
            self.inbox.poll(0.2)

    def stop(self) -> None:
        """Accounts for the unrolls of actors that are gone; the others will send theirs again to the next learner."""
        self.inbox.poll()
        self._write_off("stopped", set(self.inbox.peers))

    def _write_off(self, reason: str, spared: set[str]) -> None:
        """Records everything that was not trained on as stale, except what came from the spared incarnations."""
        taken: list[Entry] = [(i, s, "stale" if o == "trained" else o, r or reason) for i, s, o, r in self._outcomes]
        while (arrival := self.inbox.take()) is not None:
            outcome: tuple[Outcome, str] = ("stale", reason) if arrival.unroll else ("rejected", arrival.reason)
            taken.append((arrival.incarnation, arrival.sequence, *outcome))
        self._outcomes = [entry for entry in taken if entry[0] not in spared]
        self._fresh.clear()
        self.account()

    def _sort(self, arrival: Arrival, version: int) -> None:
        outcome: tuple[Outcome, str] = ("trained", "")
        if arrival.unroll is None:
            outcome = ("rejected", arrival.reason)
        elif version - arrival.unroll.header.theta_version > self._max_policy_lag:
            outcome = ("stale", "lag")
        else:
            self._fresh.append(arrival.unroll)
        self._outcomes.append((arrival.incarnation, arrival.sequence, *outcome))

    def _settle(self) -> None:
        """Records what need not wait for the batch: per incarnation, all before its first unroll to be trained on.

        Without this, a run in which nothing can be trained on would record nothing and keep growing.
        """
        waiting: set[str] = set()
        settled: list[Entry] = []
        kept: list[Entry] = []
        for entry in self._outcomes:
            if entry[2] == "trained":
                waiting.add(entry[0])
            (kept if entry[0] in waiting else settled).append(entry)
        self._write(settled)
        self._outcomes = kept

    def _write(self, entries: list[Entry]) -> None:
        self._ledger.account(entries)
        for incarnation, sequence, _, _ in entries:
            self.inbox.account(incarnation, sequence)
