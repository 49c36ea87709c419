"""The outcome of every unroll reaches the ledger, whatever else does or does not arrive."""

import logging
import threading
import time
from collections.abc import Iterator

import pytest
from ledger_totals import KEYS
from tcp import pump_until
from unrolls import RUN, SPEC, make_unroll
from waiting import until

from common.errors import StoreError
from common.inbox import GONE_S, Inbox
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

    def talk() -> None:
        outbox.pump(0.01)
        assert feed.next_batch(version, timeout_s=0.0) is None

    until(lambda: outbox.unaccounted == unaccounted, talk)


def receive(feed: Feed, outbox: Outbox, version: int) -> list[Unroll]:
    """Lets both ends communicate until a batch is complete."""
    batch = until(lambda: feed.next_batch(version, timeout_s=0.0), lambda: outbox.pump(0.01))
    assert batch is not None
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


def arrive(feed: Feed, outbox: Outbox, count: int) -> None:
    """Lets both ends communicate until so many unrolls wait at the learner."""
    pump_until(lambda: len(feed.inbox.arrivals) >= count, feed.inbox, outbox)


def fall_silent(feed: Feed) -> None:
    """Backdates when all peers were last heard from, to too long ago."""
    for peer in feed.inbox.peers.values():
        peer.heard -= GONE_S + 1


def test_a_batch_of_one_actor_waits_for_the_rest_and_then_starts_anew(ends: tuple[Feed, Outbox], store: Store) -> None:
    feed, outbox = ends
    ship(outbox, store, 5)
    assert feed.waiting == 0
    arrive(feed, outbox, 5)
    assert feed.waiting == 5
    for sequences, waiting in (([1, 2], 3), ([3, 4], 1)):
        batch = feed.next_batch(ACTED_ON, timeout_s=0.0)
        assert batch is not None and [unroll.header.sequence for unroll in batch] == sequences
        assert feed.waiting == waiting
        assert store.ledger.balance().trained == sequences[0] - 1, "recorded once it has been trained on"
        feed.account()
        assert store.ledger.balance().trained == sequences[-1]
    assert feed.next_batch(ACTED_ON, timeout_s=0.0) is None
    assert feed.waiting == 1


