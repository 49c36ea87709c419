"""Messages of the tests: valid ones, ones with a defect, and random ones."""

import random
from collections.abc import Callable
from typing import Any

import msgpack
import zmq
from unrolls import RUN, make_unroll

from common.unroll import ARRAYS, PROTOCOL, Unroll
from common.wire import (
    Hello,
    pack_unroll,
)

HELLO = Hello(protocol=PROTOCOL, kind="hello", run=RUN, actor="a", incarnation="a-1")


def frames_of(frames: list[Any]) -> list[zmq.Frame]:
    return [zmq.Frame(bytes(frame)) for frame in frames]


def header_of(unroll: Unroll, **changes: Any) -> bytes:
    """Frame 0 of an unroll with some fields replaced, or omitted where the value is `...`."""
    fields = unroll.header.model_dump() | changes
    return bytes(msgpack.packb({k: v for k, v in fields.items() if v is not ...}))


GOOD = make_unroll()


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
