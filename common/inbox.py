"""The learner's end of the transport for unrolls; `common.outbox` describes the protocol."""

import logging
import time
from collections import Counter, deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

import zmq

from common.admission import Admission
from common.errors import SetupError, WireError, worth_logging
from common.keys import LearnerKeys
from common.ledger import CLOSED_KEPT
from common.unroll import PROTOCOL, Unroll, UnrollHeader, UnrollSpec
from common.wire import MAX_HEADER_BYTES, Status, pack, unpack_incoming, unpack_unroll

log = logging.getLogger(__name__)

GONE_S = 10.0
MAX_FRAMES = 16
MAX_MALFORMED = 2
"""Malformed messages per poll. libzmq reads from the peers in turn, so each honest one has had as many turns."""
CURVE_BYTES = 33
"""What encryption adds to a frame: a command name, a nonce, an authentication code and flags (ZeroMQ RFC 26)."""


@dataclass
class Peer:
    """What the learner knows about one incarnation of an actor; all numbers are the actor's sequence numbers."""

    actor: str
    received: int
    accounted: int
    taken: int
    leaving: bool = False
    heard: float = field(default_factory=time.monotonic)


@dataclass(frozen=True)
class Arrival:
    """An unroll that arrived, or the reason it was rejected."""

    incarnation: str
    sequence: int
    unroll: Unroll | None
    reason: str = ""


