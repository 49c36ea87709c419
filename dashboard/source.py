"""The data source: the only module here that reads Redis, run folders and results.

Times are in seconds since 1970.
"""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import redis

from common.config import Config
from common.connection import connect, refusal, shown
from common.errors import BidistError
from common.files import is_locked, read_lines
from common.run_folder import RunFolder, renamed, training_return
from common.store import Store, runs
from deploy.views import Snapshot, snapshot
from deploy.watching import trouble, unwritable
from evaluator.results import rows_of

AWAY = (BidistError, redis.RedisError, OSError)
"""What a read may raise while Redis is away."""
PATIENCE_S = 1.0
"""How long to retry a broken connection: a viewer should report that Redis is away rather than wait."""
MAX_ENTRIES, FIRST_ENTRIES, NEXT_ENTRIES = 10_000, 100, 4
"""How many entries of a stream to read: at most, at first, and every second after that, which brings one or two."""

Entry = tuple[float, Mapping[str, str]]
"""An entry of a stream: when it was written, and its fields."""


@dataclass(frozen=True)
class Address:
    """Identifies a run: a server and a name."""

    url: str
    run: str

    @property
    def shown(self) -> str:
        """The server's URL without its password."""
        return shown(self.url)

    def refusal(self) -> str | None:
        """Returns why the server does not answer; None if it does."""
        return refusal(self.url)

    def unwritable(self) -> str | None:
        """Returns why the server, which answers, takes no writes; None if it takes them."""
        return unwritable(connect(self.url, patience_s=PATIENCE_S))


class RunReader:
    """Reads one run's state repeatedly, and each entry of its streams once."""

    def __init__(self, address: Address) -> None:
        self._store = Store(address.url, address.run, patience_s=PATIENCE_S)
        self._read: dict[str, tuple[float, int]] = {}

    def trouble(self) -> str | None:
        """Returns what is wrong with a server that answers, and what to do; None if nothing is."""
        return trouble(self._store)

    def facts(self) -> "Facts | None":
        """Returns a summary of the run, without what is damaged; None if the server does not have it."""
        text = self._store.client.get(self._store.key("config"))
        progress = self._store.hash("progress")
        if text is None and not progress:
            return None
        state = progress.get("state", "starting")
        try:
            config = None if text is None else Config.model_validate(json.loads(text))
            last = [{"time_s": time_s, **renamed(fields)} for time_s, fields in self._store.stream("metrics", 1)]
        except (ValueError, RecursionError, redis.ResponseError):
            config, last = None, []
        return Facts(config, last[0] if last else {}, state == "finished", state)

    def snapshot(self) -> Snapshot:
        """Returns the current state."""
        return snapshot(self._store)

    def memory_bytes(self) -> int:
        """Returns the memory used by the whole server."""
        return int(self._store.client.info("memory")["used_memory"])

    def starvation_percent(self) -> float | None:
        """Returns the share of its time that the learner waited for unrolls; None if its report is too old."""
        value = self._store.client.get(self._store.key("starvation"))
        return None if value is None else float(value)

    def new(self, name: str) -> Sequence[Entry]:
        """Returns entries of `metrics` or `events` that have not been read before, oldest first."""
        # Entries may share a millisecond, so the number already read of the last one is remembered with it.
        since, known = self._read.get(name, (0.0, 0))
        count = NEXT_ENTRIES if known else FIRST_ENTRIES
        while True:
            found = self._store.stream(name, count)
            if len(found) < count or found[0][0] < since or count >= MAX_ENTRIES:
                break
            count = min(10 * count, MAX_ENTRIES)
        fresh = [entry for entry in found if entry[0] == since][known:] + [e for e in found if e[0] > since]
        if fresh:
            last = fresh[-1][0]
            self._read[name] = last, sum(time_s == last for time_s, _ in found)
        return [(time_s, renamed(fields)) for time_s, fields in fresh]


def names(url: str) -> list[str]:
    """Returns the names of a server's runs; empty if it does not answer."""
    if refusal(url) is not None:
        return []
    try:
        return runs(connect(url, patience_s=PATIENCE_S))
    except AWAY:
        return []


def summarised(folder: Path) -> bool:
    """Returns whether a folder has the summary that `bidist train` writes at a run's end."""
    return RunFolder(folder).summary.exists()


def address_in(folder: Path) -> Address | None:
    """Returns the Redis address recorded in a run's folder; None if there is none, or the run is finished."""
    run = RunFolder(folder)
    written = run.redis / "url"
    if run.summary.exists() or not written.is_file():
        return None
    return Address(written.read_text().strip(), folder.resolve().name)


def ended(folder: Path) -> str:
    """Returns how a run that `bidist train` started has ended: finished or stopped; empty if it goes on, or may."""
    run = RunFolder(folder)
    try:
        if facts(folder).finished:
            return "finished"
        return "stopped" if run.lock("train").exists() and not is_locked(run.lock("train")) else ""
    except (BidistError, OSError):
        return ""  # its folder cannot be read, or its lock, from here


@dataclass(frozen=True)
class Facts:
    """A summary of a run, from its folder or from Redis."""

    config: Config | None
    last: Mapping[str, Any]
    """The metrics of its last update."""
    finished: bool
    state: str = ""
    """In Redis: starting, running, finishing, finished or stopped."""
    scenarios: Mapping[str, int] = field(default_factory=dict)
    """Episodes played in each official scenario."""

    @property
    def returns(self) -> float | None:
        """The last training return."""
        return self.last.get(training_return([self.last]))


def facts(folder: Path) -> Facts:
    """Reads the summary of a run's folder.

    Raises:
      ConfigError: if its configuration cannot be read.
    """
    run = RunFolder(folder)
    config = run.read_config()
    last = run.last_update()
    steps = last.get("player_steps")
    # Only `bidist train` writes a summary, and only after the games that it plays at the end.
    spent = isinstance(steps, int | float) and steps >= config.run.player_steps
    return Facts(
        config=config,
        last=last,
        finished=spent or run.summary.exists(),
        scenarios=Counter(str(row["scenario"]) for row in evaluation(folder)),
    )


def signature(folder: Path) -> tuple[tuple[int, int], ...]:
    """Returns a value that changes when what `facts` reads changes."""
    run = RunFolder(folder)
    return tuple(
        (stat.st_mtime_ns, stat.st_size) if path.exists() and (stat := path.stat()) else (0, 0)
        for path in (run.config, run.metrics, run.evaluation, run.summary, run.redis / "url")
    )


def metrics(folder: Path) -> list[dict[str, Any]]:
    """Returns a run's metrics, one record per update."""
    return RunFolder(folder).updates()


def distillation(folder: Path) -> list[dict[str, Any]]:
    """Returns a run's distillation events."""
    return read_lines(RunFolder(folder).distillation)


def evaluation(folder: Path) -> list[dict[str, Any]]:
    """Returns a run's episodes in official scenarios; empty if the file holds something else."""
    try:
        return rows_of(RunFolder(folder).evaluation)
    except BidistError:
        return []


def settings(folder: Path) -> dict[str, Any]:
    """Returns a run's configuration as plain values."""
    return dict(RunFolder(folder).read_config().model_dump(mode="json"))


def summary(folder: Path) -> dict[str, Any]:
    """Returns a finished run's summary; empty before."""
    path = RunFolder(folder).summary
    found = json.loads(path.read_text()) if path.exists() else {}
    return found if isinstance(found, dict) else {}


def logs(folder: Path) -> dict[str, Path]:
    """Returns a run's log files by name."""
    return {path.name: path for path in sorted(RunFolder(folder).logs.glob("*.log"))}
