"""How the tests turn valid messages and bytes into invalid ones."""

from typing import Any

import msgpack
from hypothesis import strategies as st

from common.inbox import MAX_FRAMES
from common.unroll import PROTOCOL

# What is done to bytes and to frames. Places are shares of a length, so that they fit whatever they are applied to.
SHARE = st.floats(0, 1, exclude_max=True)
JUNK = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats()
    | st.text(max_size=20)
    | st.binary(max_size=20),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(max_size=12), inner, max_size=5),
    max_leaves=12,
)
EDITS = st.lists(
    st.tuples(st.sampled_from(["flip", "cut", "grow", "splice"]), SHARE, st.integers(0, 7), st.binary(max_size=40)),
    min_size=1,
    max_size=4,
)
MOVES = st.lists(st.tuples(st.sampled_from(["drop", "double", "swap"]), SHARE, SHARE), max_size=2)


def edited(data: bytes, edits: list[tuple[str, float, int, bytes]]) -> bytes:
    """Bytes with bits flipped, the end cut, or something added or written over them."""
    for kind, share, bit, extra in edits:
        at = int(share * len(data))
        if kind == "flip" and data:
            data = data[:at] + bytes([data[at] ^ 1 << bit]) + data[at + 1 :]
        elif kind == "cut":
            data = data[:at]
        elif kind == "grow":
            data = data[:at] + extra + data[at:]
        elif kind == "splice":
            data = data[:at] + extra + data[at + len(extra) :]
    return data


@st.composite
def recipes(draw: st.DrawFn) -> dict[str, Any]:
    """How a message is made of a valid one, or of nothing."""
    kind = draw(st.sampled_from(["edit", "field", "frames", "noise", "map"]))
    return {
        "kind": kind,
        "message": draw(SHARE),
        "frame": draw(SHARE),
        "edits": draw(EDITS) if kind in ("edit", "frames") else [],
        "moves": draw(MOVES) if kind == "frames" else [],
        "value": draw(JUNK) if kind in ("field", "map") else None,
        "noise": draw(st.lists(st.binary(max_size=60), min_size=1, max_size=MAX_FRAMES + 2)) if kind == "noise" else [],
    }


def made(recipe: dict[str, Any], messages: list[list[bytes]], sequence: int) -> list[bytes]:
    """The message of a recipe; unrolls carry the number that the learner expects next."""
    if recipe["kind"] == "noise":
        return list(recipe["noise"])
    if recipe["kind"] == "map":
        return [bytes(msgpack.packb({"protocol": PROTOCOL, "kind": "unroll", "x": recipe["value"]}))]
    frames = list(messages[int(recipe["message"] * len(messages))])
    header = msgpack.unpackb(frames[0])
    if "sequence" in header:
        header["sequence"] = sequence
    if recipe["kind"] == "field":
        header[list(header)[int(recipe["frame"] * len(header))]] = recipe["value"]
    frames[0] = bytes(msgpack.packb(header))
    for kind, one, other in recipe["moves"]:
        i, j = int(one * len(frames)), int(other * len(frames))
        if kind == "drop" and len(frames) > 1:
            del frames[i]
        elif kind == "double":
            frames.insert(j, frames[i])
        else:
            frames[i], frames[j] = frames[j], frames[i]
    at = int(recipe["frame"] * len(frames))
    frames[at] = edited(frames[at], recipe["edits"])
    return frames
