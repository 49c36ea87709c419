"""Messages arrive unchanged or raise a `WireError` with its reason; nothing else ever happens."""

import random
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import msgpack
import numpy as np
import pytest
import zmq
from unrolls import BLIND, RUN, SPEC, make_unroll

from common.errors import WireError
from common.inbox import MAX_FRAMES, Inbox
from common.unroll import ARRAYS, PROTOCOL, EpisodeSummary, Unroll, UnrollHeader, UnrollSpec
from common.wire import (
    MAX_HEADER_BYTES,
    Hello,
    Status,
    pack,
    pack_unroll,
    unpack_incoming,
    unpack_status,
    unpack_unroll,
)

HELLO = Hello(protocol=PROTOCOL, kind="hello", run=RUN, actor="a", incarnation="a-1")


class CountingInbox(Inbox):
    """Counts the messages it has handled, valid or not."""

    dealt_with = 0

    def _take(self, incarnation: str, frames: list[zmq.Frame]) -> str:
        self.dealt_with += 1
        return super()._take(incarnation, frames)


class Pair:
    """An inbox on a real port, and a plain DEALER that can send it anything."""

    def __init__(self, spec: UnrollSpec = SPEC, identity: bytes = b"a-1") -> None:
        self.inbox = CountingInbox("tcp://127.0.0.1:*", RUN, "learner-1", spec, capacity=1000, accounted={})
        self.inbox.__enter__()
        self.dealer: zmq.Socket[bytes] = zmq.Context.instance().socket(zmq.DEALER)
        self.dealer.setsockopt(zmq.IDENTITY, identity)
        self.dealer.setsockopt(zmq.LINGER, 0)
        self.dealer.connect(f"tcp://127.0.0.1:{self.inbox.port}")

    def deliver(self, *messages: list[Any]) -> None:
        """Sends messages followed by a hello, and returns once the inbox has handled them all."""
        until = self.inbox.dealt_with + len(messages) + 1
        for frames in messages:
            self.dealer.send_multipart(frames)
        self.dealer.send(pack(HELLO))
        while self.inbox.dealt_with < until:
            assert self.inbox.poll(timeout_s=30), "nothing came"
        while self.dealer.poll(0):
            unpack_status(self.dealer.recv())

    def close(self) -> None:
        self.dealer.close()
        self.inbox.close()


@pytest.fixture
def pair() -> Iterator[Pair]:
    pair = Pair()
    yield pair
    pair.close()


def frames_of(frames: list[Any]) -> list[zmq.Frame]:
    return [zmq.Frame(bytes(frame)) for frame in frames]


def header_of(unroll: Unroll, **changes: Any) -> bytes:
    """Frame 0 of an unroll with some fields replaced, or omitted where the value is `...`."""
    fields = unroll.header.model_dump() | changes
    return bytes(msgpack.packb({k: v for k, v in fields.items() if v is not ...}))


def open_all(frames: list[Any], spec: UnrollSpec = SPEC) -> Unroll:
    """Opens an unroll's frames as the inbox does."""
    header = unpack_incoming(bytes(frames[0]))
    assert isinstance(header, UnrollHeader)
    return unpack_unroll(header, frames_of(frames[1:]), spec)


def assert_same(got: Unroll, sent: Unroll) -> None:
    assert got.header == sent.header
    for name in ARRAYS:
        ours, theirs = getattr(got, name), getattr(sent, name)
        assert ours.dtype == theirs.dtype and ours.shape == theirs.shape
        assert ours.tobytes() == theirs.tobytes(), name


EPISODE = EpisodeSummary(env_steps=99, returns=[1.5, -2.25], statistics={"interactions": 0.5})


@pytest.mark.parametrize("env_steps", [7, 1])
@pytest.mark.parametrize("episode", [None, EPISODE])
def test_an_unroll_survives_the_wire(pair: Pair, env_steps: int, episode: EpisodeSummary | None) -> None:
    sent = make_unroll(env_steps=env_steps, episode=episode)
    pair.deliver(pack_unroll(sent))
    arrival = pair.inbox.take()
    assert arrival is not None and (arrival.incarnation, arrival.sequence, arrival.reason) == ("a-1", 1, "")
    assert arrival.unroll is not None
    assert arrival.unroll.env_steps == env_steps
    assert_same(arrival.unroll, sent)
    assert not pair.inbox.malformed


