"""What the store writes to a real Redis reads back intact; damaged data is refused."""

import hashlib
import random
import threading
import time

import numpy as np
import pytest
import torch
from waiting import until

from common.config import Config
from common.errors import ConfigError, Stopped, StoreError
from common.settings import load_config
from common.store import Store, runs
from common.weights import Observations, Weights

PARAMETERS = {
    "dense.weight": torch.arange(24, dtype=torch.float32).reshape(2, 3, 4),
    "steps": torch.tensor([7], dtype=torch.int64),
    "empty": torch.zeros(2, 0),
    "turned": torch.arange(6.0).reshape(2, 3).T,
}


def test_weights_read_back_unchanged(store: Store) -> None:
    assert store.weights("theta") is None and store.version("theta") is None
    store.publish("theta", Weights(3, PARAMETERS, 3))
    store.publish_phi(Weights(8, PARAMETERS, 2, "reverse"), keep=1)
    weights = store.wait_for_weights("phi")
    assert (weights.version, weights.source_version, weights.direction) == (8, 2, "reverse")
    assert weights.parameters.keys() == PARAMETERS.keys()
    for name, x in PARAMETERS.items():
        assert weights.parameters[name].dtype == x.dtype and torch.equal(weights.parameters[name], x)
    assert (store.version("theta"), store.version("phi")) == (3, 8)


def test_only_the_newest_versions_of_phi_are_kept(store: Store) -> None:
    def published(version: int, keep: int) -> list[str]:
        x = {"x": torch.tensor([float(version)])}
        store.publish_phi(Weights(version, x, 0, "forward"), keep)
        kept = {name: store.weights(name) for name in store.phis()}
        for name, weights in kept.items():
            assert weights is not None and name == f"phi:{weights.version}" == f"phi:{weights.parameters['x'].item():g}"
        newest = store.weights("phi")
        assert newest is not None and newest.version == version
        stored = {key.decode().rpartition(":phi:")[2] for key in store.client.keys(store.key("phi:*"))}
        assert stored == {name.removeprefix("phi:") for name in kept}
        return list(kept)

    assert published(8, 3) == ["phi:8"]
    assert published(9, 3) == ["phi:8", "phi:9"]
    assert published(10, 3) == ["phi:8", "phi:9", "phi:10"]
    assert published(10, 3) == ["phi:8", "phi:9", "phi:10"], "publishing again changes nothing"
    assert published(11, 3) == ["phi:9", "phi:10", "phi:11"]
    assert published(12, 1) == ["phi:12"]


@pytest.mark.parametrize("damage", ["a bit", "the end", "digest", "missing"])
def test_damaged_weights_are_refused(store: Store, damage: str) -> None:
    store.publish("theta", Weights(1, PARAMETERS))
    key = store.key("theta")
    data = bytearray(store.client.hget(key, "bytes"))
    if damage == "missing":
        store.client.hdel(key, "digest")
    elif damage == "digest":
        store.client.hset(key, "digest", "0" * 64)
    else:
        data[-1] ^= 1
        store.client.hset(key, "bytes", bytes(data if damage == "a bit" else data[:-4]))
    with pytest.raises(StoreError, match=f"{key}: .*restart the learner"):
        store.weights("theta")


def test_readers_never_see_parts_of_two_versions(store: Store, redis_url: str) -> None:
    over = threading.Event()
    published = 0

    def publish() -> None:
        nonlocal published
        mine = Store(redis_url, store.run)
        while not over.is_set():
            published += 1
            parameters = {name: torch.full((500,), float(published)) for name in "abcdefgh"}
            mine.publish("theta", Weights(published, parameters, published))

    writer = threading.Thread(target=publish)
    writer.start()
    try:
        versions: list[int] = []
        while len(set(versions)) < 100:
            weights = store.wait_for_weights("theta")
            values = {float(v) for x in weights.parameters.values() for v in x}
            assert values == {weights.version} and weights.source_version == weights.version
            versions.append(weights.version)
    finally:
        over.set()
        writer.join()
    assert versions == sorted(versions)


def observations(update: int) -> Observations:
    rng = np.random.default_rng(update)
    return Observations(
        update,
        rng.integers(0, 256, (3, 2, 4, 5, 5, 3), dtype=np.uint8),
        rng.random((3, 2, 4, 6), np.float32),
        rng.integers(0, 4, (2, 4)),
        rng.random((3, 2, 4)) < 0.5,
    )


