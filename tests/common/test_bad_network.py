"""Unrolls over a network that is slow, loses packets, falls silent and resets connections; and the proxy that does."""

import contextlib
import random
import socket
import threading
import time
from collections.abc import Iterator

import pytest
import zmq
from proxy import RETRANSMIT_S, NetworkConditions, Proxy
from tcp import produce, pump_until, sequences, settled
from unrolls import RUN, SPEC

from common.errors import StoreError
from common.inbox import Inbox
from common.outbox import Outbox

BAD = NetworkConditions(delay_s=0.1, loss=0.05)
"""200 ms there and back, and more than the usual 1 % of losses, so that some occur within seconds."""


@contextlib.contextmanager
def echo() -> Iterator[int]:
    """A server on one connection that sends everything back; yields its port."""

    def serve() -> None:
        with contextlib.suppress(OSError):
            end, _ = server.accept()
            with end:
                while data := end.recv(65536):
                    end.sendall(data)

    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield server.getsockname()[1]
        finally:
            with contextlib.suppress(OSError):
                server.shutdown(socket.SHUT_RDWR)
            thread.join()


def read(end: socket.socket, size: int) -> bytes:
    got = b""
    while len(got) < size and (data := end.recv(size - len(got))):
        got += data
    return got


def test_the_proxy_delays_and_holds_up_but_keeps_every_byte_in_order() -> None:
    weather, sent = NetworkConditions(delay_s=0.05, loss=0.2), [random.Random(i).randbytes(1000) for i in range(40)]
    with echo() as port, contextlib.closing(Proxy(port, weather)) as proxy:
        with socket.create_connection(("127.0.0.1", proxy.port)) as end:
            started = time.monotonic()
            for chunk in sent:
                end.sendall(chunk)
                time.sleep(0.005)  # otherwise all of it is one chunk
            assert read(end, 40_000) == b"".join(sent)
            took = time.monotonic() - started
        assert proxy.late_chunks > 0
        assert took >= 2 * weather.delay_s + RETRANSMIT_S, "what is behind a lost chunk waits for it"


def test_nothing_passes_a_black_hole_until_it_is_over() -> None:
    with echo() as port, contextlib.closing(Proxy(port)) as proxy, contextlib.ExitStack() as stack:
        with proxy.black_hole():
            end = stack.enter_context(socket.create_connection(("127.0.0.1", proxy.port), timeout=0.3))
            end.sendall(b"late")
            with pytest.raises(TimeoutError):
                end.recv(4)
        end.settimeout(30)
        assert read(end, 4) == b"late"


@pytest.mark.slow
@pytest.mark.parametrize("fault", ["resets", "black holes"])
def test_every_unroll_arrives_once_over_a_bad_network(fault: str) -> None:
    """Two actors, each behind a network of its own, send as far as the learner lets them."""
    total, taken, faults = 60, 0, [20, 50, 80]
    got: dict[str, list[int]] = {"a-1": [], "b-1": []}
    with contextlib.ExitStack() as stack:
        inbox = stack.enter_context(Inbox("tcp://127.0.0.1:*", RUN, "learner-1", SPEC, 16, {}))
        proxies = [stack.enter_context(contextlib.closing(Proxy(inbox.port, BAD))) for _ in "ab"]
        pair = [
            stack.enter_context(Outbox(RUN, name, f"{name}-1", f"tcp://127.0.0.1:{proxy.port}", 0.5, 1.0))
            for name, proxy in zip("ab", proxies, strict=True)
        ]

        def exchanged() -> int:
            nonlocal taken
            for outbox, name in zip(pair, "ab", strict=True):
                if not outbox.waiting and outbox.produced < total:
                    produce(outbox, 1, name)
            while (arrival := inbox.take()) is not None:
                taken += 1
                got[arrival.incarnation].append(arrival.sequence)
                inbox.account(arrival.incarnation, arrival.sequence)
                inbox.answer_all()
            return taken

        while faults:
            due = faults.pop(0)
            pump_until(lambda: exchanged() >= due, inbox, *pair)  # noqa: B023
            proxy = proxies[len(faults) % 2]
            if fault == "resets":
                proxy.cut()
                continue
            with proxy.black_hole():
                over = time.monotonic() + 2.5  # longer than the actor's pings allow
                pump_until(lambda: exchanged() >= 0 and time.monotonic() > over, inbox, *pair)  # noqa: B023
        pump_until(lambda: exchanged() == 2 * total, inbox, *pair)
        settled(lambda: all(outbox.unaccounted == 0 for outbox in pair), inbox, *pair)
    assert got == {name: list(range(1, total + 1)) for name in got}
    assert not inbox.malformed and not sequences(inbox, "a") and not sequences(inbox, "b")
    assert all(proxy.late_chunks > 0 for proxy in proxies)
    assert fault != "resets" or all(proxy.connections > 1 for proxy in proxies)


def test_a_peer_that_sends_without_end_does_not_keep_the_learner_busy() -> None:
    inbox = Inbox("tcp://127.0.0.1:*", RUN, "learner-1", SPEC, 1, {})
    flood: zmq.Socket[bytes] = zmq.Context.instance().socket(zmq.DEALER)
    with inbox, flood:
        flood.setsockopt(zmq.LINGER, 0)
        flood.setsockopt(zmq.SNDHWM, 0)
        flood.connect(f"tcp://127.0.0.1:{inbox.port}")
        for _ in range(2000):
            flood.send(b"garbage")
        deadline, most, handled = time.monotonic() + 60, 0, 0
        while handled < 2000:
            assert time.monotonic() < deadline
            inbox.poll(1.0)
            most, handled = max(most, inbox.malformed.total() - handled), inbox.malformed.total()
        assert most <= 102


def test_an_actor_whose_account_is_lost_says_so_instead_of_waiting_for_ever() -> None:
    """Redis came back empty and the learner died too: its successor expects the first unroll, which is gone."""
    with contextlib.ExitStack() as stack:
        first, second = (
            stack.enter_context(Inbox("tcp://127.0.0.1:*", RUN, name, SPEC, 4, {})) for name in ("first", "second")
        )
        outbox = stack.enter_context(Outbox(RUN, "a", "a-1", f"tcp://127.0.0.1:{first.port}"))
        produce(outbox, 6)
        pump_until(lambda: sequences(first) == [1, 2, 3, 4], first, outbox)
        first.take()
        first.account("a-1", 1)
        first.answer_all()
        pump_until(lambda: outbox.accounted == 1, first, outbox)
        outbox.connect(f"tcp://127.0.0.1:{second.port}")
        with pytest.raises(StoreError, match="expects unroll 1 of a-1, which was accounted for"):
            pump_until(lambda: False, second, outbox)
