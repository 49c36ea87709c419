"""Unrolls over real TCP: each arrives once and in order, whatever dies or gets lost between the two ends."""

import contextlib
import random
import time
from collections.abc import Callable, Iterator

import numpy as np
import pytest
import zmq
from proxy import Proxy
from tcp import PATIENCE_S, produce, pump_until, sequences, settle, settled
from unrolls import RUN, SPEC, make_unroll
from waiting import until

from common.errors import SetupError
from common.inbox import GONE_S, Inbox
from common.outbox import PING_S, RESEND_S, Outbox
from common.unroll import ARRAYS
from common.wire import pack_unroll


@pytest.fixture
def ends() -> Iterator[Callable[..., Inbox]]:
    """Makes inboxes and closes them at the end."""
    made = contextlib.ExitStack()

    def make(
        capacity: int = 4,
        learner: str = "learner-1",
        port: str | int = "*",
        accounted: dict[str, int] | None = None,
        gone_s: float = GONE_S,
    ) -> Inbox:
        deadline = time.monotonic() + PATIENCE_S
        while True:  # ZeroMQ releases the port of a closed socket with a delay
            try:
                inbox = Inbox(f"tcp://127.0.0.1:{port}", RUN, learner, SPEC, capacity, accounted or {}, gone_s)
                return made.enter_context(inbox)
            except SetupError:
                assert time.monotonic() < deadline
                time.sleep(0.01)

    with made:
        yield make


@pytest.fixture
def proxies() -> Iterator[Callable[[int], Proxy]]:
    made = contextlib.ExitStack()

    def make(port: int) -> Proxy:
        proxy = Proxy(port)
        made.callback(proxy.close)
        return proxy

    with made:
        yield make


@pytest.fixture
def outboxes() -> Iterator[Callable[..., Outbox]]:
    made = contextlib.ExitStack()

    def make(inbox: Inbox | Proxy, actor: str = "a", resend_s: float = RESEND_S, ping_s: float = PING_S) -> Outbox:
        outbox = Outbox(RUN, actor, f"{actor}-1", f"tcp://127.0.0.1:{inbox.port}", resend_s, ping_s)
        return made.enter_context(outbox)

    with made:
        yield make


def test_unrolls_arrive_once_in_order_and_intact(ends: Callable[..., Inbox], outboxes: Callable[..., Outbox]) -> None:
    inbox = ends(capacity=3)
    outbox = outboxes(inbox)
    got = 0
    while got < 100:
        if not outbox.waiting and outbox.produced < 100:
            produce(outbox, 1)
        pump_until(lambda: bool(inbox.arrivals) or not outbox.waiting and outbox.produced < 100, inbox, outbox)
        while (arrival := inbox.take()) is not None:
            got += 1
            assert arrival.sequence == got and arrival.unroll is not None
            sent = make_unroll(sequence=got, env_steps=2)
            assert arrival.unroll.header == sent.header
            assert all(np.array_equal(getattr(arrival.unroll, n), getattr(sent, n)) for n in ARRAYS)
            inbox.account(arrival.incarnation, arrival.sequence)
            inbox.answer_all()
    pump_until(lambda: outbox.unaccounted == 0, inbox, outbox)
    assert not outbox._kept and not inbox.arrivals


def test_the_limit_holds_the_actor_back(ends: Callable[..., Inbox], outboxes: Callable[..., Outbox]) -> None:
    inbox = ends(capacity=3)
    outbox = outboxes(inbox)
    produce(outbox, 10)
    assert outbox.sent == 0, "nothing may be sent before the learner has answered"
    settled(lambda: (sequences(inbox), outbox.waiting, outbox.unaccounted) == ([1, 2, 3], 7, 10), inbox, outbox)
    inbox.take()
    settled(lambda: (sequences(inbox), outbox.waiting, outbox.unaccounted) == ([2, 3, 4], 6, 10), inbox, outbox)
    inbox.account("a-1", 1)
    settled(lambda: (sequences(inbox), outbox.waiting, outbox.unaccounted) == ([2, 3, 4], 6, 9), inbox, outbox)


def test_a_learner_that_cannot_listen_names_the_address(ends: Callable[..., Inbox]) -> None:
    inbox = ends()
    with pytest.raises(SetupError, match=rf"cannot listen at tcp://127\.0\.0\.1:{inbox.port}: Address already in use"):
        Inbox(f"tcp://127.0.0.1:{inbox.port}", RUN, "other", SPEC, 4, {}).__enter__()


