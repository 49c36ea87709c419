"""The actor's end of the way that unrolls take to the learner: ZeroMQ, so that the death of either end loses nothing.

A DEALER socket at each actor, a ROUTER at the learner (`common.inbox`). Unrolls carry sequence numbers; the learner
takes them in order, drops what it has had, and answers with a `Status`: what it received, what it accounted for, and
how far the actor may send. That limit is the back-pressure. The actor keeps every unroll until it is accounted for, and
sends again, from the first that was not received, when the learner is another one, or still answers without them
`RESEND_S` after they were sent.
"""

import logging
import time
from collections import deque
from typing import Any

import zmq

from common.errors import WireError
from common.unroll import PROTOCOL, Unroll
from common.wire import Hello, Status, pack, pack_unroll, unpack_status

log = logging.getLogger(__name__)

HELLO_S = 0.5
RESEND_S = 5.0
PING_S = 5.0


class Outbox:
    """The actor's end.

    Args:
      run: name of the run.
      actor: the actor's name.
      incarnation: the name of this life of it.
      endpoint: where the learner listens.
    """

    def __init__(self, run: str, actor: str, incarnation: str, endpoint: str) -> None:
        self._hello = Hello(protocol=PROTOCOL, kind="hello", run=run, actor=actor, incarnation=incarnation)
        self._kept: deque[tuple[int, list[Any]]] = deque()
        self._learner = ""
        self._received = 0
        self._limit = 0
        self.produced = 0
        self.sent = 0
        self.accounted = 0
        self.finished = False
        self._open(endpoint)

    def connect(self, endpoint: str) -> None:
        """Turns to a learner that listens elsewhere; what it has not received is sent again."""
        self._socket.close(linger=0)
        self._open(endpoint)

    def _open(self, endpoint: str) -> None:
        self.endpoint = endpoint
        self._socket: zmq.Socket[bytes] = zmq.Context.instance().socket(zmq.DEALER)
        self._socket.setsockopt(zmq.IDENTITY, self._hello.incarnation.encode())
        self._socket.setsockopt(zmq.LINGER, 0)
        self._socket.setsockopt(zmq.SNDHWM, 0)
        self._socket.setsockopt(zmq.IPV6, 1)
        # A line that is broken without a word is noticed and replaced.
        self._socket.setsockopt(zmq.HEARTBEAT_IVL, int(PING_S * 1000))
        self._socket.setsockopt(zmq.HEARTBEAT_TIMEOUT, int(2 * PING_S * 1000))
        self._socket.connect(endpoint)
        self.sent = self.accounted
        self._limit = self.accounted
        self._heard = self._said = self._sent_at = time.monotonic()
        self._say(self._hello)

    @property
    def waiting(self) -> int:
        """Unrolls that the learner's limit holds back: while there are any, producing more makes no sense."""
        return self.produced - self.sent

    @property
    def unaccounted(self) -> int:
        """Unrolls that the learner has not accounted for."""
        return self.produced - self.accounted

    @property
    def silence_s(self) -> float:
        """Seconds since the learner last said anything."""
        return time.monotonic() - self._heard

    def put(self, unroll: Unroll) -> None:
        """Takes an unroll whose header bears the next sequence number, and sends it if it may.

        The arrays must not be changed afterwards.

        Raises:
          ValueError: if it bears another number.
        """
        if unroll.header.sequence != self.produced + 1:
            raise ValueError(f"unroll {unroll.header.sequence} put after {self.produced}")
        self.produced += 1
        self._kept.append((self.produced, pack_unroll(unroll)))
        self.pump()

    def pump(self, timeout_s: float = 0.0) -> None:
        """Hears the learner, waiting up to a timeout for it, then sends what may be sent."""
        if self._socket.poll(int(timeout_s * 1000)):
            while self._socket.poll(0):
                self._hear(self._socket.recv_multipart())
        if self.sent > self._received and self._heard - self._sent_at > RESEND_S:
            log.info("unrolls from %d on did not reach the learner: sending them again", self._received + 1)
            self.sent = self._received
        for sequence, frames in self._kept:
            if self.sent < sequence <= self._limit:
                self._socket.send_multipart(frames, copy=False)
                self.sent = sequence
                self._sent_at = time.monotonic()
        if time.monotonic() - self._said > HELLO_S:
            self._say(self._hello)

    @property
    def unreceived(self) -> int:
        """Unrolls that the learner does not have."""
        return self.produced - max(self._received, self.accounted)

    def leave(self) -> None:
        """Says that no more will be put; the learner then takes whatever there is, beyond any limit."""
        self._hello = self._hello.model_copy(update={"kind": "leaving"})
        self._say(self._hello)

    def close(self) -> None:
        """Says goodbye and closes."""
        if not self._socket.closed:
            self._say(self._hello.model_copy(update={"kind": "bye"}))
            self._socket.close(linger=200)

    def _say(self, message: Hello) -> None:
        self._socket.send(pack(message))
        self._said = time.monotonic()

    def _hear(self, frames: list[bytes]) -> None:
        try:
            status: Status = unpack_status(frames[0])
        except WireError as error:
            log.warning("a message that is none of the learner's: %s", error)
            return
        self._heard = time.monotonic()
        if status.learner != self._learner:
            self._learner = status.learner
            self.sent = status.received
        self._received = status.received
        self._limit = status.limit
        self.finished = status.finished
        self.accounted = max(self.accounted, status.accounted)
        self.sent = max(self.sent, self.accounted)
        while self._kept and self._kept[0][0] <= self.accounted:
            self._kept.popleft()
