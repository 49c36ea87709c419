"""What health checks tell a container engine about a role."""

import contextlib
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest
import redis_users
from waiting import within

from common.errors import ConfigError
from common.lifecycle import Presence
from common.settings import load_config
from common.store import Store
from deploy import health
from deploy.redis_server import RedisServer

HOST = "here"


def problem(store: Store, role: str = "learner", patience_s: float = 60.0, alive: bool = False) -> str | None:
    return health.problem(store.url, store.run, role, patience_s, alive, HOST)


def report(store: Store, role: str = "learner", host: str = HOST, **fields: float) -> None:
    store.put_worker(role, "0", {"incarnation": "x", "host": host, "started": int(time.time()), **fields}, ttl_s=9)


def test_redis_must_answer() -> None:
    found = health.problem("redis://127.0.0.1:1/0", "r", "actor", 60.0, alive=False)
    assert found is not None and found.startswith("no Redis answers")


def test_a_living_role_is_healthy_while_redis_is_unreachable() -> None:
    assert health.problem("redis://127.0.0.1:1/0", "r", "actor", 60.0, alive=True) is None


def test_a_role_must_send_heartbeats_from_this_host(store: Store) -> None:
    report(store, host="elsewhere")
    assert problem(store) == f"no learner of run {store.run} sends heartbeats from here"
    report(store)
    assert problem(store) is None
    assert problem(store, "actor") == f"no actor of run {store.run} sends heartbeats from here"


def test_a_role_must_make_progress_too(store: Store) -> None:
    report(store, idle_s=10)
    assert problem(store) is None
    report(store, idle_s=100)
    assert problem(store) == "the learner has made no progress for 100 s: ?"
    assert problem(store, alive=True) is None
    assert problem(store, patience_s=200) is None


def test_a_role_that_has_just_started_is_healthy(store: Store) -> None:
    report(store)
    assert problem(store) is None
    report(store, idle_s=30)
    assert problem(store) is None
    report(store, idle_s=90)
    assert problem(store) is not None


@pytest.mark.parametrize("off_s", [-3600.0, 3600.0])
def test_clocks_that_jump_make_no_role_unhealthy(store: Store, off_s: float) -> None:
    """An hour back or forward, after the role has written its times or before."""
    now = time.time() + off_s
    report(store, started=now - 500, reported=now, advanced=now - 10, idle_s=10)
    assert problem(store) is None
    report(store, started=now - 500, reported=now, advanced=now - 100, idle_s=100)
    assert problem(store) is not None


def test_every_role_of_a_finished_run_is_healthy(store: Store) -> None:
    store.put_progress({"state": "finished"})
    assert problem(store) is None


@pytest.mark.parametrize("role", ["learner", "actor", "distiller"])
def test_progress_that_a_role_reports_is_what_the_check_looks_at(store: Store, role: str) -> None:
    def healthy() -> bool:
        return health.problem(store.url, store.run, role, 60.0, alive=False) is None

    now = [1000.0]
    with Presence(store, role, "0", "x", heartbeat_s=0.5, clock=lambda: now[0]) as presence:
        assert within(30, healthy), "it has just started"
        now[0] += 61
        assert within(30, lambda: not healthy())
        presence.advanced()
        assert within(30, healthy)


# Over HTTP.


def answer(port: int, path: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=10) as response:
            return response.status, response.read().decode().strip()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode().strip()


def test_probes_ask_for_life_or_for_progress() -> None:
    found = {True: None, False: "no progress"}
    with health.Probes(found.__getitem__, 0) as probes:
        assert answer(probes.port, "/healthz") == (200, "healthy")
        assert answer(probes.port, "/readyz") == (503, "no progress")
        found.update({True: "dead", False: None})
        assert answer(probes.port, "/healthz") == (503, "dead")
        assert answer(probes.port, "/readyz") == (200, "healthy")
        assert answer(probes.port, "/metrics")[0] == 404
        with pytest.raises(ConfigError, match=f"cannot answer probes on port {probes.port}: .*--health-port"):
            health.Probes(found.__getitem__, probes.port).__enter__()
    with pytest.raises(urllib.error.URLError):
        answer(probes.port, "/healthz")


