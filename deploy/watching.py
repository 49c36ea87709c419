"""`bidist status` and `bidist watch`: a run's screen once or live, and what is wrong with its Redis."""

import contextlib
import json
import time
from pathlib import Path
from typing import Any

import redis
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.text import Text

from common.connection import connect, refusal, shown
from common.errors import ConfigError, StoreError
from common.files import is_locked
from common.run_folder import RunFolder
from common.store import Store, runs
from deploy.views import number, render, snapshot

TICK_S, PATIENCE_S = 1.0, 1.0
WAITING = "its roles wait for up to 60 s"
FILES = ("aof_last_write", "aof_last_bgrewrite", "rdb_last_bgsave")
"""What a server writes to its disk."""


def status(url: str | None, run: str | None, folder: Path) -> int:
    """Prints one screen; returns 1 if the ledger does not balance."""
    store = _find(url, run, folder)
    if store is None:
        return 0
    wrong = trouble(store)
    try:
        s = snapshot(store)
    except StoreError:
        if wrong is None:
            raise
        raise StoreError(wrong) from None  # a server that is out of memory refuses transactions, even of reads alone
    Console().print(_with(wrong, render(s)))
    return 0 if s.ledger.holds else 1


def watch(url: str | None, run: str | None, folder: Path, console: Console | None = None) -> int:
    """Shows the screen until Ctrl-C or the end of the run; keeps running while Redis is away.

    Args:
      url: Redis' URL; None looks into the run's folder.
      run: the run's name; None takes the newest.
      folder: the folder of all runs.
      console: where to show it; None takes standard output.
    """
    store = _find(url, run, folder)
    if store is None:
        return 0
    screen: RenderableType = Text("")
    with contextlib.suppress(KeyboardInterrupt), Live(console=console, auto_refresh=False) as live:
        while True:
            wrong, s = None, None
            try:
                wrong = trouble(store)
                s = snapshot(store)
                screen = render(s)
            except (StoreError, redis.RedisError) as error:
                wrong = wrong or f"{error}; {WAITING}"
            live.update(_with(wrong, screen), refresh=True)
            if s is not None and s.progress.get("state") == "finished":
                break
            time.sleep(TICK_S)
    return 0


def trouble(store: Store) -> str | None:
    """Returns what is wrong with a Redis that answers, and what to do; None if nothing is."""
    if wrong := unwritable(store.client):
        return wrong
    if not store.client.exists(store.key("config"), store.key("progress")):
        return "Redis has no data of this run, or has lost it: a live learner will republish it"
    return None


def unwritable(client: Any) -> str | None:
    """Returns why a Redis that answers takes no writes, or cannot keep them, and what to do; None if it does both."""
    info: dict[str, Any] = client.info()
    used, most = int(info.get("used_memory", 0)), int(info.get("maxmemory", 0))
    if info.get("role") == "slave":
        return f"Redis is a replica and takes no writes: {WAITING}; make it a primary again (REPLICAOF NO ONE)"
    if most and used >= most:
        return f"Redis is out of memory, {used:,} of {most:,} bytes: {WAITING}; raise its maxmemory"
    if any(info.get(f"{name}_status", "ok") != "ok" for name in FILES):
        return "Redis cannot write its file: is its disk full?"
    return None


def _with(wrong: str | None, screen: RenderableType) -> RenderableType:
    return screen if wrong is None else Group(screen, Text(wrong, style="bold red"))


def _find(url: str | None, run: str | None, folder: Path) -> Store | None:
    """Returns the requested run; if it is not running, prints what its folder contains and returns None."""
    if url is not None:
        if (reason := refusal(url)) is not None:
            raise ConfigError(f"no Redis answers at {shown(url)}: {reason}")
        names = runs(connect(url))
        if not names:
            raise ConfigError(f"Redis at {shown(url)} has no runs")
        if run is None and len(names) != 1:
            raise ConfigError(
                f"Redis at {shown(url)} has {len(names)} runs: choose one with --run ({', '.join(names)})"
            )
        run = run or names[0]
        if run not in names:
            raise ConfigError(f"Redis at {shown(url)} knows no run {run!r}; it knows {', '.join(names)}")
        return Store(url, run, patience_s=PATIENCE_S)
    found = [p for p in folder.glob("*/config.yaml") if run is None or p.parent.name == run]
    if not found:
        raise ConfigError(f"no run {run or ''} in {folder}: give its --folder, or --redis for one that runs elsewhere")
    run_folder = RunFolder(max(found, key=lambda p: p.stat().st_mtime).parent)
    address = run_folder.redis / "url"
    if address.exists():
        url = address.read_text().strip()
        reason = refusal(url)
        if reason is None:
            return Store(url, run_folder.path.name, patience_s=PATIENCE_S)
        if is_locked(run_folder.lock("train")):
            raise StoreError(f"run {run_folder.path.name} is running, but its Redis is away: {reason}; {WAITING}")
    _print_folder(run_folder)
    return None


def _print_folder(folder: RunFolder) -> None:
    from common.checkpoint import checkpoints

    last, saved = folder.last_update(), checkpoints(folder.checkpoints)
    console = Console()
    finished = folder.summary.exists()
    console.print(f"run [bold]{folder.path.name}[/] is {'finished' if finished else 'not running'}")
    if last:
        console.print(f"  {last['player_steps']:,} player steps, return {number(last, 'return_learning')} in training")
    if finished:
        summary = json.loads(folder.summary.read_text())
        for name in ("trained", "random"):
            if (found := summary[name]) is None:
                continue
            interval = f"95% interval {found['low']:.2f} to {found['high']:.2f}, {found['episodes']} episodes"
            console.print(f"  self-play return of the {name} population: {found['mean']:.2f} ({interval})")
        console.print(f"  ledger: {summary['ledger']}")
    console.print(f"  newest checkpoint: {saved[-1] if saved else 'none'}", soft_wrap=True)
    more = " --steps N, with a larger N" if finished else ""
    console.print(f"  resume with: bidist train --resume {folder.named}{more}")
