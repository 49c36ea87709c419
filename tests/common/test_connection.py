"""The connection survives the death of Redis, waits for one that refuses writes, and hides passwords."""

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from common.connection import connect, shown, with_password
from common.errors import SetupError, StoreError
from common.store import Store
from common.weights import Weights
from deploy.redis_server import RedisServer

PARAMETERS = {"dense.weight": torch.arange(24, dtype=torch.float32).reshape(2, 3, 4)}


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RedisServer]:
    """A server for one test, which may kill it."""
    server = RedisServer(tmp_path / "redis")
    server.start()
    yield server
    server.stop()


def kill(server: RedisServer) -> None:
    assert server.pid is not None
    os.kill(server.pid, signal.SIGKILL)
    while server.poll() is None:
        time.sleep(0.01)


@pytest.mark.parametrize("url", ["localhost:6379", "http://localhost", "", "redis://localhost:port/0"])
def test_an_invalid_url_is_refused(url: str) -> None:
    with pytest.raises(StoreError, match="is not a Redis URL"):
        connect(url)


@pytest.mark.slow
@pytest.mark.parametrize("away_s", [0.0, 1.5])
def test_every_role_survives_the_death_of_redis(server: RedisServer, away_s: float) -> None:
    # All roles write and read throughout; the server is killed with SIGKILL twice and comes back with its file.
    over = threading.Event()
    errors: list[BaseException] = []
    counts = {"published": 0, "produced": 0, "read": 0}

    def keep(name: str) -> None:
        mine = Store(server.url, "r")
        try:
            while not over.is_set():
                counts[name] += 1
                if name == "published":
                    mine.publish("theta", Weights(counts[name], PARAMETERS))
                elif name == "produced":
                    mine.ledger.produced("a-1", counts[name])
                    mine.ledger.account([("a-1", counts[name], "trained", "")])
                else:
                    mine.weights("theta")
                    assert mine.ledger.balance().holds
                    mine.put_worker("actor", "0", {"state": "playing"}, ttl_s=60)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=keep, args=(name,)) for name in counts]
    for thread in threads:
        thread.start()
    try:
        for _ in range(2):
            _all_advance(counts, errors, by=20)
            kill(server)
            time.sleep(away_s)
            server.restart()
            _all_advance(counts, errors, by=20)
    finally:
        over.set()
        for thread in threads:
            thread.join(timeout=60)
    assert not errors
    store = Store(server.url, "r")
    assert store.version("theta") == counts["published"]
    balance = store.ledger.balance()
    assert balance.holds and balance.produced == counts["produced"], balance
    assert balance.trained + balance.lost == counts["produced"]
    assert ("actor", "0") in store.workers()


def _all_advance(counts: dict[str, int], errors: list[BaseException], by: int) -> None:
    goal = {name: count + by for name, count in counts.items()}
    deadline = time.monotonic() + 60
    while any(counts[name] < goal[name] for name in counts):
        assert not errors, errors
        assert time.monotonic() < deadline, (counts, goal)
        time.sleep(0.01)


@pytest.mark.slow
def test_a_role_that_is_stopping_does_not_wait_long_for_redis(server: RedisServer) -> None:
    stopping = threading.Event()
    store = Store(server.url, "r", stopping)
    store.put_endpoint("tcp://x:1")
    stopping.set()
    kill(server)
    with pytest.raises(StoreError, match="is unreachable, and this role is stopping"):
        store.endpoint()


def test_a_role_gives_up_if_redis_stays_away(server: RedisServer) -> None:
    store = Store(server.url, "r", patience_s=3)
    kill(server)
    with pytest.raises(StoreError, match="was unreachable for 3 s: giving up"):
        store.endpoint()


@pytest.mark.parametrize("password", ["word", "p@ss", "p@ss#w/rd"])
def test_passwords_are_never_shown(password: str) -> None:
    assert shown(f"redis://:{password}@host:6379/0") == "redis://:***@host:6379/0"


@pytest.mark.parametrize("place", ["redis://host:6379/0", "unix:///tmp/redis.sock", "rediss://me:word@host:6379"])
@pytest.mark.parametrize("password", ["word", "p@ss", "w:/rd"])
def test_a_password_in_the_query_is_never_shown(place: str, password: str) -> None:
    clean = place.replace(":word@", ":***@")
    assert shown(f"{place}?password={password}") == f"{clean}?password=***"
    assert shown(f"{place}?username=me&password={password}&db=1") == f"{clean}?username=me&password=***&db=1"


