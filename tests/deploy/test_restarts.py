"""What the supervisor does between the death of something and its restart."""

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

from serial_runs import configuration

from common.run_folder import RunFolder
from common.store import Store
from deploy.redis_server import RedisServer
from deploy.supervisor import SUPERVISOR_PATIENCE_S, Role, Supervisor


class Untimely(Role):
    """A role at whose restart Redis dies."""

    server: RedisServer

    def start(self, logs: Path) -> None:
        assert self.server.pid is not None
        os.kill(self.server.pid, signal.SIGKILL)


def test_redis_that_dies_while_a_role_is_restarted_is_restarted_too(tmp_path: Path) -> None:
    """The supervisor records each restart in Redis; while it waited for Redis, nobody would bring Redis back."""
    config = configuration(tmp_path, "mend")
    RunFolder.of(config.run).create(config)
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    with RedisServer(tmp_path / "redis") as server:
        supervisor = Supervisor(config, 1, None, threading.Event())
        supervisor._server = server
        role = Untimely("actor", "actor-0", [], 1, server.url, [])
        role.server, role.due = server, 1e-9
        role.process = ended
        store = Store(server.url, "mend", patience_s=SUPERVISOR_PATIENCE_S)
        supervisor._mend(store, [role])
        assert server.poll() is not None and role.due == 0.0
        role.process = None
        supervisor._mend(store, [role])
        assert server.poll() is None and store.client.ping()


class Deadly(Role):
    """A role at whose restart the learner dies."""

    learner: Role

    def start(self, logs: Path) -> None:
        assert self.learner.process is not None
        self.learner.process.kill()
        self.learner.process.wait()


def test_a_learner_that_dies_while_an_actor_is_restarted_is_restarted_too(redis_url: str, tmp_path: Path) -> None:
    config = configuration(tmp_path, "deadly")
    RunFolder.of(config.run).create(config)
    RunFolder.of(config.run).logs.mkdir()
    store = Store(redis_url, "deadly")
    supervisor = Supervisor(config, 1, redis_url, threading.Event())
    learner, actor = Role("learner", "learner", [], 1, redis_url, []), Deadly("actor", "actor", [], 1, redis_url, [])
    learner.process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    actor.process = subprocess.Popen([sys.executable, "-c", ""])
    actor.process.wait()
    actor.learner, actor.due = learner, 1e-9
    assert not supervisor._mend(store, [learner, actor]), "the run is not over"
    assert not learner.running and learner.due == 0.0
    assert not supervisor._mend(store, [learner]) and learner.due > 0, "it is to be restarted"