class Inbox:
    """The learner's end; a context manager that listens from entering to leaving.

    Args:
      bind: where to listen, such as `tcp://*:*`.
      run: name of the run.
      learner: this learner's incarnation.
      spec: what unrolls must look like.
      capacity: the number of unrolls that may wait, summed over actors.
      accounted: after a restart, the last sequence number in the ledger for each actor's incarnation.
      gone_s: seconds of silence after which an actor no longer shares the capacity.
      keys: whom to admit; None admits anyone who reaches the port.

    Raises:
      SetupError: on entering, if it cannot listen there.
    """

    port: int

    def __init__(
        self,
        bind: str,
        run: str,
        learner: str,
        spec: UnrollSpec,
        capacity: int,
        accounted: dict[str, int],
        gone_s: float = GONE_S,
        keys: LearnerKeys | None = None,
    ) -> None:
        self._bind, self._keys = bind, keys
        self._run, self._learner, self._spec, self._capacity = run, learner, spec, capacity
        self._accounted, self._gone_s = accounted, gone_s
        self._queued = 2 * capacity + 100
        self.peers: dict[str, Peer] = {}
        self.arrivals: deque[Arrival] = deque()
        self.malformed: Counter[str] = Counter()
        self._rejected: Counter[str] = Counter()
        self._closed: dict[str, None] = {}  # in order of closing, as many as the ledger remembers
        self.finished = False

    def __enter__(self) -> Self:
        # Its own context, because only one socket in a context can decide whom it admits.
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._admission = None if self._keys is None else Admission(self._keys, self._context, self.malformed)
        self._socket: zmq.Socket[bytes] = self._context.socket(zmq.ROUTER)
        self._socket.setsockopt(zmq.LINGER, 0)
        # Actors within their limit never reach this; others are throttled.
        self._socket.setsockopt(zmq.RCVHWM, self._queued)
        # An actor may reconnect before its old connection is known to be dead.
        self._socket.setsockopt(zmq.ROUTER_HANDOVER, 1)
        self._socket.setsockopt(zmq.MAXMSGSIZE, max(self._spec.largest_bytes, MAX_HEADER_BYTES) + CURVE_BYTES)
        self._socket.setsockopt(zmq.IPV6, 1)
        self._poller = zmq.Poller()
        self._poller.register(self._socket, zmq.POLLIN)
        if self._admission is not None:
            self._admission.guard(self._socket)
            self._poller.register(self._admission.handler, zmq.POLLIN)
        try:
            self._socket.bind(self._bind)
        except zmq.ZMQError as error:
            self.close()
            raise SetupError(
                f"the learner cannot listen at {self._bind}: {error}; use another address with --listen"
            ) from None
        self.port = int(self._socket.getsockopt_string(zmq.LAST_ENDPOINT).rpartition(":")[2])
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def take_over(self, accounted: Mapping[str, int], closed: Iterable[str]) -> None:
        """Continues where another learner stopped; call it before anything is received.

        Args:
          accounted: the last sequence number in the ledger for each open incarnation.
          closed: the incarnations that the ledger has closed, in order of closing.
        """
        self._accounted.update(accounted)
        for incarnation in closed:
            self._close(incarnation)

    def poll(self, timeout_s: float = 0.0) -> bool:
        """Receives what has arrived, waiting up to a timeout; returns whether there was anything.

        A peer that sends without end cannot keep it from returning: it reads at most one queue's worth per call, and
        only two malformed messages, because parsing those is unmetered.
        """
        received = malformed = 0
        senders: set[str] = set()
        while received < self._queued and malformed < MAX_MALFORMED and self._wait(0.0 if received else timeout_s):
            identity, *frames = self._socket.recv_multipart(copy=False)
            received += 1
            try:
                senders.add(self._take(identity.bytes.decode("utf-8", "replace"), frames))
            except WireError as error:
                malformed += 1
                self._malformed(error)
                if error.reason == "revoked":
                    self._refuse(identity.bytes, refused=True)
        for incarnation in senders & self.peers.keys():
            self._answer(incarnation)
        return received > 0

    def take(self) -> Arrival | None:
        """Returns the next unroll in order of arrival, or None."""
        if not self.arrivals:
            return None
        arrival = self.arrivals.popleft()
        if arrival.incarnation in self.peers:
            self.peers[arrival.incarnation].taken = arrival.sequence
        return arrival

    def account(self, incarnation: str, sequence: int) -> None:
        """Marks an unroll whose outcome is in the ledger."""
        if incarnation in self.peers:
            self.peers[incarnation].accounted = sequence

    def answer_all(self) -> None:
        """Sends every actor its status: after taking or accounting, or when the run is finished."""
        for incarnation in self.peers:
            self._answer(incarnation)

    def forget(self, incarnation: str, closed: bool = False) -> None:
        """Drops an incarnation that is gone, along with its unrolls that were not taken.

        If the ledger has closed it, its later unrolls are refused too: they count as lost already.
        """
        peer = self.peers.pop(incarnation, None)
        if closed:
            self._close(incarnation)
        elif peer is not None and peer.accounted:  # the ledger has lost it; if it lives, it must not start again from 0
            self._accounted[incarnation] = peer.accounted
        self.arrivals = deque(a for a in self.arrivals if a.incarnation != incarnation)

    def close(self) -> None:
        """Stops listening."""
        if self._admission is not None:
            self._admission.close()
        self._socket.close(linger=200)
        self._context.term()

    def _wait(self, timeout_s: float) -> bool:
        """Waits up to a timeout for a message and returns whether there is one; answers handshakes in the meantime."""
        deadline = time.monotonic() + timeout_s
        while True:
            left = max(0, round(1000 * (deadline - time.monotonic())))
            ready = dict(self._poller.poll(left))
            if self._admission is not None and self._admission.handler in ready:
                self._admission.answer()
            if self._socket in ready or not ready:
                return bool(ready)

    def _take(self, incarnation: str, frames: list[zmq.Frame]) -> str:
        if not 1 <= len(frames) <= MAX_FRAMES:
            raise WireError("frames", f"{len(frames)} frames, expected 1 to {MAX_FRAMES}")
        if self._admission is not None:
            self._admission.check(frames[0])
        message = unpack_incoming(frames[0].bytes)
        if message.run != self._run:
            raise WireError("run", f"for run {message.run!r}, but this is {self._run!r}")
        if message.incarnation != incarnation:
            raise WireError("identity", f"{incarnation!r} sent a message from {message.incarnation!r}")
        if message.kind == "bye":
            self.peers.pop(incarnation, None)
            return ""
        if incarnation in self._closed:
            self._refuse(incarnation.encode(), closed=True)
            return ""
        if incarnation not in self.peers:
            accounted = self._accounted.get(incarnation, 0)
            self.peers[incarnation] = Peer(message.actor, accounted, accounted, accounted)
        peer = self.peers[incarnation]
        peer.heard = time.monotonic()
        peer.leaving |= message.kind == "leaving"
        due = peer.received + 1
        if isinstance(message, UnrollHeader) and message.sequence == due:
            peer.received += 1
            self.arrivals.append(self._open(message, frames[1:]))
        return incarnation

    def _open(self, header: UnrollHeader, frames: list[zmq.Frame]) -> Arrival:
        try:
            unroll = unpack_unroll(header, frames, self._spec)
        except WireError as error:
            if worth_logging(self._rejected, error.reason):
                log.warning("unroll %d of %s rejected: %s", header.sequence, header.incarnation, error)
            return Arrival(header.incarnation, header.sequence, None, error.reason)
        return Arrival(header.incarnation, header.sequence, unroll)

    def _answer(self, incarnation: str) -> None:
        now = time.monotonic()
        peer = self.peers[incarnation]
        living = sum(now - p.heard < self._gone_s for p in self.peers.values())
        share = max(1, -(-self._capacity // max(1, living)))
        status = Status(
            protocol=PROTOCOL,
            learner=self._learner,
            received=peer.received,
            accounted=peer.accounted,
            limit=2**62 if self.finished or peer.leaving else peer.taken + share,
            finished=self.finished,
        )
        self._socket.send_multipart([incarnation.encode(), pack(status)])

    def _refuse(self, identity: bytes, refused: bool = False, closed: bool = False) -> None:
        """Tells a connected actor why its messages are refused."""
        status = Status(
            protocol=PROTOCOL,
            learner=self._learner,
            received=0,
            accounted=0,
            limit=0,
            finished=False,
            refused=refused,
            closed=closed,
        )
        self._socket.send_multipart([identity, pack(status)])

    def _close(self, incarnation: str) -> None:
        self._closed[incarnation] = None
        if len(self._closed) > CLOSED_KEPT:
            del self._closed[next(iter(self._closed))]

    def _malformed(self, error: WireError) -> None:
        if worth_logging(self.malformed, error.reason):
            log.warning("dropped an invalid message: %s", error)
