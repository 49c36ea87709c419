"""Data never becomes code: canaries at each input stay silent."""

import json
import pickle
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgpack
import numpy as np
import pytest
import torch
import zmq
from unrolls import RUN, SPEC, make_unroll

from cli.main import main
from common import checkpoint
from common.config import Config, EnvironmentConfig, MethodConfig
from common.errors import CheckpointError, ConfigError, StoreError
from common.inbox import Inbox
from common.settings import load_config
from common.store import Store
from common.tensors import MAX_HEADER_BYTES, pack, unpack
from common.wire import pack_unroll
from deploy import views


class Canary:
    """Writes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return Path.touch, (self.path,)


@pytest.fixture
def canary(tmp_path: Path) -> Path:
    return tmp_path / "sang"


@pytest.fixture
def pickled(canary: Path) -> bytes:
    pickle.loads(pickle.dumps(Canary(canary)))
    assert canary.exists(), "the canary cannot sing"
    canary.unlink()
    return pickle.dumps(Canary(canary))


def test_the_learners_port_does_not_unpickle(pickled: bytes, canary: Path) -> None:
    unroll = pack_unroll(make_unroll())
    messages = [[pickled], [msgpack.packb({"kind": "hello", "run": pickled})], [unroll[0], *[pickled] * 8]]
    messages += [[msgpack.packb(msgpack.ExtType(1, pickled))]]
    with Inbox("tcp://127.0.0.1:*", RUN, "learner-1", SPEC, 4, {}) as inbox:
        dealer: zmq.Socket[bytes] = zmq.Context.instance().socket(zmq.DEALER)
        dealer.setsockopt(zmq.IDENTITY, b"a-1")
        dealer.connect(f"tcp://127.0.0.1:{inbox.port}")
        for message in messages:
            dealer.send_multipart(message)
        while sum(inbox.malformed.values()) < 3 or not inbox.arrivals:
            assert inbox.poll(30)
        dealer.close(linger=0)
    assert inbox.malformed == {"header": 2, "protocol": 1} and inbox.arrivals[0].reason == "bytes"
    assert not canary.exists()


def readings(store: Store) -> dict[str, tuple[str, Callable[[], object]]]:
    """Where each key of Redis is read."""
    return {
        "config": ("string", lambda: store.config(timeout_s=1)),
        "theta": ("hash", lambda: store.weights("theta")),
        "pool:1": ("hash", lambda: store.weights("pool:1")),
        "observations": ("stream", lambda: store.observations(other_than=-1)),
    }


@pytest.mark.parametrize("key", ["config", "theta", "pool:1", "observations"])
def test_redis_does_not_unpickle(store: Store, key: str, pickled: bytes, canary: Path) -> None:
    import hashlib

    kind, read = readings(store)[key]
    hashed = {"version": 1, "source_version": 1, "direction": "", "digest": hashlib.sha256(pickled).hexdigest()}
    if kind == "string":
        store.client.set(store.key(key), pickled)
    elif kind == "hash":
        store.client.hset(store.key(key), mapping={**hashed, "bytes": pickled})
    else:
        table = msgpack.packb({name: ("|O", (1,)) for name in ("rgb", "features", "policy", "mask")})
        arrays = dict.fromkeys(("rgb", "features", "policy", "mask"), pickled)
        store.client.xadd(store.key(key), {"update": 1, "table": table, **arrays})
    if kind == "stream":
        assert read() is None
    else:
        with pytest.raises(StoreError, match=r"damaged: .*; restart the learner to repair it"):
            read()
    assert not canary.exists()


@pytest.mark.parametrize("file", ["theta.safetensors", checkpoint.STATE])
def test_checkpoints_do_not_unpickle(tmp_path: Path, file: str, pickled: bytes, canary: Path) -> None:
    import hashlib

    path = checkpoint.save(tmp_path / "saved", 1, {"theta": {"w": torch.zeros(2)}}, {}, keep=None)
    (path / file).write_bytes(pickled)
    if file != checkpoint.STATE:
        record = json.loads((path / checkpoint.STATE).read_text())
        record["digests"]["theta"] = hashlib.sha256(pickled).hexdigest()
        (path / checkpoint.STATE).write_text(json.dumps(record))
    with pytest.raises(CheckpointError, match="00000001: incomplete or damaged"):
        checkpoint.load(path)
    assert not canary.exists()


def test_settings_do_not_run_code(tmp_path: Path, canary: Path) -> None:
    evil = f"!!python/object/apply:os.system ['touch {canary}']"
    preset = tmp_path / "evil.yaml"
    preset.write_text(f"learner: {evil}\n")
    with pytest.raises(ConfigError):
        load_config(preset=str(preset))
    for source in ({"overrides": [f"learner.epochs={evil}"]}, {"environ": {"BIDIST_LEARNER__EPOCHS": evil}}):
        with pytest.raises(ConfigError):
            load_config(**source)
    assert not canary.exists()


# Code that a configuration names.


@pytest.fixture
def named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, canary: Path) -> dict[str, Config]:
    """Configurations that would import a module that sings."""
    (tmp_path / "stranger.py").write_text(f"import pathlib\npathlib.Path({str(canary)!r}).touch()\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "stranger", raising=False)
    game = EnvironmentConfig(substrate="matrix_coordination")
    return {
        "stranger:Method": Config(method=MethodConfig(name="stranger:Method"), environment=game),
        "pettingzoo:stranger:game": Config(environment=EnvironmentConfig(substrate="pettingzoo:stranger:game")),
    }


@pytest.mark.parametrize("name", ["stranger:Method", "pettingzoo:stranger:game"])
@pytest.mark.parametrize("role", ["actor", "distiller"])
def test_a_role_runs_no_code_that_only_redis_names(
    redis_url: str, named: dict[str, Config], canary: Path, name: str, role: str, capsys: pytest.CaptureFixture[str]
) -> None:
    store = Store(redis_url, f"stranger-{role}-{len(name)}")
    store.put_config(named[name])
    assert main([role, "--redis", redis_url, "--run", store.run]) == ConfigError.status
    assert f"if you trust it, add --allow {name}" in capsys.readouterr().err
    assert not canary.exists()
    # Allowed, it is imported, and found to hold neither a method nor a game.
    store.put_endpoint("tcp://127.0.0.1:1")
    assert main([role, "--redis", redis_url, "--run", store.run, "--allow", name]) == ConfigError.status
    assert canary.exists(), "the test could not fail"


@pytest.mark.parametrize("name", ["stranger:Method", "pettingzoo:stranger:game"])
def test_looking_at_a_run_imports_nothing(store: Store, named: dict[str, Config], canary: Path, name: str) -> None:
    store.put_config(named[name])
    store.put_progress({"state": "running"})
    snapshot = views.snapshot(store)
    assert snapshot.missing() == ["learner", "actor"] and views.plain(snapshot)
    assert not canary.exists()


# Bombs.


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xff" * 8,
        (2**62).to_bytes(8, "little") + b"{}",
        (MAX_HEADER_BYTES + 1).to_bytes(8, "little") + b" " * (MAX_HEADER_BYTES + 1),
        (64).to_bytes(8, "little") + b'{"a":{"dtype":"F32","shape":[1099511627776],"data_offsets":[0,4]}}',
        (66).to_bytes(8, "little") + b'{"a":{"dtype":"F32","shape":[1099511627776],"data_offsets":[0,4]}}' + b"abcd",
        (2).to_bytes(8, "little") + b"[]",
    ],
    ids=["empty", "a huge header", "a header beyond the end", "a long header", "cut", "a huge tensor", "a list"],
)
def test_a_bomb_of_tensors_is_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match="expected safetensors|not safetensors"):
        unpack(data)
    packed = pack({"w": torch.ones(3)})
    assert torch.equal(unpack(packed)["w"], torch.ones(3))


def test_observations_that_claim_more_than_they_hold_are_skipped(store: Store) -> None:
    shapes: dict[str, Any] = {
        name: (dtype, (2**40, 2**40)) for name, dtype in zip(("rgb", "mask"), ("|u1", "|b1"), strict=True)
    }
    shapes |= {"features": ("<f4", (0,)), "policy": ("<i8", (0,))}
    arrays = dict.fromkeys(("rgb", "features", "policy", "mask"), b"x")
    store.client.xadd(store.key("observations"), {"update": 1, "table": msgpack.packb(shapes), **arrays})
    assert store.observations(other_than=-1) is None


def test_a_checkpoint_of_absurd_size_is_not_read(tmp_path: Path) -> None:
    path = checkpoint.save(tmp_path, 1, {"theta": {"w": torch.zeros(2)}}, {}, keep=None)
    with (path / "theta.safetensors").open("r+b") as file:
        file.truncate(checkpoint.MAX_FILE_BYTES + 1)  # sparse: it takes no space
    with pytest.raises(CheckpointError, match="expected at most"):
        checkpoint.load(path)


def test_no_frame_larger_than_an_unrolls_largest_array_is_received() -> None:
    """libzmq breaks the connection before it allocates the frame."""
    with Inbox("tcp://127.0.0.1:*", RUN, "learner-1", SPEC, 4, {}) as inbox:
        assert max(np.asarray(frame).nbytes for frame in pack_unroll(make_unroll())[1:]) == SPEC.largest_bytes
        dealer: zmq.Socket[bytes] = zmq.Context.instance().socket(zmq.DEALER)
        dealer.setsockopt(zmq.LINGER, 0)
        gone = dealer.get_monitor_socket(zmq.EVENT_DISCONNECTED)
        dealer.connect(f"tcp://127.0.0.1:{inbox.port}")
        dealer.send(bytes(1 << 20))
        while not gone.poll(0):
            inbox.poll(0.05)
        dealer.disable_monitor()
        gone.close()
        dealer.close()
    assert not inbox.malformed and not inbox.peers
