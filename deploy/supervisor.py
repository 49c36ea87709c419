"""Runs everything on one machine without Docker: starts Redis and the roles, restarts them, and shows the run."""

import contextlib
import logging
import os
import subprocess
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import redis
from rich.console import Console
from rich.live import Live

from common.config import Config, learner_threads
from common.connection import shown
from common.errors import BidistError, SetupError
from common.run_folder import RunFolder
from common.settings import ALLOW_VARIABLE, HEALTH_VARIABLE, KEYS_VARIABLE, PASSWORD_VARIABLE, REDIS_VARIABLE
from common.store import Store
from common.third_party import foreign
from deploy import processes, views
from deploy.redis_server import RedisServer
from learner.ownership import check_alone
from methods import make_method

log = logging.getLogger(__name__)

TICK_S = 0.5
LIVE_EVERY_S, PLAIN_EVERY_S = 1.0, 10.0
FAST_DEATHS, FAST_DEATHS_S = 5, 60.0
MAX_BACKOFF_S, CALM_S = 10.0, 600.0
"""The longest wait before a restart, and how long a role must have lived for its earlier deaths to be forgotten."""
# In the order in which roles leave: actors before the learner, so that they can hand over their unrolls.
LEAVE_S = {"actor": 20.0, "learner": 30.0, "distiller": 15.0, "record": 10.0, "track": 30.0}
LAST_FILM_S = 300.0
SUPERVISOR_PATIENCE_S = 1.0
"""How long the supervisor waits for Redis: if it waited longer for a server that died, nobody would restart it."""


class Extras(NamedTuple):
    """What runs besides the roles: a film every `film_every` minutes, None for none, and trackers by name."""

    film_every: float | None = None
    trackers: Sequence[str] = ()


NO_EXTRAS = Extras()


def topology(config: Config, actors: int, url: str, extras: Extras) -> list["Role"]:
    """Returns the roles of a run: the learner, a distiller if the method has phi, the actors, and the extras."""
    join = ["--run", config.run.name]
    budget = ["--folder", str(config.run.folder), "--steps", str(config.run.player_steps)]
    roles = [Role("learner", "learner", [*join, *budget], learner_threads(config.learner), url, foreign(config))]
    if make_method(config).phi:
        roles.append(Role("distiller", "distiller", join, config.distiller.threads, url, foreign(config)))
    roles += [
        Role("actor", f"actor-{i}", [*join, "--name", str(i)], config.actor.threads, url, foreign(config))
        for i in range(actors)
    ]
    run = [config.run.name, "--folder", str(config.run.folder)]
    if extras.film_every:
        films = [*run, "--every", str(extras.film_every)]
        roles.append(Role("record", "films", films, 1, url, foreign(config), needed=False))
    for name in extras.trackers:
        roles.append(Role("track", f"track-{name}", [*run, "--to", name], 1, url, foreign(config), needed=False))
    return roles


@dataclass
class Role:
    """One child process and the times of its deaths; the run continues without it if it is not needed."""

    kind: str
    name: str
    options: list[str]
    threads: int
    url: str
    allowed: list[str]
    needed: bool = True
    process: "subprocess.Popen[bytes] | None" = None
    deaths: deque[float] = field(default_factory=lambda: deque(maxlen=FAST_DEATHS))
    due: float = 0.0

    def start(self, logs: Path) -> None:
        """Starts the process and logs its output.

        It ends with this process, and does not receive the terminal's Ctrl-C.
        """
        environment = _environment(self.threads, self.url, self.allowed)
        with (logs / f"{self.name}.log").open("ab") as out:
            self.process = processes.start(processes.bidist(self.kind, *self.options), out, environment)

    @property
    def running(self) -> bool:
        """Whether the process is running."""
        return self.process is not None and self.process.poll() is None

    def died(self, now: float) -> bool:
        """Records a death and plans the restart, later after each death; returns whether it dies too often for one."""
        if self.deaths and now - self.deaths[-1] > CALM_S:
            self.deaths.clear()
        self.deaths.append(now)
        self.due = now + min(MAX_BACKOFF_S, 0.5 * 2 ** len(self.deaths))
        return len(self.deaths) == FAST_DEATHS and now - self.deaths[0] < FAST_DEATHS_S

    def stop(self) -> None:
        """Asks the process to stop."""
        if self.process is not None and self.running:
            self.process.terminate()

    def wait(self, timeout_s: float) -> None:
        """Waits for the process to stop, and kills it after a timeout."""
        if self.process is not None and not processes.wait(self.process, timeout_s):
            log.warning("%s did not stop within %.0f s and was killed", self.name, timeout_s)


