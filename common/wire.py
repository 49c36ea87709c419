"""The bytes of messages between actors and learner.

A message is a list of frames. Frame 0 is a msgpack map with a `kind`; an unroll's arrays follow as raw bytes, one frame
each, without copying. Nothing is ever unpickled.

    actor   -> learner   unroll   see `common.unroll.UnrollHeader`, then its arrays
    actor   -> learner   hello    asks for a status; sent on joining and while waiting
    actor   -> learner   leaving  a hello from an actor that has stopped playing and sends its remaining unrolls
    actor   -> learner   bye      nothing more will come from this incarnation
    learner -> actor     status   see `Status`
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
    """An actor asks for its status."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    protocol: int
    kind: Literal["hello", "leaving", "bye"]
    run: Name
    actor: Name
    incarnation: Name


class Status(BaseModel):
    """The learner's reply to an actor.

    All numbers are the actor's own sequence numbers. It can forget unrolls that are accounted for, must keep those that
    are only received, because they are lost if the learner dies, and may not send beyond `limit`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    protocol: int
    kind: Literal["status"] = "status"
    learner: Name
    """The learner's incarnation."""
    received: Count
    accounted: Count
    limit: Count
    finished: bool
    """Whether the run's budget is used up, so that the actor should stop."""
    refused: bool = False
    """Whether the actor's key has been withdrawn: nothing that it sends is taken any more."""
    closed: bool = False
    """Whether the ledger has closed the actor's incarnation: what it had in flight counts as lost."""


_INCOMING: TypeAdapter[UnrollHeader | Hello] = TypeAdapter(Annotated[UnrollHeader | Hello, Field(discriminator="kind")])


def pack(message: BaseModel) -> bytes:
    """Returns frame 0 of a message."""
    return bytes(msgpack.packb(message.model_dump()))


def pack_unroll(unroll: Unroll) -> list[Any]:
    """Returns an unroll's frames; its arrays must be C-contiguous and are not copied."""
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
    """Reads the learner's reply.

    Raises:
      WireError: with reason `header` or `protocol`.
    """
    try:
        return Status.model_validate(_unpack(frame))
    except ValidationError as error:
        raise WireError("header", _first(error)) from None


def unpack_unroll(header: UnrollHeader, frames: Sequence[zmq.Frame], spec: UnrollSpec) -> Unroll:
    """Checks an unroll's arrays against the run's spec and wraps them without copying.

    Raises:
      WireError: with the reason to count it under.
    """
    spec.check_header(header)
    if len(frames) != len(header.arrays):
        raise WireError("frames", f"{len(frames)} array frames, but the header names {len(header.arrays)}")
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
        raise WireError("header", f"{len(frame)} bytes, expected at most {MAX_HEADER_BYTES}")
    try:
        header = msgpack.unpackb(frame, use_list=False)
    except Exception as error:  # msgpack raises many different types for malformed bytes
        raise WireError("header", f"not msgpack: {type(error).__name__}") from None
    if not isinstance(header, dict):
        raise WireError("header", f"expected a map, found {type(header).__name__}")
    if header.get("protocol") != PROTOCOL:
        raise WireError("protocol", f"protocol {header.get('protocol')!r}, expected {PROTOCOL}")
    return header


def _first(error: ValidationError) -> str:
    first = error.errors()[0]
    return f"{'.'.join(map(str, first['loc']))}: {first['msg']}"