def test_a_password_that_must_be_escaped_is_refused() -> None:
    with pytest.raises(StoreError, match="write # and / in its password as %23 and %2F") as refused:
        Store("redis://:p#w/rd@host:6379/0", "r")
    assert "rd@" not in str(refused.value)


@pytest.mark.parametrize(
    ("spoil", "mend"),
    [
        (["CONFIG", "SET", "maxmemory", "1"], ["CONFIG", "SET", "maxmemory", "0"]),
        (["REPLICAOF", "127.0.0.1", "1"], ["REPLICAOF", "NO", "ONE"]),
    ],
    ids=["out of memory", "read-only"],
)
def test_writes_wait_for_a_server_that_refuses_them_and_are_made_once(
    server: RedisServer, spoil: list[str], mend: list[str]
) -> None:
    admin = connect(server.url)
    writes_wait(server, lambda: admin.execute_command(*spoil), lambda: admin.execute_command(*mend))


def test_writes_wait_for_a_server_that_cannot_save_its_data(server: RedisServer) -> None:
    """It says MISCONF, as on a full disk: here the name of its file is taken."""
    admin = connect(server.url)

    def spoil() -> None:
        admin.config_set("save", "3600 1")
        (Path(admin.config_get("dir")["dir"]) / "dump.rdb" / "taken").mkdir(parents=True)
        admin.bgsave()
        deadline = time.monotonic() + 60
        while admin.info("persistence")["rdb_last_bgsave_status"] != "err":
            assert time.monotonic() < deadline
            time.sleep(0.05)

    writes_wait(server, spoil, lambda: admin.config_set("save", ""))


def writes_wait(server: RedisServer, spoil: Callable[[], object], mend: Callable[[], object]) -> None:
    """Checks that every kind of write waits from one until the other, and is then made once."""
    store = Store(server.url, "refused")
    store.ledger.produced("a-1", 2)
    writes: dict[str, Callable[[], object]] = {
        "hash": lambda: store.publish("theta", Weights(3, PARAMETERS)),
        "pipeline": lambda: store.put_worker("actor", "0", {"incarnation": "a-1"}, ttl_s=60),
        "script": lambda: store.ledger.account([("a-1", 1, "trained", "")]),
        "stream": lambda: store.put_metrics({"updates": 1}),
    }
    spoil()
    threads = {name: threading.Thread(target=write, name=name) for name, write in writes.items()}
    for thread in threads.values():
        thread.start()
    time.sleep(0.5)
    assert [name for name, thread in threads.items() if not thread.is_alive()] == [], "these gave up"
    mend()
    for thread in threads.values():
        thread.join(timeout=30)
        assert not thread.is_alive(), thread.name
    assert store.version("theta") == 3 and store.workers() and len(store.stream("metrics", 10)) == 1
    balance = store.ledger.balance()
    assert (balance.produced, balance.trained, balance.in_flight) == (2, 1, 1)


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("redis://actor@host:6379/0", "redis://actor:p%2Fw%40@host:6379/0"),
        ("redis://host:6379/0", "redis://:p%2Fw%40@host:6379/0"),
        ("rediss://actor@host/0?ssl_ca_certs=/ca.pem", "rediss://actor:p%2Fw%40@host/0?ssl_ca_certs=/ca.pem"),
        ("redis://actor:own@host/0", "redis://actor:own@host/0"),
        ("redis://:own@host/0", "redis://:own@host/0"),
        ("unix:///tmp/redis.sock?db=0", "unix://:p%2Fw%40@/tmp/redis.sock?db=0"),
        ("nonsense", "nonsense"),
    ],
)
def test_a_password_file_completes_a_url(tmp_path: Path, url: str, expected: str) -> None:
    (tmp_path / "password").write_text("p/w@\n")
    assert with_password(url, tmp_path / "password") == expected
    assert with_password(url, None) == url
    if url != expected:
        client = connect(expected)
        assert client.get_connection_kwargs()["password"] == "p/w@"
        assert "p%2Fw%40" not in shown(expected)


def test_a_password_file_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    with pytest.raises(SetupError, match="No such file"):
        with_password("redis://actor@host", tmp_path / "none")
    (tmp_path / "empty").write_text("\n")
    with pytest.raises(SetupError, match="empty is empty"):
        with_password("redis://actor@host", tmp_path / "empty")