def test_arrays_without_elements_survive_the_wire() -> None:
    pair = Pair(BLIND)
    sent = make_unroll(BLIND)
    assert sent.rgb.size == sent.features.size == 0
    pair.deliver(pack_unroll(sent))
    arrival = pair.inbox.take()
    assert arrival is not None and arrival.unroll is not None, arrival
    assert_same(arrival.unroll, sent)
    pair.close()


def test_arrays_are_not_copied() -> None:
    unroll = make_unroll()
    frames = pack_unroll(unroll)
    assert all(np.shares_memory(np.asarray(f), getattr(unroll, n)) for n, f in zip(ARRAYS, frames[1:], strict=True))
    received = frames_of(frames[1:])
    opened = unpack_unroll(unroll.header, received, SPEC)
    for name, frame in zip(ARRAYS, received, strict=True):
        assert np.shares_memory(getattr(opened, name), np.frombuffer(frame.buffer, np.uint8))


def test_headers_and_statuses_survive_the_wire() -> None:
    for message in (HELLO, HELLO.model_copy(update={"kind": "bye"}), make_unroll(episode=EPISODE).header):
        assert unpack_incoming(pack(message)) == message
    status = Status(protocol=PROTOCOL, learner="l", received=3, accounted=2, limit=2**62, finished=True)
    assert unpack_status(pack(status)) == status


GOOD = make_unroll()


@pytest.mark.parametrize(
    ("frame", "reason"),
    [
        (b"", "header"),
        (b"\xc1", "header"),
        (b"\x81\xa1a", "header"),
        (pack(HELLO) + b"\x00", "header"),
        (msgpack.packb([1, 2]), "header"),
        (msgpack.packb(7), "header"),
        (msgpack.packb({1: 2}), "header"),
        (b"\x91" * 2000 + b"\x90", "header"),
        (msgpack.packb({"protocol": PROTOCOL, "x": b"y" * MAX_HEADER_BYTES}), "header"),
        (msgpack.packb({}), "protocol"),
        (header_of(GOOD, protocol=PROTOCOL + 1), "protocol"),
        (header_of(GOOD, protocol=...), "protocol"),
        (header_of(GOOD, protocol="1"), "protocol"),
        *((header_of(GOOD, **{name: ...}), "header") for name in GOOD.header.model_dump() if name != "protocol"),
        (header_of(GOOD, kind="nothing"), "header"),
        (header_of(GOOD, kind={"a": [1]}), "header"),
        (header_of(GOOD, more=1), "header"),
        (header_of(GOOD, sequence=0), "header"),
        (header_of(GOOD, sequence=2**63), "header"),
        (header_of(GOOD, theta_version=-1), "header"),
        (header_of(GOOD, incarnation=""), "header"),
        (header_of(GOOD, incarnation="x" * 201), "header"),
        (header_of(GOOD, drivers=["theta", 3]), "header"),
        (header_of(GOOD, policy=[-1, 0]), "header"),
        (header_of(GOOD, episode={"env_steps": 3}), "header"),
        (header_of(GOOD, arrays=[("rgb", "|u1")]), "header"),
        (header_of(GOOD, arrays=[("rgb", "|u1", (-1,))]), "header"),
        (header_of(GOOD, arrays=5), "header"),
        (header_of(GOOD, arrays=[("rgb", "|u1", (1,))] * 17), "header"),
        (header_of(GOOD, drivers=["theta"] * 1025), "header"),
        (header_of(GOOD, policy=[0] * 1025), "header"),
    ],
)
def test_an_invalid_header_is_rejected(frame: bytes, reason: str) -> None:
    with pytest.raises(WireError) as caught:
        unpack_incoming(frame)
    assert caught.value.reason == reason
    assert str(caught.value).startswith(f"{reason}: ")


def test_an_invalid_status_is_rejected() -> None:
    for frame, reason in ((b"?", "header"), (pack(HELLO), "header"), (msgpack.packb({"protocol": 0}), "protocol")):
        with pytest.raises(WireError) as caught:
            unpack_status(frame)
        assert caught.value.reason == reason


def table(**changes: Any) -> list[Any]:
    """The table of arrays of a valid unroll, with the (dtype, shape) of some replaced."""
    return [(name, *changes.get(name, (dtype, shape))) for name, dtype, shape in GOOD.header.arrays]


