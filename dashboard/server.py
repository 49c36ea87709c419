"""Serves the dashboard: checks its arguments, creates a token if needed, and prints the address."""

import secrets
import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from urllib.parse import quote

import uvicorn

from common.connection import shown
from common.errors import ConfigError
from dashboard.access import is_loopback
from dashboard.app import Dashboard
from dashboard.source import Address

TOKEN_BYTES = 24
SHORTEST_TOKEN = 16


class Server(uvicorn.Server):
    """A server that ends its event streams when asked to stop; they would otherwise keep it running."""

    def __init__(self, config: uvicorn.Config, dashboard: Dashboard) -> None:
        super().__init__(config)
        self._dashboard = dashboard

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Treats Ctrl-C and SIGTERM as an orderly shutdown; uvicorn would raise them again afterwards."""
        before = {number: signal.signal(number, self.handle_exit) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Ends all streams and then the server on the first signal, and the server at once on the second."""
        self._dashboard.closing.set()
        super().handle_exit(sig, frame)


def serve(folder: Path, results: Path, url: str | None, host: str, port: int, token_file: Path | None) -> int:
    """Serves until Ctrl-C.

    Args:
      folder: with the runs.
      results: with reports.
      url: of a Redis server whose runs are shown too.
      host: address to listen on; beyond loopback, visitors need a token.
      port: to listen on; 0 picks a free one.
      token_file: holds the token; None generates one if needed.

    Raises:
      ConfigError: if the folder is missing and no server is named, the token cannot be read, or the port is taken.
    """
    if url is None and not folder.is_dir():
        raise ConfigError(f"{folder}: no such folder; name the one with your runs, or give --redis for runs elsewhere")
    if url is not None and (reason := Address(url, "").refusal()) is not None:
        print(f"Redis at {shown(url)} does not answer yet ({reason}); its runs appear when it does", flush=True)
    token = token_for(host, token_file)
    dashboard = Dashboard(folder, results, url)
    config = uvicorn.Config(
        dashboard.app(token),
        log_config=None,  # uvicorn's would close the existing handlers and their streams
        log_level="warning",
        timeout_graceful_shutdown=5,
        server_header=False,
        lifespan="off",
    )
    with listening(host, port) as listener:
        port = listener.getsockname()[1]
        shown_token = token if token_file is None else "..."
        note = f"; the token is in {token_file}" if token_file else ""
        print(f"dashboard of {folder.resolve()}: {address(host, port, shown_token)}{note}", flush=True)
        Server(config, dashboard).run(sockets=[listener])
    return 0


def token_for(host: str, file: Path | None) -> str | None:
    """Returns the token that visitors need: from the file, otherwise a new one, or None on loopback.

    Raises:
      ConfigError: if the file cannot be read, or its token is too easy to guess.
    """
    if file is None:
        return None if is_loopback(host) else secrets.token_urlsafe(TOKEN_BYTES)
    try:
        token = file.read_text().strip()
    except OSError as error:
        raise ConfigError(f"--token-file {file}: {error.strerror}") from None
    if len(token) < SHORTEST_TOKEN or not token.isascii() or not token.isprintable() or " " in token:
        raise ConfigError(
            f"--token-file {file}: found {len(token)} characters, expected at least {SHORTEST_TOKEN} ASCII letters, "
            'digits or symbols on one line; make one with: python -c "import secrets; print(secrets.token_urlsafe())"'
        )
    return token


def listening(host: str, port: int) -> socket.socket:
    """Opens a listening socket.

    Raises:
      ConfigError: if it cannot.
    """
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((host, port), family=family)
    except OSError as error:
        raise ConfigError(
            f"cannot listen on {host}:{port}: {error.strerror or error}; name another --host or --port"
        ) from None


def address(host: str, port: int, token: str | None) -> str:
    """Returns the address to open in a browser."""
    name = socket.gethostname() if host in ("0.0.0.0", "::") else host
    name = f"[{name}]" if ":" in name else name
    return f"http://{name}:{port}/" + (f"?token={quote(token)}" if token else "")
