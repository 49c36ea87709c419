"""A TCP proxy for tests: a network between two ends that is slow, loses packets, falls silent or breaks connections."""

import contextlib
import queue
import random
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from urllib.parse import unquote, urlsplit

RETRANSMIT_S = 0.2
"""The shortest time after which TCP sends a lost packet again (Linux' TCP_RTO_MIN)."""
WAITING_CHUNKS = 1000


@dataclass(frozen=True)
class NetworkConditions:
    """How bad a network is.

    Args:
      delay_s: how long bytes take, each way.
      loss: the probability with which a chunk is lost. TCP sends it again and keeps the order: the chunk and everything
        behind it arrive late.
    """

    delay_s: float = 0.0
    loss: float = 0.0


FAIR = NetworkConditions()


class Proxy:
    """Passes bytes between the two ends of connections, or fails to.

    Args:
      target: the port or the Unix socket of the server behind it.
      weather: how bad the network is.
    """

    def __init__(self, target: int | str, weather: NetworkConditions = FAIR) -> None:
        self._target, self._weather, self._rng = target, weather, random.Random(1)
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._server.getsockname()[1]
        self.losing = False
        """Whether what clients send is lost for good."""
        self.lost_bytes = self.late_chunks = self.connections = 0
        self._passing = threading.Event()
        self._passing.set()
        self._lines: list[tuple[socket.socket, socket.socket]] = []
        self._quiet: set[socket.socket] = set()
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    def cut(self, clients_side: bool = True, servers_side: bool = True) -> None:
        """Breaks every connection; either side can be left half-open, but nothing gets through any more."""
        self.losing = False
        for line in list(self._lines):
            self._quiet.update(line)
            for end, broken in zip(line, (clients_side, servers_side), strict=True):
                if broken:
                    _shut(end)

    @contextlib.contextmanager
    def black_hole(self) -> Iterator[None]:
        """Accepts connections and passes nothing, either way, for the length of the block; then all of it arrives."""
        self._passing.clear()
        try:
            yield
        finally:
            self._passing.set()

    def close(self) -> None:
        """Breaks every connection and waits until all are closed."""
        _shut(self._server)
        self._threads[0].join()
        self._server.close()
        self._passing.set()
        self.cut()
        for thread in self._threads[1:]:
            thread.join()
        for ends in self._lines:
            for end in ends:
                end.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._server.accept()
                try:
                    server = self._connect()
                except OSError:
                    client.close()
                    continue
                self.connections += 1
                self._lines.append((client, server))
                for source, sink in ((client, server), (server, client)):
                    chunks: queue.Queue[tuple[float, bytes]] = queue.Queue(WAITING_CHUNKS)
                    self._begin(self._receive, source, chunks, source is client)
                    self._begin(self._deliver, sink, chunks, source)

    def _begin(self, target: object, *arguments: object) -> None:
        self._threads.append(threading.Thread(target=target, args=arguments))  # type: ignore[arg-type]
        self._threads[-1].start()

    def _connect(self) -> socket.socket:
        if isinstance(self._target, int):
            return socket.create_connection(("127.0.0.1", self._target))
        server = socket.socket(socket.AF_UNIX)
        server.connect(self._target)
        return server

    def _receive(self, source: socket.socket, chunks: "queue.Queue[tuple[float, bytes]]", from_client: bool) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                if self.losing and from_client or source in self._quiet:
                    self.lost_bytes += len(data)
                else:
                    chunks.put((time.monotonic() + self._weather.delay_s, data))
        chunks.put((0.0, b""))

    def _deliver(self, sink: socket.socket, chunks: "queue.Queue[tuple[float, bytes]]", source: socket.socket) -> None:
        due, data = chunks.get()
        while data:
            late = self._rng.random() < self._weather.loss
            self.late_chunks += late
            time.sleep(max(0.0, due - time.monotonic()) + late * RETRANSMIT_S)
            self._passing.wait()
            if source not in self._quiet:
                with contextlib.suppress(OSError):
                    sink.sendall(data)
            due, data = chunks.get()
        self._passing.wait()
        if source not in self._quiet:
            _shut(sink)


def redis_behind(url: str, weather: NetworkConditions = FAIR) -> Proxy:
    """Returns a proxy before the Redis server of a URL; see `through`."""
    parts = urlsplit(url)
    return Proxy(unquote(parts.path) if parts.port is None else parts.port, weather)


def through(proxy: Proxy, options: str = "") -> str:
    """Returns the URL of the Redis server behind a proxy, with options such as `socket_timeout=1`."""
    return f"redis://127.0.0.1:{proxy.port}/0?{options}"


def _shut(end: socket.socket) -> None:
    with contextlib.suppress(OSError):
        end.shutdown(socket.SHUT_RDWR)
