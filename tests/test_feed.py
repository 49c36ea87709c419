"""The outcome of every unroll reaches the ledger, whatever else does or does not arrive."""

import time
from collections.abc import Iterator

import pytest
from unrolls import RUN, SPEC, make_unroll

from common.inbox import Inbox
from common.outbox import Outbox
from common.store import Store
from common.unroll import Unroll
from learner.feed import Feed

PATIENCE_S = 30.0
ACTED_ON = 12  # the version of theta in the unrolls of `make_unroll`


@pytest.fixture
def ends(store: Store) -> Iterator[tuple[Feed, Outbox]]:
    """A feed of batches of two unrolls that allows a lag of one, and an actor's end of the connection."""
    with (
        Inbox("tcp://127.0.0.1:*", RUN, "learner-1", SPEC, 8, {}) as inbox,
        Outbox(RUN, "a", "a-1", f"tcp://127.0.0.1:{inbox.port}") as outbox,
    ):
        yield Feed(inbox, store.ledger, batch_unrolls=2, max_policy_lag=1), outbox


def ship(outbox: Outbox, store: Store, count: int, broken: bool = False) -> None:
    for _ in range(count):
        unroll = make_unroll(sequence=outbox.produced + 1)
        if broken:
            unroll.action[:] = 99
        store.ledger.produced("a-1", unroll.header.sequence)
        outbox.put(unroll)


def hear(feed: Feed, outbox: Outbox, unaccounted: int, version: int) -> None:
    """Lets both ends communicate until the learner has accounted for all but so many unrolls."""
    deadline = time.monotonic() + PATIENCE_S
    while outbox.unaccounted != unaccounted:
        assert time.monotonic() < deadline
        outbox.pump(0.01)
        assert feed.next_batch(version, timeout_s=0.0) is None


def receive(feed: Feed, outbox: Outbox, version: int) -> list[Unroll]:
    """Lets both ends communicate until a batch is complete."""
    deadline = time.monotonic() + PATIENCE_S
    while (batch := feed.next_batch(version, timeout_s=0.0)) is None:
        assert time.monotonic() < deadline
        outbox.pump(0.01)
    return batch


def test_an_unroll_at_the_lag_bound_is_trained_on_and_one_beyond_it_is_stale(
    ends: tuple[Feed, Outbox], store: Store
) -> None:
    feed, outbox = ends
    ship(outbox, store, 2)
    batch = receive(feed, outbox, version=ACTED_ON + 1)
    feed.account()
    assert [unroll.header.sequence for unroll in batch] == [1, 2]
    ship(outbox, store, 2)
    hear(feed, outbox, 0, version=ACTED_ON + 2)
    balance = store.ledger.balance()
    assert (balance.trained, balance.stale, dict(balance.reasons)) == (2, 2, {"stale:lag": 2})


def test_unusable_unrolls_are_accounted_for_even_if_no_batch_ever_fills(
    ends: tuple[Feed, Outbox], store: Store
) -> None:
    feed, outbox = ends
    ship(outbox, store, 20, broken=True)
    hear(feed, outbox, 0, version=ACTED_ON)
    ship(outbox, store, 5)
    hear(feed, outbox, 0, version=ACTED_ON + 2)
    balance = store.ledger.balance()
    assert balance.holds
    assert (balance.rejected, balance.stale, balance.in_flight) == (20, 5, 0)


def test_outcomes_after_an_unroll_to_be_trained_on_wait_for_it(ends: tuple[Feed, Outbox], store: Store) -> None:
    feed, outbox = ends
    ship(outbox, store, 3, broken=True)
    ship(outbox, store, 1)
    ship(outbox, store, 2, broken=True)
    hear(feed, outbox, 3, version=ACTED_ON)
    balance = store.ledger.balance()
    assert (balance.rejected, balance.in_flight, balance.lost) == (3, 3, 0)

    ship(outbox, store, 1)
    batch = receive(feed, outbox, version=ACTED_ON)
    feed.account()
    assert [unroll.header.sequence for unroll in batch] == [4, 7]
    balance = store.ledger.balance()
    assert balance.holds
    assert (balance.trained, balance.rejected, balance.in_flight, balance.lost) == (2, 5, 0, 0)