def test_head_is_answered_as_get_is_without_the_body() -> None:
    found = {True: None, False: "no progress"}
    with health.Probes(found.__getitem__, 0) as probes:
        for path, status, length in (("/healthz", 200, 8), ("/readyz", 503, 12), ("/metrics", 404, None)):
            with socket.create_connection(("127.0.0.1", probes.port)) as client:
                client.sendall(f"HEAD {path} HTTP/1.0\r\n\r\n".encode())
                head, _, body = client.makefile("rb").read().partition(b"\r\n\r\n")
            assert head.startswith(f"HTTP/1.0 {status} ".encode()) and body == b""
            assert length is None or f"Content-Length: {length}".encode() in head


def test_a_client_that_gives_up_leaves_no_traceback(capfd: pytest.CaptureFixture[str]) -> None:
    asked, given_up, before = threading.Event(), threading.Event(), threading.active_count()

    def check(alive: bool) -> str:
        asked.set()
        given_up.wait(30)
        return "x" * 10_000_000  # more than a connection's buffers hold

    with health.Probes(check, 0) as probes:
        with socket.create_connection(("127.0.0.1", probes.port)) as client:
            client.sendall(b"GET /healthz HTTP/1.0\r\n\r\n")
            assert asked.wait(30)
        given_up.set()
        assert within(30, lambda: threading.active_count() == before + 1), "only the server's own thread is left"
    assert capfd.readouterr().err == ""


def ready(port: int) -> bool:
    with contextlib.suppress(urllib.error.URLError):
        return answer(port, "/readyz") == (200, "healthy")
    return False


@pytest.mark.slow
def test_a_real_role_answers_probes_and_leaves_with_the_status_asked_for(store: Store) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    store.put_config(load_config(overrides=["method.name=mappo"]))  # its distiller has nothing to do
    command = [sys.executable, "-m", "cli", "distiller", "--redis", store.url, "--run", store.run]
    options = ["--health-port", str(port), "--stopped-status", "143"]
    with subprocess.Popen([*command, *options]) as role:
        try:
            assert within(60, lambda: ready(port))
        finally:
            role.send_signal(signal.SIGTERM)
        assert role.wait(60) == 143


def test_a_role_that_leaves_keeps_its_successors_heartbeat(store: Store) -> None:
    with Presence(store, "learner", "learner", "old", heartbeat_s=60):
        store.put_worker("learner", "learner", {"incarnation": "successor"}, ttl_s=60)
    assert store.workers()[("learner", "learner")]["incarnation"] == "successor"
    with Presence(store, "learner", "learner", "new", heartbeat_s=60):
        pass
    assert store.workers() == {}


@pytest.mark.parametrize(
    ("spoil", "words"),
    [(["CONFIG", "SET", "maxmemory", "1"], "maxmemory"), (["REPLICAOF", "127.0.0.1", "1"], "read only replica")],
    ids=["out of memory", "read-only"],
)
def test_a_living_role_is_healthy_while_redis_takes_no_writes(tmp_path: Path, spoil: list[str], words: str) -> None:
    """Its heartbeats are writes and have expired; to restart it would not help."""
    with RedisServer(tmp_path / "redis") as server:
        store = Store(server.url, "r")
        for role in ("learner", "actor", "distiller"):
            assert problem(store, role, alive=True) is not None
        store.client.execute_command(*spoil)
        for role in ("learner", "actor", "distiller"):
            assert problem(store, role, alive=True) is None
            found = problem(store, role)
            assert found is not None and found.startswith("Redis takes no writes") and words in found
        store.client.execute_command("CONFIG", "SET", "maxmemory", "0")
        store.client.execute_command("REPLICAOF", "NO", "ONE")
        assert problem(store, "actor", alive=True) is not None and not store.client.keys("*")


def test_a_roles_own_user_in_redis_may_find_that_it_takes_no_writes(tmp_path: Path) -> None:
    with redis_users.running(tmp_path) as server:
        for role in ("learner", "actor", "distiller"):
            assert health.problem(server.full(role), redis_users.RUN, role, 60.0, alive=True) is not None
        server.admin.config_set("maxmemory", 1)
        for role in ("learner", "actor", "distiller"):
            assert health.problem(server.full(role), redis_users.RUN, role, 60.0, alive=True) is None
