"""Unrolls from actors to the learner over ZeroMQ, so that the death of either loses nothing unnoticed.

A DEALER socket at each actor, a ROUTER at the learner. Unrolls carry sequence numbers; the learner takes them in
order, drops what it has had, and answers with a `Status`: what it received, what it accounted for, and how far the
actor may send. That limit is the back-pressure. The actor keeps every unroll until it is accounted for, and sends
again, from the first that was not received, when the learner is another one, or still answers without them
`RESEND_S` after they were sent.
"""

import logging
import time
from collections import Counter, deque
from dataclasses import dataclass, field
from typing import Any

import zmq

from common.errors import SetupError, WireError
from common.unroll import PROTOCOL, Unroll, UnrollHeader, UnrollSpec
from common.wire import Hello, Status, pack, pack_unroll, unpack_incoming, unpack_status, unpack_unroll

log = logging.getLogger(__name__)

HELLO_S = 0.5
RESEND_S = 5.0
PING_S = 5.0
GONE_S = 10.0
MAX_FRAMES = 16
MAX_MESSAGE_BYTES = 256 << 20


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


@dataclass
class Peer:
    """What the learner knows of one incarnation of an actor; all numbers are its sequence numbers."""

    actor: str
    received: int
    accounted: int
    taken: int
    leaving: bool = False
    heard: float = field(default_factory=time.monotonic)


@dataclass(frozen=True)
class Arrival:
    """An unroll that came, or the reason why it cannot be used."""

    incarnation: str
    sequence: int
    unroll: Unroll | None
    reason: str = ""


class Inbox:
    """The learner's end.

    Args:
      bind: where to listen, such as `tcp://*:*`.
      run: name of the run.
      learner: name of this life of the learner.
      spec: what an unroll has to look like.
      capacity: unrolls that may wait to be taken, summed over actors.
      accounted: what is accounted for already, by incarnation, after a restart.

    Raises:
      SetupError: if it cannot listen there.
    """

    def __init__(
        self, bind: str, run: str, learner: str, spec: UnrollSpec, capacity: int, accounted: dict[str, int]
    ) -> None:
        self._socket: zmq.Socket[bytes] = zmq.Context.instance().socket(zmq.ROUTER)
        self._socket.setsockopt(zmq.LINGER, 0)
        self._socket.setsockopt(zmq.RCVHWM, 0)
        # An actor that lost its line comes back by another, perhaps before the old one is known to be dead.
        self._socket.setsockopt(zmq.ROUTER_HANDOVER, 1)
        self._socket.setsockopt(zmq.MAXMSGSIZE, MAX_MESSAGE_BYTES)
        self._socket.setsockopt(zmq.IPV6, 1)
        try:
            self._socket.bind(bind)
        except zmq.ZMQError as error:
            self._socket.close()
            raise SetupError(f"the learner cannot listen at {bind}: {error}; --listen takes another address") from None
        self._run, self._learner, self._spec, self._capacity = run, learner, spec, capacity
        self._accounted = accounted
        self.port = int(self._socket.getsockopt_string(zmq.LAST_ENDPOINT).rpartition(":")[2])
        self.peers: dict[str, Peer] = {}
        self.arrivals: deque[Arrival] = deque()
        self.malformed: Counter[str] = Counter()
        self._rejected: Counter[str] = Counter()
        self.finished = False

    def poll(self, timeout_s: float = 0.0) -> bool:
        """Takes in what has come, waiting up to a timeout for something; says whether anything did."""
        came = False
        spoke: set[str] = set()
        while self._socket.poll(0 if came else int(timeout_s * 1000)):
            identity, *frames = self._socket.recv_multipart(copy=False)
            came = True
            try:
                spoke.add(self._take(identity.bytes.decode("utf-8", "replace"), frames))
            except WireError as error:
                self._malformed(error)
        for incarnation in spoke & self.peers.keys():
            self._answer(incarnation)
        return came

    def take(self) -> Arrival | None:
        """The next unroll in order of arrival, if there is one."""
        if not self.arrivals:
            return None
        arrival = self.arrivals.popleft()
        if arrival.incarnation in self.peers:
            self.peers[arrival.incarnation].taken = arrival.sequence
        return arrival

    def account(self, incarnation: str, sequence: int) -> None:
        """Says that an unroll's outcome stands in the ledger."""
        if incarnation in self.peers:
            self.peers[incarnation].accounted = sequence

    def answer_all(self) -> None:
        """Tells every actor where it stands: after taking or accounting, or when the run is finished."""
        for incarnation in self.peers:
            self._answer(incarnation)

    def forget(self, incarnation: str) -> None:
        """Drops an incarnation that is gone; what it sent and nobody took goes with it."""
        self.peers.pop(incarnation, None)
        self.arrivals = deque(a for a in self.arrivals if a.incarnation != incarnation)

    def close(self) -> None:
        """Stops listening."""
        self._socket.close(linger=200)

    def _take(self, incarnation: str, frames: list[zmq.Frame]) -> str:
        if not 1 <= len(frames) <= MAX_FRAMES:
            raise WireError("frames", f"{len(frames)} frames, expected 1 to {MAX_FRAMES}")
        message = unpack_incoming(frames[0].bytes)
        if message.run != self._run:
            raise WireError("run", f"meant for run {message.run!r}, this is {self._run!r}")
        if message.incarnation != incarnation:
            raise WireError("identity", f"{incarnation!r} speaks for {message.incarnation!r}")
        if message.kind == "bye":
            self.peers.pop(incarnation, None)
            return ""
        if incarnation not in self.peers:
            accounted = self._accounted.get(incarnation, 0)
            self.peers[incarnation] = Peer(message.actor, accounted, accounted, accounted)
        peer = self.peers[incarnation]
        peer.heard = time.monotonic()
        peer.leaving |= message.kind == "leaving"
        if isinstance(message, UnrollHeader) and message.sequence == peer.received + 1:
            peer.received += 1
            self.arrivals.append(self._open(message, frames[1:]))
        return incarnation

    def _open(self, header: UnrollHeader, frames: list[zmq.Frame]) -> Arrival:
        try:
            unroll = unpack_unroll(header, frames, self._spec)
        except WireError as error:
            if _worth_saying(self._rejected, error.reason):
                log.warning("unroll %d of %s rejected: %s", header.sequence, header.incarnation, error)
            return Arrival(header.incarnation, header.sequence, None, error.reason)
        return Arrival(header.incarnation, header.sequence, unroll)

    def _answer(self, incarnation: str) -> None:
        now = time.monotonic()
        peer = self.peers[incarnation]
        living = sum(now - p.heard < GONE_S for p in self.peers.values())
        share = max(1, -(-self._capacity // max(1, living)))
        status = Status(
            protocol=PROTOCOL, learner=self._learner, received=peer.received, accounted=peer.accounted,
            limit=2**62 if self.finished or peer.leaving else peer.taken + share, finished=self.finished,
        )  # fmt: skip
        self._socket.send_multipart([incarnation.encode(), pack(status)])

    def _malformed(self, error: WireError) -> None:
        if _worth_saying(self.malformed, error.reason):
            log.warning("dropped a message that is none of this run's actors': %s", error)


def _worth_saying(counts: Counter[str], reason: str) -> bool:
    """Counts; says whether this is the 1st, 2nd, 4th, 8th, ... of its kind, for a flood must not flood the log."""
    counts[reason] += 1
    return counts[reason].bit_count() == 1