def test_duplicates_and_gaps_are_dropped(ends: Callable[..., Inbox]) -> None:
    inbox = ends(capacity=100)
    dealer: zmq.Socket[bytes] = zmq.Context.instance().socket(zmq.DEALER)
    dealer.setsockopt(zmq.IDENTITY, b"a-1")
    dealer.connect(f"tcp://127.0.0.1:{inbox.port}")
    for sequence in (1, 1, 3, 2, 2, 1, 4, 3, 5):
        dealer.send_multipart(pack_unroll(make_unroll(sequence=sequence)))
    deadline = time.monotonic() + PATIENCE_S
    while sequences(inbox)[-1:] != [3]:
        assert time.monotonic() < deadline
        inbox.poll(0.05)
    dealer.send_multipart(pack_unroll(make_unroll(sequence=4)))
    while sequences(inbox)[-1:] != [4]:
        assert time.monotonic() < deadline
        inbox.poll(0.05)
    assert sequences(inbox) == [1, 2, 3, 4]
    dealer.close(linger=0)


@pytest.mark.parametrize("persisted", [2, 4])
@pytest.mark.parametrize("same_port", [False, True])
def test_a_new_learner_gets_what_the_dead_one_did_not_account_for(
    ends: Callable[..., Inbox], outboxes: Callable[..., Outbox], persisted: int, same_port: bool
) -> None:
    # `persisted` is what the ledger has: 4 is more than the dead learner had time to tell the actor.
    first = ends(capacity=6)
    outbox = outboxes(first)
    produce(outbox, 8)
    settled(lambda: sequences(first) == [1, 2, 3, 4, 5, 6], first, outbox)
    for _ in range(4):
        first.take()
    first.account("a-1", 2)
    settled(lambda: (outbox.accounted, outbox.sent) == (2, 8), first, outbox)
    first.close()

    second = ends(6, "learner-2", first.port if same_port else "*", {"a-1": persisted})
    if not same_port:
        outbox.connect(f"tcp://127.0.0.1:{second.port}")
    produce(outbox, 1)
    pump_until(lambda: sequences(second)[-1:] == [min(9, persisted + 6)], second, outbox)
    settled(lambda: sequences(second) == list(range(persisted + 1, min(9, persisted + 6) + 1)), second, outbox)
    assert outbox.accounted == persisted
    while (arrival := second.take()) is not None:
        second.account("a-1", arrival.sequence)
        assert arrival.unroll is not None
        assert np.array_equal(arrival.unroll.rgb, make_unroll(sequence=arrival.sequence, env_steps=2).rgb)
        settle(second, outbox)
    assert outbox.unaccounted == 0


def test_lost_unrolls_are_resent(
    ends: Callable[..., Inbox], outboxes: Callable[..., Outbox], proxies: Callable[[int], Proxy]
) -> None:
    inbox = ends(capacity=100)
    proxy = proxies(inbox.port)
    outbox = outboxes(proxy, resend_s=0.2)
    produce(outbox, 3)
    settle(inbox, outbox)
    proxy.losing = True
    produce(outbox, 3)
    assert outbox.sent == 6
    until(lambda: proxy.lost_bytes)
    proxy.cut()
    pump_until(lambda: len(sequences(inbox)) == 6, inbox, outbox)
    settled(lambda: sequences(inbox) == [1, 2, 3, 4, 5, 6], inbox, outbox)


@pytest.mark.parametrize("side", ["clients_side", "servers_side"])
def test_a_half_open_connection_is_replaced(
    ends: Callable[..., Inbox], outboxes: Callable[..., Outbox], proxies: Callable[[int], Proxy], side: str
) -> None:
    # This happens when a router in between forgets its connections. Either the actor reconnects with an identity that
    # the learner still holds, or it must find out by itself that its connection is dead.
    inbox = ends(capacity=100)
    proxy = proxies(inbox.port)
    outbox = outboxes(proxy, resend_s=0.2, ping_s=0.2)
    produce(outbox, 1)
    settle(inbox, outbox)
    proxy.cut(**{"clients_side": False, "servers_side": False} | {side: True})
    produce(outbox, 2)
    pump_until(lambda: len(sequences(inbox)) == 3, inbox, outbox)
    settled(lambda: sequences(inbox) == [1, 2, 3], inbox, outbox)


def test_actors_share_the_capacity(ends: Callable[..., Inbox], outboxes: Callable[..., Outbox]) -> None:
    inbox = ends(capacity=8)
    pair = [outboxes(inbox, actor) for actor in ("a", "b")]
    settle(inbox, *pair)
    for outbox, actor in zip(pair, ("a", "b"), strict=True):
        produce(outbox, 20, actor)
    settled(lambda: sequences(inbox, "a") == sequences(inbox, "b") == [1, 2, 3, 4], inbox, *pair)
    pair[1].close()
    pump_until(lambda: set(inbox.peers) == {"a-1"}, inbox, pair[0])
    settled(lambda: sequences(inbox, "a") == [1, 2, 3, 4, 5, 6, 7, 8], inbox, pair[0])
    assert sequences(inbox, "b") == [1, 2, 3, 4], "what arrived before the bye stays"


