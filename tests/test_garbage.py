"""Generated and mutated data wherever the outside is read: each is counted or refused with a reason; nothing breaks.

The short form tries a thousand, `--hypothesis-profile long` a hundred thousand. Mutations start from
what a real run sent and wrote.
"""

import random
import shutil
from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

import msgpack
import psutil
import pytest
import zmq
from hypothesis import given
from hypothesis import strategies as st
from serial_runs import configuration

from common import checkpoint
from common.checkpoint import STATE
from common.config import Config
from common.errors import CheckpointError, WireError
from common.inbox import MAX_FRAMES, Inbox
from common.run_folder import RunFolder
from common.unroll import PROTOCOL, Unroll
from common.wire import Hello, pack, pack_unroll, unpack_incoming, unpack_status
from deploy.serial import Serial
from learner.service import unroll_spec

REPLAYED, GROWTH_BYTES = 500, 24 << 20


class Corpus(NamedTuple):
    """What a real run sent and wrote."""

    config: Config
    messages: list[list[bytes]]
    incarnation: str
    folder: RunFolder


@pytest.fixture(scope="module")
def corpus(redis_url: str, tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    config = configuration(tmp_path_factory.mktemp("corpus"), "corpus", "distiller.every=1")
    RunFolder.of(config.run).create(config)
    unrolls: list[Unroll] = []
    with Serial(config, redis_url, unrolls.extend) as serial:
        for _ in range(3):
            serial.update()
        serial.learner.report()
        serial.learner.save()
        incarnation = serial.actor.incarnation
    hello = Hello(protocol=PROTOCOL, kind="hello", run=config.run.name, actor="0", incarnation=incarnation)
    greetings = [hello.model_copy(update={"kind": kind}) for kind in ("hello", "leaving", "bye")]
    messages = [[bytes(frame) for frame in pack_unroll(unroll)] for unroll in unrolls[:8]]
    return Corpus(
        config, messages + [[pack(greeting)] for greeting in greetings], incarnation, RunFolder.of(config.run)
    )


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
    """How a message is made of one in the corpus, or of nothing."""
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


def made(recipe: dict[str, Any], corpus: Corpus, sequence: int) -> list[bytes]:
    """The message of a recipe; unrolls carry the number that the learner expects next."""
    if recipe["kind"] == "noise":
        return list(recipe["noise"])
    if recipe["kind"] == "map":
        return [bytes(msgpack.packb({"protocol": PROTOCOL, "kind": "unroll", "x": recipe["value"]}))]
    frames = list(corpus.messages[int(recipe["message"] * len(corpus.messages))])
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


class Counting(Inbox):
    """Counts the messages that it has handled, valid or not."""

    handled = 0

    def _take(self, incarnation: str, frames: list[zmq.Frame]) -> str:
        self.handled += 1
        return super()._take(incarnation, frames)


class Port:
    """A learner's real port, and a peer that sends anything to it under an actor's name."""

    def __init__(self, corpus: Corpus) -> None:
        config = corpus.config
        self.inbox = Counting("tcp://127.0.0.1:*", config.run.name, "learner-1", unroll_spec(config), 1000, {})
        self.incarnation = corpus.incarnation
        self.reasons: Counter[str] = Counter()

    def __enter__(self) -> "Port":
        self.inbox.__enter__()
        self._peer: zmq.Socket[bytes] = zmq.Context.instance().socket(zmq.DEALER)
        self._peer.setsockopt(zmq.IDENTITY, self.incarnation.encode())
        self._peer.setsockopt(zmq.LINGER, 0)
        self._peer.connect(f"tcp://127.0.0.1:{self.inbox.port}")
        return self

    def __exit__(self, *_: object) -> None:
        self._peer.close()
        self.inbox.close()

    @property
    def expected(self) -> int:
        """The number that an unroll must carry now."""
        peer = self.inbox.peers.get(self.incarnation)
        return 1 if peer is None else peer.received + 1

    def send(self, frames: list[bytes]) -> str:
        """Sends a message; returns the reason why the learner refused it, or an empty text."""
        before, inbox = dict(self.inbox.malformed), self.inbox
        until = inbox.handled + 1
        self._peer.send_multipart(frames)
        while inbox.handled < until:
            assert inbox.poll(timeout_s=60), "the learner no longer answers"
        while self._peer.poll(0):
            unpack_status(self._peer.recv())
        reasons = [reason for reason, n in inbox.malformed.items() if n > before.get(reason, 0)]
        while (arrival := inbox.take()) is not None:
            assert (arrival.unroll is None) is bool(arrival.reason)
            reasons += [arrival.reason] if arrival.reason else []
        assert len(reasons) <= 1, "counted once"
        assert inbox.peers.keys() <= {self.incarnation} and len(inbox.malformed) < 10
        self.reasons.update(reasons or ["accepted"])
        return "".join(reasons)


def test_the_learners_port_survives_whatever_it_gets(corpus: Corpus) -> None:
    """Real, mutated and made-up messages; then the same ones again, which must not take more memory."""
    kept: list[list[bytes]] = []
    draw = random.Random(1)

    with Port(corpus) as port:

        @given(recipes())
        def tried(recipe: dict[str, Any]) -> None:
            frames = made(recipe, corpus, port.expected)
            reason = port.send(frames)
            if reason not in ("frames", "bytes", "finite", "active", "action", "discount"):
                try:
                    unpack_incoming(frames[0])
                except WireError as error:
                    assert reason in (error.reason, "frames")
                else:
                    assert reason not in ("header", "protocol")
            if len(kept) < REPLAYED:
                kept.append(frames)
            elif draw.random() < 0.1:
                kept[draw.randrange(REPLAYED)] = frames

        tried()
        assert port.reasons.total() >= 1_000
        assert {"accepted", "header", "protocol", "frames", "bytes", "identity"} <= port.reasons.keys()
        replay(port, kept)
        before = psutil.Process().memory_info().rss
        for _ in range(4):
            replay(port, kept)
        assert psutil.Process().memory_info().rss - before < GROWTH_BYTES
        assert not port.send(
            made({"kind": "whole", "message": 0.0, "frame": 0.0, "edits": [], "moves": []}, corpus, port.expected)
        ), "a good unroll is still taken"


def replay(port: Port, messages: list[list[bytes]]) -> None:
    for frames in messages:
        port.send(frames)


def test_a_damaged_checkpoint_is_named_and_never_loaded_as_something_else(corpus: Corpus, tmp_path: Path) -> None:
    whole = checkpoint.newest(corpus.folder.checkpoints)
    assert whole is not None
    path = tmp_path / whole.path.name
    shutil.copytree(whole.path, path)
    files = {file.name: file.read_bytes() for file in sorted(path.iterdir())}
    assert STATE in files and "phi.safetensors" in files
    outcomes: Counter[str] = Counter()

    @given(SHARE, EDITS)
    def tried(which: float, edits: list[tuple[str, float, int, bytes]]) -> None:
        name = sorted(files)[int(which * len(files))]
        data = edited(files[name], edits)
        (path / name).write_bytes(data)
        try:
            found = checkpoint.load(path)
        except CheckpointError as error:
            assert str(path) in str(error) and len(str(error)) < 3000
            outcomes["refused"] += 1
        else:
            assert name == STATE or data == files[name], "damaged tensors do not match their digest"
            assert found.digests.keys() == whole.digests.keys() or name == STATE
            outcomes["read"] += 1
        (path / name).write_bytes(files[name])

    tried()
    assert outcomes["refused"] > outcomes["read"] > 0
    assert checkpoint.load(path).state == whole.state
