"""The ends of a TCP connection of the tests, a proxy that can break it, and waiting for what has to arrive."""

import contextlib
import socket
import threading
from collections.abc import Callable

from unrolls import make_unroll
from waiting import until

from common.inbox import Inbox
from common.outbox import Outbox

PATIENCE_S = 30.0


class Proxy:
    """Passes bytes between the two ends, and loses them or breaks the connection when asked."""

    def __init__(self, port: int) -> None:
        self._target = port
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._server.getsockname()[1]
        self.losing = False
        self.lost_bytes = 0
        self._lines: list[tuple[socket.socket, socket.socket]] = []
        self._quiet: set[socket.socket] = set()
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    def cut(self, actors_side: bool = True, learners_side: bool = True) -> None:
        """Breaks every connection; either side can be left half-open, but nothing gets through any more."""
        self.losing = False
        for line in list(self._lines):
            self._quiet.update(line)
            for end, broken in zip(line, (actors_side, learners_side), strict=True):
                if broken:
                    _shut(end)

    def close(self) -> None:
        """Breaks every connection and waits until all are closed."""
        _shut(self._server)
        self._threads[0].join()
        self._server.close()
        self.cut()
        for thread in self._threads[1:]:
            thread.join()
        for ends in self._lines:
            for end in ends:
                end.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                actor, _ = self._server.accept()
                try:
                    learner = socket.create_connection(("127.0.0.1", self._target))
                except OSError:
                    actor.close()
                    continue
                self._lines.append((actor, learner))
                for ends in ((actor, learner, True), (learner, actor, False)):
                    self._threads.append(threading.Thread(target=self._pass, args=ends))
                    self._threads[-1].start()

    def _pass(self, source: socket.socket, sink: socket.socket, to_learner: bool) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                if self.losing and to_learner or source in self._quiet:
                    self.lost_bytes += len(data)
                else:
                    sink.sendall(data)
        if source not in self._quiet:
            _shut(sink)


def _shut(end: socket.socket) -> None:
    with contextlib.suppress(OSError):
        end.shutdown(socket.SHUT_RDWR)


def produce(outbox: Outbox, count: int, actor: str = "a") -> None:
    for _ in range(count):
        outbox.put(make_unroll(sequence=outbox.produced + 1, actor=actor, incarnation=f"{actor}-1", env_steps=2))


def pump_until(done: Callable[[], bool], inbox: Inbox, *outboxes: Outbox) -> None:
    """Lets both ends talk until a condition holds."""

    def talk() -> None:
        inbox.poll(0.005)
        for outbox in outboxes:
            outbox.pump(0.005)

    until(done, talk)


def settle(inbox: Inbox, *outboxes: Outbox) -> None:
    """Lets both ends talk until every actor got two more replies, so that everything due has been sent."""
    for _ in range(2):
        heard = [outbox._heard for outbox in outboxes]
        inbox.answer_all()
        pump_until(lambda: all(o._heard > h for o, h in zip(outboxes, heard, strict=True)), inbox, *outboxes)  # noqa: B023


def settled(expected: Callable[[], bool], inbox: Inbox, *outboxes: Outbox) -> None:
    """Waits until a condition holds, and checks that it stays true."""
    pump_until(expected, inbox, *outboxes)
    settle(inbox, *outboxes)
    assert expected()


def sequences(inbox: Inbox, actor: str = "a") -> list[int]:
    return [arrival.sequence for arrival in inbox.arrivals if arrival.incarnation == f"{actor}-1"]