def test_an_incarnation_is_closed_once_nothing_of_it_is_left(
    ends: tuple[Feed, Outbox], store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    feed, outbox = ends

    def closed(living: frozenset[str] = frozenset()) -> bool:
        feed.sweep(set(living))
        return "a-1" not in store.ledger.incarnations()

    ship(outbox, store, 1)
    arrive(feed, outbox, 1)
    fall_silent(feed)
    assert not closed(), "its unroll has arrived"
    assert feed.next_batch(ACTED_ON, timeout_s=0.0) is None
    assert not closed(), "its unroll is part of the next batch"
    ship(outbox, store, 1)
    receive(feed, outbox, ACTED_ON)
    feed.account()
    assert not closed(), "it has just been heard from"
    fall_silent(feed)
    assert not closed(frozenset({"a-1"})), "it has a heartbeat"
    store.ledger.produced("a-1", 5)
    with caplog.at_level(logging.INFO):
        assert closed()
    assert "actor incarnation a-1 is gone; 3 of its unrolls are lost" in caplog.text
    assert feed.inbox.peers == {}
    assert (store.ledger.balance().trained, store.ledger.balance().lost) == (2, 3)


def test_an_actor_that_joins_while_the_heartbeats_are_read_is_not_closed(
    ends: tuple[Feed, Outbox], store: Store
) -> None:
    feed, _ = ends
    known, living = store.ledger.incarnations(), set[str]()
    store.ledger.produced("b-1", 1)
    feed.sweep(living, known)
    assert "b-1" in store.ledger.incarnations()
    feed.sweep(living, store.ledger.incarnations())
    assert "b-1" not in store.ledger.incarnations()


@pytest.mark.parametrize("restarted", [False, True])
def test_what_the_ledger_has_closed_is_not_trained_on(ends: tuple[Feed, Outbox], store: Store, restarted: bool) -> None:
    """Its first unroll was on its way when the actor was closed: it counts as lost, and must not count twice."""
    feed, outbox = ends
    store.ledger.produced("a-1", 1)
    if restarted:  # another learner closed it
        store.ledger.close("a-1")
        feed.inbox.take_over({}, store.ledger.closed())
    feed.sweep(set())
    assert store.ledger.balance().lost == 1
    outbox._limit = 8  # as the learner had allowed before
    outbox.put(make_unroll(sequence=1))
    with pytest.raises(StoreError, match="a-1 missed its heartbeats and was closed: .* restart this actor"):
        pump_until(lambda: False, feed.inbox, outbox)
    assert feed.next_batch(ACTED_ON, timeout_s=0.0) is None
    assert outbox.sent == 1 and feed.waiting == 0 and not feed.inbox.peers


def test_an_actor_that_never_produced_anything_is_forgotten(ends: tuple[Feed, Outbox]) -> None:
    feed, outbox = ends
    pump_until(lambda: bool(feed.inbox.peers), feed.inbox, outbox)
    feed.sweep(set())
    assert feed.inbox.peers.keys() == {"a-1"}, "it has just said hello"
    fall_silent(feed)
    feed.sweep({"a-1"})
    assert feed.inbox.peers.keys() == {"a-1"}, "it has a heartbeat"
    feed.sweep(set())
    assert not feed.inbox.peers


def test_an_actor_whose_heartbeat_is_missing_for_a_moment_is_not_closed(
    ends: tuple[Feed, Outbox], store: Store
) -> None:
    """When Redis comes back, its actors' heartbeats have expired, and they have not been heard from either."""
    patient, outbox = Feed(ends[0].inbox, store.ledger, 2, 1, grace_s=3600.0), ends[1]
    ship(outbox, store, 2)
    receive(patient, outbox, ACTED_ON)
    patient.account()
    fall_silent(patient)
    patient.sweep(set())
    assert "a-1" in store.ledger.incarnations() and "a-1" in patient.inbox.peers
    patient._missing_since["a-1"] -= 3600.0
    patient.sweep({"a-1"})  # it is back, so that it may be missing for as long again
    patient.sweep(set())
    assert "a-1" in store.ledger.incarnations() and "a-1" in patient.inbox.peers
    patient._missing_since["a-1"] -= 3600.0
    patient.sweep(set())
    assert not store.ledger.incarnations() and not patient.inbox.peers


def test_an_actor_that_the_ledger_has_lost_goes_on_where_it_was(ends: tuple[Feed, Outbox], store: Store) -> None:
    """Redis came back empty, and the actor was away: its next unroll is the third, and has to be taken."""
    feed, outbox = ends
    ship(outbox, store, 2)
    receive(feed, outbox, ACTED_ON)
    feed.account()
    hear(feed, outbox, 0, ACTED_ON)
    store.client.delete(*(store.key(name) for name in KEYS))
    fall_silent(feed)
    feed.sweep(set())
    assert not feed.inbox.peers
    ship(outbox, store, 2)
    assert [unroll.header.sequence for unroll in receive(feed, outbox, ACTED_ON)] == [3, 4]


def test_a_learner_that_finishes_records_what_is_left_as_stale_until_every_actor_has_left(
    ends: tuple[Feed, Outbox], store: Store
) -> None:
    feed, outbox = ends
    ship(outbox, store, 1)
    arrive(feed, outbox, 1)
    assert feed.next_batch(ACTED_ON, timeout_s=0.0) is None
    ship(outbox, store, 1)
    arrive(feed, outbox, 1)
    assert feed.next_batch(ACTED_ON + 9, timeout_s=0.0) is None
    ship(outbox, store, 1, broken=True)
    arrive(feed, outbox, 1)
    assert feed.waiting == 2

    def leave() -> None:
        ship(outbox, store, 2)
        deadline = time.monotonic() + PATIENCE_S
        while outbox.unaccounted and time.monotonic() < deadline:
            outbox.pump(0.01)
        outbox.close()

    leaving = threading.Thread(target=leave)
    leaving.start()
    feed.finish(PATIENCE_S)
    leaving.join()
    assert outbox.finished and outbox.unaccounted == 0
    assert feed.waiting == 0 and feed.inbox.peers == {}
    balance = store.ledger.balance()
    assert dict(balance.reasons) == {"rejected:action": 1, "stale:finished": 3, "stale:lag": 1}
    assert balance.holds and balance.in_flight == 0


def test_a_learner_that_finishes_does_not_wait_for_ever(ends: tuple[Feed, Outbox], store: Store) -> None:
    feed, outbox = ends
    ship(outbox, store, 1)
    arrive(feed, outbox, 1)
    feed.finish(timeout_s=0.0)
    assert feed.inbox.peers.keys() == {"a-1"}
    assert store.ledger.balance().reasons == {"stale:finished": 1}


def test_a_learner_that_stops_leaves_to_its_successor_what_actors_will_send_again(
    ends: tuple[Feed, Outbox], store: Store
) -> None:
    feed, outbox = ends
    with Outbox(RUN, "b", "b-1", outbox.endpoint) as gone:
        store.ledger.produced("b-1", 1)
        gone.put(make_unroll(sequence=1, actor="b", incarnation="b-1"))
        arrive(feed, gone, 1)
    pump_until(lambda: "b-1" not in feed.inbox.peers, feed.inbox)
    ship(outbox, store, 1)
    arrive(feed, outbox, 2)
    feed.stop()
    assert store.ledger.incarnations() == {"a-1": (1, 0), "b-1": (1, 1)}
    assert store.ledger.balance().reasons == {"stale:stopped": 1}
    outbox.pump(0.01)
    assert outbox.unaccounted == 1 and not outbox.finished
