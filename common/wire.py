"""Bytes of the messages between actors and learner.

A message is a list of frames. Frame 0 is a msgpack map with a `kind`; an unroll's arrays follow as raw bytes, one
frame each, not copied on the way. Nothing here ever unpickles.

    actor   -> learner   unroll   see `common.unroll.UnrollHeader`, then its arrays
    actor   -> learner   hello    "where do we stand?"; sent on joining and while waiting
    actor   -> learner   leaving  as hello, from an actor that plays no more and hands over what it has
    actor   -> learner   bye      nothing more will come from this incarnation
    learner -> actor     status   where the actor stands, see `Status`
"""

from collections.abc import Sequence
from typing import Annotated, Any, Literal

import msgpack
import numpy as np
import zmq
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from common.errors import WireError
from common.unroll import ARRAYS, PROTOCOL, Count, Name, Unroll, UnrollHeader, UnrollSpec

MAX_HEADER_BYTES = 1 << 16


class Hello(BaseModel):
    """An actor asks where it stands."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    protocol: int
    kind: Literal["hello", "leaving", "bye"]
    run: Name
    actor: Name
    incarnation: Name


class Status(BaseModel):
    """The learner tells an actor where it stands.

    All numbers are the actor's own sequence numbers. What is accounted can be forgotten; what is received but not
    accounted has to be kept, for a learner that dies takes it along; nothing past `limit` may be sent.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    protocol: int
    kind: Literal["status"] = "status"
    learner: Name
    """One life of the learner."""
    received: Count
    accounted: Count
    limit: Count
    finished: bool
    """The run has all it wanted: stop."""


_INCOMING: TypeAdapter[UnrollHeader | Hello] = TypeAdapter(Annotated[UnrollHeader | Hello, Field(discriminator="kind")])


def pack(message: BaseModel) -> bytes:
    """Frame 0 of a message."""
    return bytes(msgpack.packb(message.model_dump()))


def pack_unroll(unroll: Unroll) -> list[Any]:
    """Frames of an unroll; the arrays must be C-contiguous and are not copied."""
    return [pack(unroll.header), *(getattr(unroll, name).data for name in ARRAYS)]


def unpack_incoming(frame: bytes) -> UnrollHeader | Hello:
    """Reads frame 0 of a message from an actor.

    Raises:
      WireError: with reason `header` or `protocol`.
    """
    header = _unpack(frame)
    try:
        return _INCOMING.validate_python(header, strict=False)
    except ValidationError as error:
        raise WireError("header", _first(error)) from None


def unpack_status(frame: bytes) -> Status:
    """Reads the learner's answer.

    Raises:
      WireError: with reason `header` or `protocol`.
    """
    try:
        return Status.model_validate(_unpack(frame))
    except ValidationError as error:
        raise WireError("header", _first(error)) from None


def unpack_unroll(header: UnrollHeader, frames: Sequence[zmq.Frame], spec: UnrollSpec) -> Unroll:
    """Checks an unroll's arrays against the run's bounds and wraps them, without copying.

    Raises:
      WireError: with the reason it is to be counted under.
    """
    spec.check_header(header)
    if len(frames) != len(header.arrays):
        raise WireError("frames", f"{len(frames)} array frames, the header names {len(header.arrays)}")
    arrays = {}
    for (name, dtype, shape), frame in zip(header.arrays, frames, strict=True):
        size = int(np.prod(shape)) * np.dtype(dtype).itemsize
        if len(frame.buffer) != size:
            raise WireError("bytes", f"{name}: {len(frame.buffer)} bytes, expected {size}")
        arrays[name] = np.frombuffer(frame.buffer, dtype=dtype).reshape(shape)
    unroll = Unroll(header, **arrays)
    spec.check_values(unroll)
    return unroll


def _unpack(frame: bytes) -> dict[str, Any]:
    if len(frame) > MAX_HEADER_BYTES:
        raise WireError("header", f"{len(frame)} bytes, at most {MAX_HEADER_BYTES} are read")
    try:
        header = msgpack.unpackb(frame, use_list=False)
    except Exception as error:  # msgpack raises half a dozen kinds for bytes that are not its own
        raise WireError("header", f"not msgpack: {type(error).__name__}") from None
    if not isinstance(header, dict):
        raise WireError("header", f"expected a map, found {type(header).__name__}")
    if header.get("protocol") != PROTOCOL:
        raise WireError("protocol", f"protocol {header.get('protocol')!r}, this is {PROTOCOL}")
    return header


def _first(error: ValidationError) -> str:
    first = error.errors()[0]
    return f"{'.'.join(map(str, first['loc']))}: {first['msg']}"