def filled(name: str, value: float) -> Unroll:
    """A valid unroll with one value of an array replaced."""
    array = getattr(make_unroll(), name).copy()
    array.flat[array.size // 2] = value
    return make_unroll(**{name: array})


def with_bytes(name: str, change: Callable[[bytes], bytes]) -> list[Any]:
    frames = pack_unroll(make_unroll())
    place = ARRAYS.index(name) + 1
    frames[place] = change(bytes(frames[place]))
    return frames


def with_header(**changes: Any) -> list[Any]:
    return [header_of(GOOD, **changes), *pack_unroll(GOOD)[1:]]


REJECTED: dict[str, tuple[str, list[Any]]] = {
    "a driver too few": ("players", with_header(drivers=["theta"])),
    "a policy too many": ("players", with_header(policy=[0, 1, 0])),
    "returns of another game": ("players", with_header(episode={"env_steps": 3, "returns": [1.0] * 3})),
    "no such policy": ("policy", with_header(policy=[0, 2])),
    "too many steps": ("arrays", pack_unroll(make_unroll(env_steps=8))),
    "no steps": ("arrays", with_header(arrays=table(action=("<i4", (0, 2))))),
    "action without axes": ("arrays", with_header(arrays=table(action=("<i4", ())))),
    "steps beyond all memory": ("arrays", with_header(arrays=table(rgb=("|u1", (2**62, 2**62))))),
    "wrong dtype": ("arrays", with_header(arrays=table(reward=("<f8", (7, 2))))),
    "pickled objects": ("arrays", with_header(arrays=table(reward=("|O", (7, 2))))),
    "no dtype at all": ("arrays", with_header(arrays=table(reward=("nonsense", (7, 2))))),
    "other byte order": ("arrays", with_header(arrays=table(reward=(">f4", (7, 2))))),
    "wrong shape": ("arrays", with_header(arrays=table(features=("<f4", (8, 2, 5))))),
    "rows of another length": ("arrays", with_header(arrays=table(features=("<f4", (7, 2, 6))))),
    "state of another network": ("arrays", pack_unroll(make_unroll(state=np.zeros((2, 9), np.float32)))),
    "an array missing": ("arrays", with_header(arrays=table()[1:])),
    "an array too many": ("arrays", with_header(arrays=[*table(), ("more", "|u1", (1,))])),
    "the same name twice": ("arrays", with_header(arrays=[*table(), table()[0]])),
    "the same name instead": ("arrays", with_header(arrays=[*table()[:-1], table()[0]])),
    "a frame too few": ("frames", pack_unroll(GOOD)[:-1]),
    "a frame too many": ("frames", [*pack_unroll(GOOD), b""]),
    "no frames": ("frames", pack_unroll(GOOD)[:1]),
    "a byte too few": ("bytes", with_bytes("rgb", lambda data: data[:-1])),
    "a byte too many": ("bytes", with_bytes("state", lambda data: data + b"\0")),
    "an empty frame": ("bytes", with_bytes("reward", lambda data: b"")),
    "nan features": ("finite", pack_unroll(filled("features", np.nan))),
    "nan probability": ("finite", pack_unroll(filled("log_prob", np.nan))),
    "infinite reward": ("finite", pack_unroll(filled("reward", np.inf))),
    "nan discount": ("finite", pack_unroll(filled("discount", np.nan))),
    "infinite state": ("finite", pack_unroll(filled("state", -np.inf))),
    "negative action": ("action", pack_unroll(filled("action", -1))),
    "action too large": ("action", pack_unroll(filled("action", 5))),
    "negative discount": ("discount", pack_unroll(filled("discount", -0.5))),
    "discount above one": ("discount", pack_unroll(filled("discount", 1.5))),
    "flags that are neither": ("active", with_bytes("active", lambda data: b"\x02" + data[1:])),
}


@pytest.mark.parametrize("case", REJECTED)
def test_an_invalid_unroll_is_rejected_with_its_reason(case: str) -> None:
    reason, frames = REJECTED[case]
    with pytest.raises(WireError) as caught:
        open_all(frames)
    assert caught.value.reason == reason


@pytest.mark.parametrize("case", REJECTED)
def test_the_inbox_reports_the_reason_and_continues(pair: Pair, case: str) -> None:
    reason, frames = REJECTED[case]
    pair.deliver(frames, pack_unroll(make_unroll(sequence=2)))
    first, second = pair.inbox.take(), pair.inbox.take()
    assert first is not None and first.unroll is None and (first.sequence, first.reason) == (1, reason)
    assert second is not None and second.unroll is not None and second.sequence == 2
    assert not pair.inbox.malformed


def test_messages_of_other_runs_are_counted_by_reason(pair: Pair) -> None:
    stranger = HELLO.model_copy(update={"incarnation": "b-1"})
    pair.deliver(
        [b"no msgpack"],
        [msgpack.packb({"protocol": 99})],
        [pack(HELLO.model_copy(update={"run": "another"}))],
        pack_unroll(make_unroll(run="another")),
        [pack(stranger)],
        pack_unroll(make_unroll(incarnation="b-1")),
        [pack(HELLO)] + [b""] * MAX_FRAMES,
        [pack(Status(protocol=PROTOCOL, learner="l", received=0, accounted=0, limit=1, finished=True))],
    )
    assert pair.inbox.malformed == {"header": 2, "protocol": 1, "run": 2, "identity": 2, "frames": 1}
    assert pair.inbox.take() is None
    assert set(pair.inbox.peers) == {"a-1"}


def fuzzed(rng: random.Random) -> list[bytes]:
    """Random frames: noise, maps of random values, valid messages with a defect."""
    kind = rng.randrange(5)
    if kind == 0:
        return [rng.randbytes(rng.choice([0, 1, 3, 40, 400])) for _ in range(rng.randrange(1, 12))]
    if kind == 1:
        return [bytes(msgpack.packb(thing(rng, 4)))]
    frames = [bytes(frame) for frame in pack_unroll(make_unroll(sequence=rng.randrange(1, 4)))]
    if kind == 2:
        fields = msgpack.unpackb(frames[0])
        fields[rng.choice(list(fields))] = thing(rng, 3)
        frames[0] = bytes(msgpack.packb(fields))
    for _ in range(rng.randrange(4)):
        place = rng.choice([0, rng.randrange(len(frames))])
        data = bytearray(frames[place])
        if data and rng.random() < 0.8:
            data[rng.randrange(len(data))] = rng.randrange(256)
        elif rng.random() < 0.5:
            del data[len(data) // 2 :]
        else:
            data[-4:] = b"\0\0\xc0\x7f"  # a float32 that is not a number
        frames[place] = bytes(data)
    if rng.random() < 0.1:
        frames.insert(1, b"") if rng.random() < 0.5 else frames.pop()
    if kind == 4:
        rng.shuffle(frames)
    return frames


def thing(rng: random.Random, depth: int) -> Any:
    """Any value that msgpack can represent."""
    kind = rng.randrange(10 if depth else 8)
    if kind == 8:
        return [thing(rng, depth - 1) for _ in range(rng.randrange(5))]
    if kind == 9:
        names = ["protocol", "kind", "run", "actor", "incarnation", "sequence", "arrays", "x"]
        fields = {rng.choice(names): thing(rng, depth - 1) for _ in range(rng.randrange(6))}
        return fields | ({"protocol": PROTOCOL, "kind": rng.choice(["hello", "bye", "unroll"])} if depth > 2 else {})
    simple = [None, True, rng.randint(-(2**63), 2**64 - 1), rng.uniform(-9, 9), float("nan"), rng.randbytes(4)]
    return [*simple, rng.choice(["", "hello", "a-1", RUN, "\u2028"]), msgpack.Timestamp(1, 2)][kind]


def test_random_frames_raise_nothing_but_wire_errors() -> None:
    rng = random.Random(1)
    reasons: Counter[str] = Counter()
    for _ in range(6000):
        frames = fuzzed(rng)
        try:
            message = unpack_incoming(frames[0])
            if isinstance(message, UnrollHeader):
                unpack_unroll(message, frames_of(frames[1:]), SPEC)
            reasons["good"] += 1
        except WireError as error:
            reasons[error.reason] += 1
        try:
            unpack_status(frames[0])
        except WireError as error:
            assert error.reason in ("header", "protocol")
    assert {"good", "header", "protocol", "arrays", "frames", "bytes", "action", "finite", "discount"} <= set(reasons)


def test_random_frames_never_stop_the_inbox(pair: Pair) -> None:
    rng = random.Random(2)
    for _ in range(40):
        pair.deliver(*(fuzzed(rng) for _ in range(100)))
    malformed = sum(pair.inbox.malformed.values())
    assert malformed > 1000 and {"header", "protocol"} <= set(pair.inbox.malformed)
    sequences = []
    while (arrival := pair.inbox.take()) is not None:
        sequences.append(arrival.sequence)
    assert sequences == list(range(1, len(sequences) + 1)) and sequences
    sent = make_unroll(sequence=pair.inbox.peers["a-1"].received + 1)
    pair.deliver(pack_unroll(sent))
    arrival = pair.inbox.take()
    assert arrival is not None and arrival.unroll is not None
    assert_same(arrival.unroll, sent)