class Supervisor:
    """A run on one machine.

    Args:
      config: the run's configuration.
      actors: the number of actor processes.
      url: an external Redis server; None starts one in the run's folder.
      stopping: set when the run should stop.
      extras: what runs besides the roles.
      say: takes what there is to tell, such as a line of status every ten seconds; None shows a live view instead.
    """

    def __init__(
        self,
        config: Config,
        actors: int,
        url: str | None,
        stopping: threading.Event,
        extras: Extras = NO_EXTRAS,
        say: Callable[[str], None] | None = None,
    ) -> None:
        self._say = say
        self._config, self._stopping, self._actors, self._extras = config, stopping, actors, extras
        self._folder = RunFolder.of(config.run)
        self._server: RedisServer | None = None
        self._url = url
        self._console = Console()

    def run(self) -> str | None:
        """Trains until the budget is used up and returns the ledger as text; returns None if stopped before.

        Raises:
          ConfigError: if the run is already running.
          SetupError: if a role cannot run, or keeps dying.
        """
        with contextlib.ExitStack() as stack:
            stack.enter_context(self._folder.held("train"))
            self._folder.begin(self._config)
            self._folder.logs.mkdir(exist_ok=True)
            url = self._url
            if url is None:
                self._server = stack.enter_context(RedisServer(self._folder.redis))
                url = self._server.url
            self._folder.put_url(url)
            store = Store(url, self._config.run.name, self._stopping)
            check_alone(store)
            roles = topology(self._config, self._actors, url, self._extras)
            self._tell(f"run {self._config.run.name}, folder {self._folder.path}, Redis {shown(url)}")
            store.put_progress({"state": "starting"})
            impatient_store = Store(url, self._config.run.name, self._stopping, SUPERVISOR_PATIENCE_S)
            try:
                self._supervise(impatient_store, roles)
            finally:
                self._leave(impatient_store, roles)
            finished = store.finished
            if self._say is None:
                self._console.print(views.render(views.snapshot(store)))
            else:
                self._say(views.plain(views.snapshot(store)))
            return str(store.ledger.balance()) if finished else None

    def _supervise(self, store: Store, roles: list[Role]) -> None:
        for role in roles:
            role.start(self._folder.logs)
        shown_at = 0.0
        live = Live(console=self._console, auto_refresh=False, transient=True)
        with live if self._say is None else contextlib.nullcontext():
            while not self._stopping.is_set():
                if self._mend(store, roles):
                    return
                if time.monotonic() - shown_at > (LIVE_EVERY_S if self._say is None else PLAIN_EVERY_S):
                    shown_at = time.monotonic()
                    with contextlib.suppress(BidistError, redis.RedisError):
                        self._show(views.snapshot(store), live)
                self._stopping.wait(TICK_S)

    def _show(self, snapshot: views.Snapshot, live: Live) -> None:
        if self._say is None:
            live.update(views.render(snapshot), refresh=True)
        else:
            self._say(views.plain(snapshot))

    def _tell(self, line: str) -> None:
        if self._say is None:
            self._console.print(line, markup=False, soft_wrap=True)
        else:
            self._say(line)

    def _warn(self, line: str) -> None:
        if self._say is None:
            self._console.print(line, style="yellow", markup=False, soft_wrap=True)
        else:
            log.warning("%s", line)

    def _mend(self, store: Store, roles: list[Role]) -> bool:
        """Restarts what has died: Redis at once, a role after a delay that grows with each death.

        Returns: whether the learner has ended because the run is finished.
        """
        if self._server is not None and self._server.poll() is not None:
            self._warn("Redis died: restarting it")
            self._server.restart()
        now = time.monotonic()
        for role in roles:
            if role.running or role.process is None:
                continue
            if role.due == 0.0:
                status = role.process.poll()
                if status == 0 and _over(store):
                    if role.kind == "learner":
                        return True
                    continue
                if not role.needed:
                    if status:
                        self._warn(f"{role.name} died, the run continues: {self._tail(role, 1)}")
                    role.process = None
                    continue
                if status == SetupError.status:
                    raise SetupError(f"{role.name} cannot run: {self._tail(role, 1).rpartition('error: ')[2]}")
                doing = f", playing {self._config.environment.substrate}" if role.kind == "actor" else ""
                if role.died(now):
                    times = f"{FAST_DEATHS} times within a minute"
                    raise SetupError(f"{role.name} died {times}{doing}; the end of its log:\n{self._tail(role, 8)}")
                how = "exited" if status == 0 else f"died (status {status})"
                self._warn(f"{role.name} {how}{doing}: restarting it in {role.due - now:.0f} s")
            elif now >= role.due:
                role.due = 0.0
                role.start(self._folder.logs)
                with contextlib.suppress(BidistError, redis.RedisError):
                    store.put_event("supervisor", role.name, "restart")
        return False

    def _leave(self, store: Store, roles: list[Role]) -> None:
        for kind, timeout_s in LEAVE_S.items():
            leaving = [role for role in roles if role.kind == kind]
            if kind == "record" and _over(store):
                self._await_last_film(leaving)
            for role in leaving:
                role.stop()
            for role in leaving:
                role.wait(timeout_s)

    def _await_last_film(self, filming: list[Role]) -> None:
        """Waits until a finished run's last checkpoint has been filmed, after which the role ends by itself."""
        deadline = time.monotonic() + LAST_FILM_S
        for role in filming:
            if role.running and not self._stopping.is_set():
                self._tell("filming the last checkpoint; press Ctrl-C to skip it")
            while role.running and time.monotonic() < deadline and not self._stopping.wait(TICK_S):
                pass

    def _tail(self, role: Role, count: int) -> str:
        lines = (self._folder.logs / f"{role.name}.log").read_text(errors="replace").splitlines()
        return "\n".join(lines[-count:])


def _over(store: Store) -> bool:
    """Returns whether the run's budget is used up, as far as Redis can tell."""
    try:
        return store.finished
    except (BidistError, redis.RedisError):
        return False


def _environment(threads: int, url: str, allowed: list[str]) -> Mapping[str, Any]:
    """Returns a child's environment: libraries get as many threads as the role has, and idle ones do not spin.

    Redis' URL may hold a password, which anyone could read on a command line. On one machine roles need no keys, and
    cannot share a port for probes.
    """
    names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
    secrets = {REDIS_VARIABLE: url, PASSWORD_VARIABLE: "", KEYS_VARIABLE: "", ALLOW_VARIABLE: ",".join(allowed)}
    unset = {HEALTH_VARIABLE: ""}
    idle = {"OMP_WAIT_POLICY": "PASSIVE", "PYTHONUNBUFFERED": "1"}
    return {**os.environ, **dict.fromkeys(names, str(threads)), **idle, **secrets, **unset}
