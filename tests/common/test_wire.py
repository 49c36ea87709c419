"""Messages arrive unchanged or raise a `WireError` with its reason; nothing else ever happens."""

import random
from collections import Counter
from collections.abc import Iterator
from typing import Any

import msgpack
import numpy as np
import pytest
import zmq
from counting_inbox import CountingInbox
from messages import GOOD, HELLO, filled, frames_of, fuzzed, header_of, table, with_bytes, with_header
from unrolls import BLIND, RUN, SPEC, make_unroll

from common.errors import WireError
from common.inbox import MAX_FRAMES
from common.unroll import ARRAYS, PROTOCOL, EpisodeSummary, Unroll, UnrollHeader, UnrollSpec
from common.wire import (
    MAX_HEADER_BYTES,
    Status,
    pack,
    pack_unroll,
    unpack_incoming,
    unpack_status,
    unpack_unroll,
)


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
        until = self.inbox.handled + len(messages) + 1
        for frames in messages:
            self.dealer.send_multipart(frames)
        self.dealer.send(pack(HELLO))
        while self.inbox.handled < until:
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
