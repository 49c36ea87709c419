"""The learner's end of the way that unrolls take; `common.outbox` has the protocol."""

import logging
import time
from collections import Counter, deque
from dataclasses import dataclass, field

import zmq

from common.errors import SetupError, WireError
from common.unroll import PROTOCOL, Unroll, UnrollHeader, UnrollSpec
from common.wire import Status, pack, unpack_incoming, unpack_unroll

log = logging.getLogger(__name__)

GONE_S = 10.0
MAX_FRAMES = 16
MAX_MESSAGE_BYTES = 256 << 20


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