def test_the_two_newest_observations_are_kept(store: Store) -> None:
    assert store.observations(other_than=0) is None
    for update in (15, 30, 45, 60):
        store.put_observations(observations(update))
    found = store.observations(other_than=15)
    assert found is not None and found.update == 60
    for name, expected in vars(observations(60)).items():
        got = getattr(found, name)
        assert np.array_equal(got, expected)
        assert name == "update" or got.dtype == expected.dtype
    assert store.observations(other_than=60) is None
    assert store.client.xlen(store.key("observations")) == 2


def test_observations_without_images_or_features(store: Store) -> None:
    rgb, features = np.zeros((2, 1, 2, 0, 0, 3), np.uint8), np.zeros((2, 1, 2, 0), np.float32)
    empty = Observations(1, rgb, features, np.zeros((1, 2), np.int64), np.ones((2, 1, 2), np.bool_))
    store.put_observations(empty)
    found = store.observations(other_than=0)
    assert found is not None
    assert found.rgb.shape == (2, 1, 2, 0, 0, 3) and found.features.shape == (2, 1, 2, 0) and found.mask.all()


def test_a_worker_expires_unless_it_sends_heartbeats(store: Store, redis_url: str) -> None:
    store.put_worker("actor", "host:1", {"state": "playing", "pid": 7}, ttl_s=60)
    store.put_worker("actor", "2", {"state": "playing"}, ttl_s=0.2)
    Store(redis_url, store.run + "2").put_worker("actor", "3", {"state": "elsewhere"}, ttl_s=60)
    assert store.workers()[("actor", "host:1")] == {"state": "playing", "pid": "7"}
    until(lambda: ("actor", "2") not in store.workers())
    assert set(store.workers()) == {("actor", "host:1")}
    store.put_worker("actor", "2", {"state": "back"}, ttl_s=60)
    assert store.workers()[("actor", "2")] == {"state": "back"}
    assert 0 < store.client.pttl(store.key("worker:actor:2")) <= 60_000
    store.put_worker("actor", "2", {"incarnation": "successor"}, ttl_s=60)
    store.remove_worker("actor", "2", "2-1")
    assert store.workers()[("actor", "2")]["incarnation"] == "successor"
    store.remove_worker("actor", "2", "successor")
    assert set(store.workers()) == {("actor", "host:1")}


def test_streams_and_hashes_read_back(store: Store) -> None:
    for i in range(5):
        store.put_metrics({"updates": i, "return_learning": i / 3})
        store.put_event("actor", "0", "start", incarnation=f"0-{i}")
    entries = store.stream("metrics", count=3)
    assert [float(fields["updates"]) for _, fields in entries] == [2, 3, 4]
    assert float(entries[-1][1]["return_learning"]) == 4 / 3
    assert abs(entries[-1][0] - time.time()) < 3600
    assert store.stream("events", 1)[0][1] == {"role": "actor", "name": "0", "event": "start", "incarnation": "0-4"}
    store.put_queue({"unrolls": 3, "bottleneck": "nobody waits"})
    assert store.hash("queue") == {"unrolls": "3", "bottleneck": "nobody waits"}
    assert store.hash("progress") == {} and not store.finished
    store.put_progress({"state": "running"})
    assert not store.finished
    store.put_progress({"state": "finished"})
    assert store.finished


def test_streams_are_capped(store: Store) -> None:
    store = Store(store.url, store.run, stream_length=50)
    for i in range(600):
        store.put_metrics({"updates": i})
        store.put_event("learner", "learner", "checkpoint", updates=i)
    # Redis cuts whole nodes of its radix tree, of 100 entries each.
    assert store.client.xlen(store.key("metrics")) <= 200
    assert store.client.xlen(store.key("events")) <= 200


def test_starts_are_counted_by_role_and_name(store: Store) -> None:
    counts = [store.count_start("actor", "0"), store.count_start("actor", "0"), store.count_start("actor", "1")]
    assert counts == [0, 1, 0] and store.count_start("learner", "0") == 0


def test_the_configuration_reaches_a_role_that_waits_for_it(store: Store, redis_url: str) -> None:
    config = load_config(overrides=["learner.epochs=7", "environment.substrate=matrix_chicken"])
    found: list[Config] = []
    waiter = threading.Thread(target=lambda: found.append(Store(redis_url, store.run).config(timeout_s=30)))
    waiter.start()
    time.sleep(0.2)
    assert not found
    store.put_config(config)
    waiter.join()
    assert found == [config]
    assert store.run in runs(store.client)


