"""All known runs: every run folder below a root, and every run on a Redis server."""

import asyncio
import os
from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing
from pathlib import Path

from common.errors import BidistError
from dashboard import source
from dashboard.shared import Shared
from dashboard.source import AWAY, Address, Facts, RunReader
from dashboard.state import Row, number

TICK_S = 3.0
DEEPEST = 4
FILMS = (".mp4", ".gif", ".webm")


class Catalogue(Shared):
    """All runs, refreshed every few seconds while someone watches; unchanged folders are not read again.

    Args:
      root: the folder to search; may be missing.
      url: of a Redis server whose runs are listed too.
      tick_s: seconds between readings.

    Attributes:
      rows: each run's row by its id: the path below the root, or `@name` for a run that only Redis knows.
      addresses: the Redis address of each run whose server has ever answered.
      folders: each run's folder by its id.
    """

    def __init__(self, root: Path, url: str | None = None, tick_s: float = TICK_S) -> None:
        super().__init__(tick_s)
        self.root, self.url = root.resolve(), url
        self.rows: dict[str, Row] = {}
        self.addresses: dict[str, Address] = {}
        self.folders: dict[str, Path] = {}
        self._known: dict[str, tuple[object, Row]] = {}
        self._readers: dict[Address, RunReader] = {}

    async def messages(self) -> AsyncGenerator[tuple[str, Row], None]:
        """Yields all rows first, then changed rows and the ids of removed ones."""
        sent: dict[str, Row] | None = None
        async with aclosing(self.turns()) as turns:
            async for _ in turns:
                rows, before = self.rows, sent or {}
                changed = [row for name, row in rows.items() if before.get(name) != row]
                gone = [name for name in before if name not in rows]
                if changed or gone or sent is None:
                    yield "runs", {"changed": changed, "gone": gone, "folder": str(self.root)}
                sent = dict(rows)

    async def read(self) -> None:
        """Reads everything once."""
        await asyncio.to_thread(self.scan)

    def scan(self) -> None:
        """Looks for runs, on disk and in Redis."""
        self.folders = {_name(self.root, folder): folder for folder in run_folders(self.root)}
        rows = {name: self._row(name, folder) for name, folder in self.folders.items()}
        alive = self._alive()
        for name, (address, facts) in alive.items():
            self.addresses[name] = address
            row = rows.get(name) or {"id": name, "name": address.run, **_summary(facts)}
            rows[name] = {**row, "live": True, "state": facts.state, "finished": facts.finished}
        self._readers = {address: self._readers[address] for address, _ in alive.values()}
        self.rows = rows

    def _row(self, name: str, folder: Path) -> Row:
        seen = source.signature(folder)
        if name not in self._known or self._known[name][0] != seen:
            self._known[name] = seen, described(name, folder)
        films = sum(path.suffix in FILMS for path in folder.iterdir())
        return {**self._known[name][1], "films": films}

    def _alive(self) -> dict[str, tuple[Address, Facts]]:
        """Returns the runs currently on a Redis server, by id: their addresses, and what the server has of them."""
        answers: dict[str, bool] = {}
        found: dict[str, tuple[Address, Facts]] = {}
        for name, folder in self.folders.items():
            if (address := source.address_in(folder)) is not None:
                if address.url not in answers:
                    answers[address.url] = address.refusal() is None
                if answers[address.url] and (facts := self._facts(address)) is not None:
                    found[name] = address, facts
        if self.url is not None:
            shown = {address for address, _ in found.values()}
            for run in source.names(self.url):
                address = Address(self.url, run)
                if address not in shown and (facts := self._facts(address)) is not None:
                    here = [n for n, f in self.folders.items() if f.name == run and not source.summarised(f)]
                    name = here[0] if len(here) == 1 and here[0] not in found else f"@{run}"
                    found[name] = address, facts
        return found

    def _facts(self, address: Address) -> Facts | None:
        reader = self._readers.setdefault(address, RunReader(address))
        try:
            return reader.facts()
        except AWAY:
            return None


def run_folders(root: Path) -> Iterator[Path]:
    """Returns folders that hold a configuration, including trials of sweeps; does not descend into runs."""
    for place, folders, files in os.walk(root):
        path = Path(place)
        if "config.yaml" in files:
            folders.clear()
            yield path
        elif len(path.relative_to(root).parts) >= DEEPEST:
            folders.clear()
        else:
            folders[:] = sorted(folder for folder in folders if not folder.startswith("."))


def described(name: str, folder: Path) -> Row:
    """Returns a run's row in the table; `error` says why its folder cannot be read."""
    row: Row = {"id": name, "name": folder.name, "group": str(Path(name).parent) if "/" in name else ""}
    try:
        return row | _summary(source.facts(folder))
    except (BidistError, OSError) as error:
        return row | {"error": str(error)}


def _summary(facts: Facts) -> Row:
    """Returns what a row says of a run, from its folder or from Redis."""
    config = facts.config
    named: Row = {}
    if config is not None:
        named = {"method": config.method.name, "game": config.environment.substrate, "seed": config.run.seed}
        named["budget"] = config.run.player_steps
    return named | {
        "player_steps": number(facts.last.get("player_steps")) or 0,
        "updates": number(facts.last.get("updates")) or 0,
        "time_s": number(facts.last.get("time_s")),
        "return": number(facts.returns),
        "scenarios": len(facts.scenarios),
        "episodes": sum(facts.scenarios.values()),
        "finished": facts.finished,
    }


def _name(root: Path, folder: Path) -> str:
    return folder.name if folder == root else folder.relative_to(root).as_posix()
