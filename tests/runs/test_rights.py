"""Redis lets every role do its work and nothing else, and no password is where others can read it."""

import logging
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO, Any

import pytest
from redis_users import RUN, binary, Server, running
import redis
from serial_runs import configuration
from waiting import until

from actors import actor as actor_module
from common.connection import refusal, shown, with_password
from common.keys import ALLOWED, AllowList
from common.run_folder import RunFolder
from common.store import Store
from deploy.keys import PASSWORD, make
from deploy.redis_server import redis_version
from deploy.serial import Serial

ROOT = Path(__file__).parents[2]
PATIENCE_S = 120.0








@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    with running(tmp_path) as made:
        yield made


def test_the_ledger_outlives_a_redis_that_is_killed(tmp_path: Path) -> None:
    """Redis 7.0 replays transactions as the user `default`, whose rights thus count, though nobody can be this user."""
    kept = ("--port", "PORT", "--appendonly", "yes")
    with running(tmp_path, *kept) as server:
        ledger = Store(server.full("learner"), RUN).ledger
        ledger.produced("actor-1", 3)
        ledger.account([("actor-1", 1, "trained", "")])
        before = ledger.balance()
        # While its file is being synced, Redis keeps back what it would write.
        until(lambda: server.admin.info("persistence")["aof_buffer_length"] == 0)
    with running(tmp_path, *kept) as server:
        assert Store(server.full("viewer"), RUN).ledger.balance() == before
        assert refusal(f"redis://127.0.0.1:{server.port}/0") is not None, "nobody comes in without a password"
    assert (before.produced, before.trained) == (3, 1)


def role(server: Server, name: str, log: IO[bytes], *arguments: str) -> "subprocess.Popen[bytes]":
    environment = {
        **os.environ,
        "BIDIST_REDIS": server.url(name),
        "BIDIST_REDIS_PASSWORD_FILE": str(server.keys / name / PASSWORD),
        "BIDIST_KEYS": str(server.keys / name),
        "BIDIST_RUN": RUN,
        "OMP_NUM_THREADS": "1",
    }
    return subprocess.Popen(
        [sys.executable, "-m", "cli", *arguments], cwd=ROOT, env=environment, stdout=log, stderr=log
    )


@pytest.mark.slow
def test_a_run_under_least_rights_trains_and_leaks_no_password(server: Server, tmp_path: Path) -> None:
    quick = ["environment.episode_length=8", "actor.unroll_length=8", "learner.batch_unrolls=8", "distiller.every=1"]
    learner = ["learner", "--listen", "tcp://0.0.0.0:*", "--folder", str(tmp_path / "runs"), "--steps", "100000000"]
    learner += ["--substrate", "matrix_coordination", *quick, "distiller.burn_in=1", "run.heartbeat_s=0.5"]
    processes: dict[str, subprocess.Popen[bytes]] = {}
    with ExitStack() as stack:
        for name, arguments in {"learner": learner, "distiller": ["distiller"], "actor": ["actor"]}.items():
            log = stack.enter_context((tmp_path / f"{name}.log").open("wb"))
            processes[name] = role(server, name, log, *arguments)
        try:
            looker = Store(server.full("viewer"), RUN)
            until(lambda: (looker.version("phi") or 0) >= 3, patience_s=PATIENCE_S)
            with (tmp_path / "looks.log").open("wb") as log:
                for user, arguments in (
                    ("actor", ["health", "actor"]),
                    ("learner", ["health", "learner"]),
                    ("distiller", ["health", "distiller"]),
                    ("learner", ["status"]),
                    ("viewer", ["status"]),
                ):
                    assert role(server, user, log, *arguments).wait(PATIENCE_S) == 0, (
                        tmp_path / "looks.log"
                    ).read_text()
            seen = "".join(Path(f"/proc/{p.pid}/cmdline").read_text() for p in processes.values())
        finally:
            for name in ("actor", "distiller", "learner"):
                if name in processes:
                    processes[name].send_signal(signal.SIGTERM)
                    processes[name].wait(60)
    logs = {path.stem: path.read_text() for path in tmp_path.glob("*.log")}
    assert {name: process.returncode for name, process in processes.items()} == dict.fromkeys(processes, 0), logs
    # Each client tries to introduce its library, which no Redis before 7.2 understands.
    denied = [entry for entry in server.admin.acl_log() if "client" not in entry["object"]]
    assert not denied, "somebody lacks a right"
    assert looker.ledger.balance().holds and looker.ledger.balance().trained > 0
    secrets = [server.secret(user) for user in ("learner", "actor", "distiller", "viewer")]
    secrets += [(server.keys / user / "curve.secret").read_text().strip() for user in ("learner", "actor")]
    kept = "".join(path.read_text(errors="replace") for path in (tmp_path / "runs").rglob("*") if path.is_file())
    for secret in secrets:
        assert secret not in seen and secret not in kept and not any(secret in log for log in logs.values())