def test_a_wait_that_times_out_says_what_is_missing(store: Store) -> None:
    for wait, what, role in (
        (lambda: store.config(timeout_s=0.2), "config", "learner"),
        (lambda: store.wait_for_endpoint(timeout_s=0.2), "endpoint", "learner"),
        (lambda: store.wait_for_weights("phi", timeout_s=0.2), "phi", "distiller"),
    ):
        with pytest.raises(StoreError) as caught:
            wait()
        message = str(caught.value)
        assert f"no {what} of run {store.run!r} in Redis at {store.url}" in message
        assert f"is its {role} running?" in message
    store.put_endpoint("tcp://x:1")
    assert store.wait_for_endpoint() == store.endpoint() == "tcp://x:1"


def test_a_wait_ends_when_the_role_should_stop(store: Store, redis_url: str) -> None:
    stopping = threading.Event()
    errors: list[str] = []

    def wait() -> None:
        try:
            Store(redis_url, store.run, stopping).config(timeout_s=3600)
        except Stopped as error:
            errors.append(str(error))

    waiter = threading.Thread(target=wait)
    waiter.start()
    stopping.set()
    waiter.join(timeout=30)
    assert errors == [f"stopped while waiting for config of run {store.run!r}"] and not waiter.is_alive()


def test_a_finished_run_is_over_unless_a_learner_resumes_it(store: Store) -> None:
    assert not store.over(patience_s=0)
    store.put_progress({"state": "finished"})
    assert store.over(patience_s=0)
    resumed = threading.Timer(1.0, store.put_progress, [{"state": "running"}])
    resumed.start()
    assert not store.over(patience_s=60)
    resumed.join()


def test_starvation_expires(store: Store) -> None:
    store.put_starvation(23.31)
    assert store.client.get(store.key("starvation")) == b"23.3"
    assert 0 < store.client.ttl(store.key("starvation")) <= 120


VALUES = [b"", b"\x00", b"{", b"[]", b"null", b"-1", b"1e9", b"\xff" * 64, b"9" * 5000, b"[" * 100_000, b'{"run": 3}']


@pytest.mark.parametrize("seed", range(3))
def test_nothing_that_redis_holds_breaks_a_reader(store: Store, seed: int) -> None:
    """Mutated and made-up data is refused with an error that names its key, or read as what it says."""
    rng = random.Random(seed)
    store.put_config(load_config(environ={}))
    store.publish("theta", Weights(3, PARAMETERS))
    rgb, features = np.zeros((2, 1, 1, 2, 2, 3), np.uint8), np.zeros((2, 1, 1, 3), np.float32)
    store.put_observations(Observations(1, rgb, features, np.zeros((1, 1), np.int64), np.ones((2, 1, 1), bool)))
    whole = {name: store.client.hgetall(store.key(name)) for name in ("theta",)}
    config = store.client.get(store.key("config"))
    entry = store.client.xrevrange(store.key("observations"), count=1)[0][1]
    refused = 0
    for _ in range(300):
        theta, observed = dict(whole["theta"]), dict(entry)
        for fields in (theta, observed):
            name = rng.choice(list(fields))
            fields[name] = mutated(fields[name], rng)
        if rng.random() < 0.7:  # a forger fits the digest
            theta[b"digest"] = hashlib.sha256(theta[b"bytes"]).hexdigest().encode()
        store.client.hset(store.key("theta"), mapping=theta)
        store.client.set(store.key("config"), mutated(config, rng))
        store.client.xadd(store.key("observations"), observed, maxlen=2)
        for read in (lambda: store.weights("theta"), lambda: store.version("theta"), lambda: store.config(0.0)):
            try:
                read()
            except (StoreError, ConfigError) as error:
                refused += 1
                assert len(str(error)) < 2000
        store.observations(other_than=-1)
    assert refused > 300


def mutated(data: bytes, rng: random.Random) -> bytes:
    """Data with a few bytes changed, cut, doubled, or something else altogether."""
    kind = rng.randrange(4)
    if kind == 0:
        return rng.choice(VALUES)
    if kind == 1:
        return data[: rng.randrange(len(data) + 1)]
    changed = bytearray(data * (2 if kind == 2 else 1))
    for _ in range(rng.randrange(1, 4)):
        if changed:
            changed[rng.randrange(len(changed))] = rng.randrange(256)
    return bytes(changed)