def test_silent_actors_do_not_share_the_capacity(ends: Callable[..., Inbox], outboxes: Callable[..., Outbox]) -> None:
    inbox = ends(capacity=8, gone_s=0.5)
    pair = [outboxes(inbox, actor) for actor in ("a", "b")]
    settle(inbox, *pair)
    produce(pair[0], 20)
    pump_until(lambda: len(sequences(inbox)) == 8, inbox, pair[0])


def test_more_actors_than_capacity_still_get_one_unroll_each(
    ends: Callable[..., Inbox], outboxes: Callable[..., Outbox]
) -> None:
    inbox = ends(capacity=2)
    trio = [outboxes(inbox, actor) for actor in "abc"]
    settle(inbox, *trio)
    for outbox, actor in zip(trio, "abc", strict=True):
        produce(outbox, 3, actor)
    settled(lambda: [sequences(inbox, actor) for actor in "abc"] == [[1], [1], [1]], inbox, *trio)


def test_the_end_of_the_run_reaches_the_actor(ends: Callable[..., Inbox], outboxes: Callable[..., Outbox]) -> None:
    inbox = ends(capacity=2)
    outbox = outboxes(inbox)
    produce(outbox, 6)
    settled(lambda: not outbox.finished and outbox.waiting == 4, inbox, outbox)
    inbox.finished = True
    settled(lambda: outbox.finished and sequences(inbox) == [1, 2, 3, 4, 5, 6], inbox, outbox)


def test_bye_and_forget_remove_a_peer(ends: Callable[..., Inbox], outboxes: Callable[..., Outbox]) -> None:
    inbox = ends(capacity=8)
    pair = [outboxes(inbox, actor) for actor in ("a", "b")]
    for outbox, actor in zip(pair, ("a", "b"), strict=True):
        produce(outbox, 2, actor)
    settled(lambda: sequences(inbox, "a") == sequences(inbox, "b") == [1, 2], inbox, *pair)
    inbox.forget("a-1")
    assert set(inbox.peers) == {"b-1"} and not sequences(inbox, "a") and sequences(inbox, "b") == [1, 2]
    pair[1].close()
    pump_until(lambda: not inbox.peers, inbox)
    arrival = inbox.take()
    assert arrival is not None and arrival.incarnation == "b-1"
    inbox.account("b-1", 1)


@pytest.mark.parametrize("seed", range(4))
def test_nothing_is_lost_or_counted_twice_through_cuts_and_restarts(
    ends: Callable[..., Inbox], outboxes: Callable[..., Outbox], proxies: Callable[[int], Proxy], seed: int
) -> None:
    rng = random.Random(seed)
    total, lives = 40, 1
    ledger: dict[str, list[int]] = {"a-1": [], "b-1": []}
    inbox = ends(capacity=6)
    proxy = proxies(inbox.port)
    pair = {actor: outboxes(proxy, actor, resend_s=0.1) for actor in ("a", "b")}
    taken: list[tuple[str, int]] = []
    deadline = time.monotonic() + 2 * PATIENCE_S
    while any(outbox.unaccounted or outbox.produced < total for outbox in pair.values()):
        assert time.monotonic() < deadline, {n: len(s) for n, s in ledger.items()}
        inbox.poll(0.002)
        for actor, outbox in pair.items():
            outbox.pump(0.002)
            if not outbox.waiting and outbox.produced < total:
                produce(outbox, 1, actor)
        if rng.random() < 0.5 and (arrival := inbox.take()) is not None:
            assert arrival.unroll is not None
            taken.append((arrival.incarnation, arrival.sequence))
        if rng.random() < 0.2:
            for incarnation, sequence in taken:
                ledger[incarnation].append(sequence)
                inbox.account(incarnation, sequence)
            taken.clear()
            inbox.answer_all()
        chance = rng.random()
        if chance < 0.02:
            proxy.losing = True
        elif chance < 0.05:
            proxy.cut(servers_side=rng.random() < 0.7)
        elif chance < 0.06 and lives < 6:
            lives += 1
            inbox.close()
            proxy.close()
            taken.clear()
            inbox = ends(6, f"learner-{lives}", accounted={n: max(s, default=0) for n, s in ledger.items()})
            proxy = proxies(inbox.port)
            for outbox in pair.values():
                outbox.connect(f"tcp://127.0.0.1:{proxy.port}")
    assert ledger == {"a-1": list(range(1, total + 1)), "b-1": list(range(1, total + 1))}
    assert not inbox.malformed
