"""The actor's end of the transport for unrolls: ZeroMQ, with nothing lost if either end dies.

Each actor has a DEALER socket, the learner a ROUTER (`common.inbox`). Unrolls carry sequence numbers. The learner takes
them in order, drops duplicates, and replies with a `Status`: what it received, what it accounted for, and how far the
actor may send. That limit is the back-pressure. The actor keeps every unroll until it is accounted for. It resends from
the first one not received when a new learner answers, or when the learner's replies still lack it after `RESEND_S`.
"""

import contextlib
import logging
import time
from collections import deque
from types import TracebackType
from typing import Any, Self

import zmq

from common.errors import StoreError, WireError
from common.handshake import Handshakes
from common.keys import ActorKeys
from common.unroll import PROTOCOL, Unroll
from common.wire import Hello, Status, pack, pack_unroll, unpack_status

log = logging.getLogger(__name__)

HELLO_S = 0.5
RESEND_S = 5.0
PING_S = 5.0


class Outbox:
    """The actor's end; a context manager that is connected from entering to leaving.

    Args:
      run: name of the run.
      actor: the actor's name.
      incarnation: its incarnation.
      endpoint: where the learner listens.
      resend_s: seconds after which an unroll that the learner's replies lack is resent.
      ping_s: seconds between pings, which detect half-open connections.
      keys: this actor's; None connects to learners without keys only.
    """

    endpoint: str

    def __init__(
        self,
        run: str,
        actor: str,
        incarnation: str,
        endpoint: str,
        resend_s: float = RESEND_S,
        ping_s: float = PING_S,
        keys: ActorKeys | None = None,
    ) -> None:
        self.endpoint, self._keys = endpoint, keys
        self._resend_s, self._ping_s = resend_s, ping_s
        self._hello = Hello(protocol=PROTOCOL, kind="hello", run=run, actor=actor, incarnation=incarnation)
        self._kept: deque[tuple[int, list[Any]]] = deque()
        self._learner = ""
        self._received = 0
        self._limit = 0
        self.produced = 0
        self.sent = 0
        self.accounted = 0
        self.finished = False

    def __enter__(self) -> Self:
        self._open()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def connect(self, endpoint: str) -> None:
        """Connects to a learner that listens elsewhere, and resends what it has not received."""
        self._handshakes.close()
        self._socket.close(linger=0)
        self.endpoint = endpoint
        self._open()

    def _open(self) -> None:
        self._socket: zmq.Socket[bytes] = zmq.Context.instance().socket(zmq.DEALER)
        self._socket.setsockopt(zmq.IDENTITY, self._hello.incarnation.encode())
        self._socket.setsockopt(zmq.LINGER, 0)
        self._socket.setsockopt(zmq.SNDHWM, 0)
        self._socket.setsockopt(zmq.IPV6, 1)
        # Detects half-open connections and replaces them.
        self._socket.setsockopt(zmq.HEARTBEAT_IVL, int(self._ping_s * 1000))
        self._socket.setsockopt(zmq.HEARTBEAT_TIMEOUT, int(2 * self._ping_s * 1000))
        if self._keys is not None:
            self._socket.setsockopt(zmq.CURVE_SERVERKEY, self._keys.learner)
            self._socket.setsockopt(zmq.CURVE_PUBLICKEY, self._keys.own.public)
            self._socket.setsockopt(zmq.CURVE_SECRETKEY, self._keys.own.secret)
        shown = "" if self._keys is None else self._keys.own.public.decode()
        self._handshakes = Handshakes(self._socket, self.endpoint, shown)
        self._socket.connect(self.endpoint)
        self.sent = self.accounted
        self._limit = self.accounted
        self._heard = self._said = self._sent_at = time.monotonic()
        self._say(self._hello)

    @property
    def waiting(self) -> int:
        """The number of unrolls held back by the learner's limit: while there are any, producing more is pointless."""
        return self.produced - self.sent

    @property
    def unaccounted(self) -> int:
        """The number of unrolls that the learner has not accounted for."""
        return self.produced - self.accounted

    @property
    def silence_s(self) -> float:
        """Seconds since the learner last replied."""
        return time.monotonic() - self._heard

    def put(self, unroll: Unroll) -> None:
        """Queues an unroll, which must carry the next sequence number, and sends it if the limit allows.

        Its arrays must not be changed afterwards.

        Raises:
          ValueError: if it carries another number.
        """
        if unroll.header.sequence != self.produced + 1:
            raise ValueError(f"unroll {unroll.header.sequence} put after {self.produced}")
        self.produced += 1
        self._kept.append((self.produced, pack_unroll(unroll)))
        self.pump()

    def pump(self, timeout_s: float = 0.0) -> None:
        """Receives the learner's replies, waiting up to a timeout, then sends as far as the limit allows.

        Raises:
          SetupError: if the learner does not admit this actor.
          StoreError: if this incarnation was closed, or the learner expects unrolls that had been accounted for.
        """
        self._handshakes.check()
        if self._socket.poll(int(timeout_s * 1000)):
            while self._socket.poll(0):
                self._hear(self._socket.recv_multipart())
        if self.sent > self._received and self._heard - self._sent_at > self._resend_s:
            log.info("unrolls from %d on did not reach the learner: resending", self._received + 1)
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
        """The number of unrolls that the learner has not received."""
        return self.produced - max(self._received, self.accounted)

    def leave(self) -> None:
        """Announces that no more unrolls will follow; the learner then accepts the rest without a limit."""
        self._hello = self._hello.model_copy(update={"kind": "leaving"})
        self._say(self._hello)

    def close(self) -> None:
        """Sends `bye` and closes."""
        if not self._socket.closed:
            self._say(self._hello.model_copy(update={"kind": "bye"}))
            self._handshakes.close()
            self._socket.close(linger=200)

    def _say(self, message: Hello) -> None:
        with contextlib.suppress(zmq.Again):  # no connection is left after a refusal
            self._socket.send(pack(message), zmq.NOBLOCK)
        self._said = time.monotonic()

    def _hear(self, frames: list[bytes]) -> None:
        try:
            status: Status = unpack_status(frames[0])
        except WireError as error:
            log.warning("dropped an invalid reply: %s", error)
            return
        if status.refused:
            raise self._handshakes.withdrawal()
        if status.closed:
            raise StoreError(
                f"{self._hello.incarnation} missed its heartbeats and was closed: what it had in flight counts "
                "as lost; restart this actor"
            )
        self._heard = time.monotonic()
        if status.received < self.accounted:  # those are no longer here, and it takes no others before them
            raise StoreError(
                f"the learner expects unroll {status.received + 1} of {self._hello.incarnation}, which was accounted "
                "for: Redis has lost the ledger; restart this actor"
            )
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
