"""A Redis server with the users that `bidist keys` makes."""

import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import redis
from waiting import until

from common.connection import refusal, with_password
from deploy.keys import PASSWORD, make
from deploy.redis_server import redis_version

RUN = "mine"


def binary() -> str:
    found = shutil.which("redis-server")
    if found is None or redis_version(Path(found)) < (7, 0):
        pytest.skip("no redis-server of version 7 here")
    return found


class Server:
    """A Redis server with the users that `bidist keys` makes, and one who may do anything: `admin`."""

    def __init__(self, folder: Path, *options: str) -> None:
        self.keys = folder / "keys"
        make(self.keys, RUN, ["actor"])
        with (self.keys / "redis" / "users.acl").open("a") as file:
            file.write("user admin on >admin ~* &* +@all\n")
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        command = [binary(), "--aclfile", str(self.keys / "redis" / "users.acl"), "--save", "", "--dir", str(folder)]
        port = [] if options else ["--port", str(self.port)]
        options = tuple(option.replace("PORT", str(self.port)) for option in options)
        with (folder / "redis.log").open("wb") as log:
            self.process = subprocess.Popen([*command, *port, *options], stdout=log)

    def url(self, user: str, scheme: str = "redis") -> str:
        return f"{scheme}://{user}@127.0.0.1:{self.port}/0"

    def secret(self, user: str) -> str:
        return (self.keys / user / PASSWORD).read_text().strip()

    def full(self, user: str) -> str:
        return with_password(self.url(user), self.keys / user / PASSWORD)

    @property
    def admin(self) -> Any:
        return redis.Redis.from_url(f"redis://admin:admin@127.0.0.1:{self.port}/0", decode_responses=True)


@contextmanager
def running(folder: Path, *options: str) -> Iterator[Server]:
    made = Server(folder, *options)
    try:
        until(lambda: refusal(made.full("viewer")) is None or made.process.poll() is not None)
        assert made.process.poll() is None, (folder / "redis.log").read_text()
        yield made
    finally:
        made.process.kill()
        made.process.wait()
