"""A learner, a distiller and an actor in threads of one process, with a proxy on each connection between them."""

import contextlib
import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Self

import torch
from proxy import NetworkConditions, Proxy, redis_behind, through

from actors import actor
from common.config import Config
from common.run_folder import RunFolder
from common.store import Store
from distiller import service as distiller_service
from learner import service as learner_service
from learner.ranks import Launch

PATIENCE_S = 120.0
LEAVING = ("actor", "learner", "distiller")
"""The order in which roles leave."""


class Detour(Store):
    """A run's data as an actor reads it whose way to the learner leads through a proxy."""

    way: Proxy | None = None
    weather = NetworkConditions()

    def endpoint(self) -> str | None:
        found = super().endpoint()
        if found is None:
            return None
        if self.way is None:
            self.way = Proxy(int(found.rpartition(":")[2]), self.weather)
        return f"tcp://127.0.0.1:{self.way.port}"


class Roles:
    """The roles of a run; a context manager that starts them, and shuts them down cleanly.

    Args:
      config: the run's.
      url: of a Redis server.
      weather: of the network on every connection.
    """

    def __init__(self, config: Config, url: str, weather: NetworkConditions) -> None:
        self._config, self._weather = config, weather
        self.store = Store(url, config.run.name)
        self._to_redis = {role: redis_behind(url, weather) for role in LEAVING}
        self._threads: dict[str, threading.Thread] = {}
        self._stores: dict[str, Store] = {}
        self.errors: dict[str, BaseException] = {}
        self.versions: list[tuple[int, int]] = []
        """Of theta and phi, whenever this looked."""

    def __enter__(self) -> Self:
        config, run = self._config, self._config.run.name
        RunFolder.of(config.run).create(config)
        urls = {role: through(proxy) for role, proxy in self._to_redis.items()}
        stores = {role: Store(url, run) for role, url in urls.items() if role != "actor"}
        self._detour = Detour(urls["actor"], run)
        self._detour.weather = self._weather
        self._stores = {**stores, "actor": self._detour}
        listen = "tcp://127.0.0.1:*"
        self._begin("learner", lambda: learner_service.run(stores["learner"], config, listen, "127.0.0.1", Launch()))
        self._begin("distiller", lambda: distiller_service.run(stores["distiller"]))
        self._begin("actor", lambda: actor.run(self._detour, "0"))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        threads = torch.get_num_threads()
        for role in LEAVING:
            self._stores[role].stopping.set()
            self._threads[role].join(PATIENCE_S)
        torch.set_num_threads(threads)
        for proxy in self.links.values():
            proxy.close()

    @property
    def links(self) -> dict[str, Proxy]:
        """The proxies, by what they connect."""
        links = {f"{role} and Redis": proxy for role, proxy in self._to_redis.items()}
        return links if self._detour.way is None else {**links, "actor and learner": self._detour.way}

    def incarnations(self) -> dict[tuple[str, str], str]:
        """Returns the incarnation of each role with a heartbeat."""
        return {key: fields["incarnation"] for key, fields in self.store.workers().items()}

    def train(self, updates: int) -> None:
        """Waits until the learner has made so many more updates."""
        goal = self._updates() + updates
        self.until(lambda: self._updates() >= goal, f"{updates} more updates")

    def look(self) -> None:
        """Records the versions of theta and phi, and raises the error of a role that ended."""
        for error in self.errors.values():
            raise error
        assert all(thread.is_alive() for thread in self._threads.values()), "a role left"
        self.versions.append((self.store.version("theta") or 0, self.store.version("phi") or 0))

    def until(self, condition: Callable[[], bool], what: str) -> None:
        """Waits for a condition, and looks at the roles in the meantime."""
        deadline = time.monotonic() + PATIENCE_S
        while not condition():
            assert time.monotonic() < deadline, f"waited {PATIENCE_S:.0f} s for {what}"
            self.look()
            time.sleep(0.05)

    def _updates(self) -> int:
        return int(self.store.hash("progress").get("updates", 0))

    def _begin(self, role: str, run: Callable[[], None]) -> None:
        def guarded() -> None:
            with contextlib.suppress(BaseException):
                try:
                    run()
                except BaseException as error:
                    self.errors[role] = error
                    raise

        self._threads[role] = threading.Thread(target=guarded, name=role)
        self._threads[role].start()
