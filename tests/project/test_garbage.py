"""Generated and mutated data wherever the outside is read: each is counted or refused with a reason; nothing breaks.

The short form tries a thousand, of Redis' values two hundred, because each is read in many ways; `--hypothesis-profile
long` tries a hundred thousand of each. Mutations start from what a real run sent and wrote.
"""

import json
import random
import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import psutil
import pytest
import zmq
from counting_inbox import CountingInbox
from hypothesis import given, settings
from hypothesis import strategies as st
from mutations import EDITS, JUNK, SHARE, edited, made, recipes
from serial_runs import configuration

from common import checkpoint
from common.checkpoint import STATE
from common.config import Config
from common.errors import BidistError, CheckpointError, WireError
from common.run_folder import RunFolder
from common.store import Store
from common.unroll import PROTOCOL, Unroll
from common.wire import Hello, pack, pack_unroll, unpack_incoming, unpack_status
from deploy import views
from deploy.serial import Serial
from learner.service import unroll_spec

# A second for each example: the long form takes longer than a test may.
pytestmark = pytest.mark.timeout(settings().max_examples)

REPLAYED, GROWTH_BYTES = 500, 24 << 20
REDIS_EXAMPLES = settings().max_examples if settings().max_examples > 1_000 else 200


class Corpus(NamedTuple):
    """What a real run sent and wrote."""

    config: Config
    messages: list[list[bytes]]
    redis: dict[str, bytes]
    """Redis' own dump of each of the run's keys, by its name without the prefix."""
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
        store, incarnation = serial.store, serial.actor.incarnation
        keys = {key.decode(): store.client.dump(key) for key in store.client.scan_iter(match=store.key("*"))}
    hello = Hello(protocol=PROTOCOL, kind="hello", run=config.run.name, actor="0", incarnation=incarnation)
    greetings = [hello.model_copy(update={"kind": kind}) for kind in ("hello", "leaving", "bye")]
    messages = [[bytes(frame) for frame in pack_unroll(unroll)] for unroll in unrolls[:8]]
    redis = {name.removeprefix(store.key("")): data for name, data in keys.items() if data is not None}
    return Corpus(
        config, messages + [[pack(greeting)] for greeting in greetings], redis, incarnation, RunFolder.of(config.run)
    )


class Port:
    """A learner's real port, and a peer that sends anything to it under an actor's name."""

    def __init__(self, corpus: Corpus) -> None:
        config = corpus.config
        self.inbox = CountingInbox("tcp://127.0.0.1:*", config.run.name, "learner-1", unroll_spec(config), 1000, {})
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


@pytest.mark.slow
def test_the_learners_port_survives_whatever_it_gets(corpus: Corpus) -> None:
    """Real, mutated and made-up messages; then the same ones again, which must not take more memory."""
    kept: list[list[bytes]] = []
    draw = random.Random(1)

    with Port(corpus) as port:

        @given(recipes())
        def tried(recipe: dict[str, Any]) -> None:
            frames = made(recipe, corpus.messages, port.expected)
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
        assert {"accepted", "header", "protocol", "frames", "bytes"} <= port.reasons.keys()
        replay(port, kept)
        before = psutil.Process().memory_info().rss
        for _ in range(4):
            replay(port, kept)
        assert psutil.Process().memory_info().rss - before < GROWTH_BYTES
        assert not port.send(
            made(
                {"kind": "whole", "message": 0.0, "frame": 0.0, "edits": [], "moves": []},
                corpus.messages,
                port.expected,
            )
        ), "a good unroll is still taken"


def replay(port: Port, messages: list[list[bytes]]) -> None:
    for frames in messages:
        port.send(frames)


def readers(store: Store) -> Iterator[Callable[[], object]]:
    """Everything that roles and people read of a run."""
    yield from (lambda name=name: store.weights(name) for name in ("theta", "phi"))
    yield from (lambda name=name: store.version(name) for name in ("theta", "phi"))
    yield from (lambda name=name: store.hash(name) for name in ("queue", "progress"))
    yield from (lambda name=name: store.stream(name, 10) for name in ("metrics", "events"))
    yield from (store.phis, store.pool, store.workers, store.endpoint, lambda: store.finished)
    yield from (store.ledger.balance, store.ledger.incarnations)
    yield from (lambda: store.config(0.0), lambda: store.observations(-1))
    yield lambda: views.plain(views.snapshot(store))
    yield lambda: views.render(views.snapshot(store))


@pytest.mark.slow
def test_whatever_redis_holds_is_read_or_refused_by_name(corpus: Corpus, redis_url: str) -> None:
    store = Store(redis_url, "garbage")
    names = sorted(corpus.redis)
    refused: Counter[str] = Counter()

    @settings(max_examples=REDIS_EXAMPLES)
    @given(SHARE, SHARE, EDITS, st.none() | JUNK)
    def tried(which: float, part: float, edits: list[tuple[str, float, int, bytes]], value: Any) -> None:
        name = names[int(which * len(names))]
        for other in names:
            if other == name or not store.client.exists(store.key(other)):
                store.client.restore(store.key(other), 0, corpus.redis[other], replace=True)
        damage(store, name, part, lambda data: edited(data, edits) if value is None else json_of(value))
        for read in readers(store):
            try:
                read()
            except BidistError as error:
                refused[name] += 1
                assert len(str(error)) < 3000 and len(str(error).splitlines()) == 1
        store.client.restore(store.key(name), 0, corpus.redis[name], replace=True)

    tried()
    assert "config" in refused and refused.keys() & {"ledger", "sequences"}, refused
    store.client.delete(*store.client.keys(store.key("*")))


def json_of(value: Any) -> bytes:
    return json.dumps(value, default=repr).encode()


def damage(store: Store, name: str, part: float, change: Callable[[bytes], bytes]) -> None:
    """Changes one value of a key, whatever its type."""
    client, key = store.client, store.key(name)
    kind = client.type(key).decode()
    if kind == "string":
        client.set(key, change(client.get(key)))
    elif kind == "hash":
        fields = client.hgetall(key)
        field = sorted(fields)[int(part * len(fields))]
        client.hset(key, field, change(fields[field]))
    elif kind == "stream":
        fields = client.xrevrange(key, count=1)[0][1]
        field = sorted(fields)[int(part * len(fields))]
        client.xadd(key, {**fields, field: change(fields[field])})
    elif kind == "zset":
        client.zadd(key, {change(client.zrange(key, 0, 0)[0]): 1.0})


@pytest.mark.slow
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
            assert found.state == whole.state and found.digests == whole.digests
            outcomes["read"] += 1
        (path / name).write_bytes(files[name])

    tried()
    assert outcomes["refused"] > outcomes["read"] > 0
    assert checkpoint.load(path).state == whole.state