def test_an_actor_with_least_rights_that_is_not_told_of_the_end_leaves_without_an_error(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The learner is silent: it never polls. Closing the account stays its privilege."""
    for name in ("SILENCE_S", "FLUSH_S"):
        monkeypatch.setattr(actor_module, name, 0.5)
    config = configuration(tmp_path / "runs", RUN, "run.heartbeat_s=0.5")
    RunFolder.of(config.run).create(config)
    learner, store = Store(server.full("learner"), RUN), Store(server.full("actor"), RUN)
    with Serial(config, server.full("learner")), ThreadPoolExecutor(1) as threads, caplog.at_level(logging.INFO):
        left = threads.submit(actor_module.run, store, "unheard")
        until(lambda: bool(learner.ledger.balance().produced) or left.done())
        learner.put_progress({"state": "finished"})
        left.result(PATIENCE_S)
    assert "only the learner may close this actor's account" in caplog.text
    balance = learner.ledger.balance()
    assert balance.holds and balance.in_flight == balance.produced > 0


def test_a_withdrawn_actor_loses_its_password_when_redis_restarts_and_the_others_keep_theirs(tmp_path: Path) -> None:
    """The steps of docs/cli.md: remove the line and the folder, repeat `bidist keys`, restart Redis."""
    kept = ("--port", "PORT", "--appendonly", "yes")
    make(tmp_path / "keys", RUN, ["actor", "other"])
    with running(tmp_path, *kept) as server:
        held = {name: server.full(name) for name in ("actor", "other", "learner")}
        assert not any(refusal(url) for url in held.values())
        secret = server.secret("actor")
        Store(held["learner"], RUN).put_endpoint("tcp://x:1")
        until(lambda: server.admin.info("persistence")["aof_buffer_length"] == 0)
        allowed = server.keys / "learner" / ALLOWED
        lines = [line for line in allowed.read_text().splitlines() if not line.startswith("other ")]
        allowed.write_text("\n".join(lines) + "\n")
        for name in ("actor", "other"):
            shutil.rmtree(server.keys / name)
        assert refusal(held["other"]) is None, "Redis has not read the file again"
    with running(tmp_path, *kept) as server:
        before = {name: f"{url.rpartition(':')[0]}:{server.port}/0" for name, url in held.items()}
        assert refusal(before["learner"]) is None and Store(before["learner"], RUN).endpoint() == "tcp://x:1"
        assert all("invalid username-password pair" in str(refusal(before[name])) for name in ("actor", "other"))
        assert refusal(server.full("actor")) is None and server.secret("actor") != secret
        assert set(AllowList(allowed).read()) == {"actor"}, "the default actor has new keys, under the old name"
        assert allowed.read_text().count("actor ") == 1


@pytest.mark.parametrize(
    ("user", "command"),
    [
        ("actor", ["HSET", "bidist:mine:theta", "version", "1"]),
        ("actor", ["HSET", "bidist:mine:phi", "version", "1"]),
        ("actor", ["HSET", "bidist:mine:pool:1", "version", "1"]),
        ("actor", ["SET", "bidist:mine:config", "{}"]),
        ("actor", ["SET", "bidist:mine:endpoint", "tcp://elsewhere:1"]),
        ("actor", ["DEL", "bidist:mine:theta"]),
        ("actor", ["DEL", "bidist:mine:ledger"]),
        ("actor", ["HINCRBY", "bidist:mine:ledger", "trained", 1]),
        ("actor", ["HSET", "bidist:mine:sequences", "actor-2:accounted", 9]),
        ("actor", ["DEL", "bidist:mine:closed"]),
        ("actor", ["HSET", "bidist:mine:worker:learner:learner", "state", "x"]),
        ("actor", ["EVAL", "return redis.call('HSET', KEYS[1], 'version', 1)", 1, "bidist:mine:theta"]),
        ("actor", ["EVAL", "return redis.call('DEL', 'bidist:mine:theta')", 0]),
        ("actor", ["HGETALL", "bidist:other:theta"]),
        ("distiller", ["HSET", "bidist:mine:theta", "version", "1"]),
        ("distiller", ["HINCRBY", "bidist:mine:ledger", "trained", 1]),
        ("distiller", ["SET", "bidist:mine:endpoint", "tcp://elsewhere:1"]),
        ("learner", ["SET", "bidist:other:config", "{}"]),
        ("learner", ["FLUSHALL"]),
        ("learner", ["CONFIG", "SET", "dir", "/tmp"]),
        ("learner", ["KEYS", "*"]),
        ("viewer", ["HSET", "bidist:mine:worker:actor:0", "state", "x"]),
        ("viewer", ["DEL", "bidist:mine:theta"]),
        *[(user, ["ACL", "LIST"]) for user in ("learner", "actor", "distiller", "viewer")],
        *[(user, ["SHUTDOWN"]) for user in ("learner", "actor", "distiller", "viewer")],
    ],
    ids=lambda value: value if isinstance(value, str) else " ".join(map(str, value[:2])),
)
def test_a_role_may_not(server: Server, user: str, command: list[Any]) -> None:
    with (
        redis.Redis.from_url(server.full(user)) as client,
        pytest.raises(redis.RedisError, match="permission|can't access"),
    ):
        client.execute_command(*command)


def test_nobody_gets_in_without_a_password_or_with_the_wrong_one(server: Server) -> None:
    assert refusal(server.full("actor")) is None
    assert "it requires a user and a password: name the user in the URL" in str(
        refusal(f"redis://127.0.0.1:{server.port}/0")
    )
    wrong = with_password(server.url("learner"), server.keys / "actor" / PASSWORD)
    assert "invalid username-password pair" in str(refusal(wrong))
    assert server.secret("actor") not in shown(wrong)
    users = (server.keys / "redis" / "users.acl").read_text()
    assert not any(server.secret(user) in users for user in ("learner", "actor", "distiller", "viewer"))


def test_tls_is_used_and_checked(tmp_path: Path) -> None:
    """A certificate from our own authority is accepted if that authority is named, and refused otherwise."""
    authority, certificate, key = (tmp_path / name for name in ("ca.pem", "redis.pem", "redis.key"))
    _certify(authority, certificate, key)
    options = ["--port", "0", "--tls-port", "PORT", "--tls-cert-file", str(certificate), "--tls-key-file", str(key)]
    server = Server(tmp_path, *options, "--tls-ca-cert-file", str(authority), "--tls-auth-clients", "no")
    try:
        url = with_password(server.url("learner", "rediss"), server.keys / "learner" / PASSWORD)
        until(
            lambda: refusal(f"{url}?ssl_ca_certs={authority}") is None or server.process.poll() is not None,
        )
        store = Store(f"{url}?ssl_ca_certs={authority}", RUN)
        store.put_endpoint("tcp://x:1")
        assert store.endpoint() == "tcp://x:1"
        assert "CERTIFICATE_VERIFY_FAILED" in str(refusal(url))
        assert refusal(server.full("learner")) is not None, "without TLS nobody gets in"
    finally:
        server.process.kill()
        server.process.wait()


def _certify(authority: Path, certificate: Path, key: Path) -> None:
    """Makes an authority, and a certificate of it for 127.0.0.1."""
    if shutil.which("openssl") is None:
        pytest.skip("no openssl here for a redis-server with TLS")
    private = authority.with_suffix(".key")
    new = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1"]
    for command in (
        [*new, "-keyout", str(private), "-out", str(authority), "-subj", "/CN=authority"],
        [*new, "-keyout", str(key), "-out", str(certificate), "-subj", "/CN=redis", "-CA", str(authority)]
        + ["-CAkey", str(private), "-addext", "subjectAltName=IP:127.0.0.1", "-addext", "basicConstraints=CA:FALSE"],
    ):
        subprocess.run(command, check=True, capture_output=True)
