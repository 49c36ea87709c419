"""`bidist bench watching`: what a dashboard with a viewer and an exporter that is scraped cost a run.

A run trains under `bidist train`, in turn for a while with nobody looking and for a while watched by both.
"""

import contextlib
import statistics
import subprocess
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import psutil

from common.cores import core_count
from common.errors import ConfigError, SetupError
from common.store import Store
from deploy.processes import bidist, with_parent
from deploy.redis_server import RedisServer
from reports.provenance import write_json

RUN, ENDLESS, START_S, SCRAPE_S = "watched", 10**12, 180.0, 15.0


def run(substrate: str, seconds: float, rounds: int, out: Path | None, settings: Sequence[str] = ()) -> int:
    """Measures both in turn; prints the ratio of the rates, and the share of the machine that the watchers use.

    Args:
      substrate: the game.
      seconds: length of each measurement.
      rounds: how often both are measured.
      out: JSON file for the figures; None writes none.
      settings: of the run, as `section.key=value`.

    Raises:
      ConfigError: if a number is not positive.
      SetupError: if something does not start.
    """
    if seconds <= 0 or rounds < 1:
        raise ConfigError(f"--seconds {seconds:g} --rounds {rounds}: both must be positive")
    alone, watched, shares = list[float](), list[float](), list[float]()
    with tempfile.TemporaryDirectory(prefix="bidist-watching-") as name, RedisServer(Path(name) / "redis") as server:
        store = Store(server.url, RUN)
        train = ["train", "--run", RUN, "--folder", name, "--redis", server.url, "--steps", str(ENDLESS)]
        options = ["--substrate", substrate, *(f"--set={text}" for text in settings)]
        with _running([*train, *options], subprocess.DEVNULL) as training:
            _until(lambda: len(store.stream("metrics", 4)) > 3, "the run to train", training)
            for _ in range(rounds):
                alone.append(_rate(store, seconds))
                with _watching(name, server.url) as watchers:
                    before = _cpu_s(watchers)
                    watched.append(_rate(store, seconds))
                    shares.append((_cpu_s(watchers) - before) / seconds / core_count())
                rates = f"{alone[-1]:,.0f} player steps/s alone, {watched[-1]:,.0f} watched"
                print(f"{rates}; the watchers use {shares[-1]:.2%} of the cores", flush=True)
    ratios = [after / before for before, after in zip(alone, watched, strict=True)]
    print(f"median ratio {statistics.median(ratios):.3f}, median share {statistics.median(shares):.2%}")
    if out is not None:
        command = f"bidist bench watching --substrate {substrate} --seconds {seconds:g} --rounds {rounds}"
        figures = {"alone_player_steps_per_s": alone, "watched_player_steps_per_s": watched, "ratios": ratios}
        write_json(out, {"command": command, **figures, "watchers_share_of_cores": shares})
    return 0


def _rate(store: Store, seconds: float) -> float:
    """Returns player steps per second between the first and the last update in a span of time."""
    start = time.time()
    time.sleep(seconds)
    updates = [(at, float(fields["player_steps"])) for at, fields in store.stream("metrics", 10_000) if at >= start]
    if len(updates) < 2:
        raise ConfigError(f"--seconds {seconds:g}: too short for two updates of this run")
    (first_at, first), (last_at, last) = updates[0], updates[-1]
    return (last - first) / (last_at - first_at)


@contextlib.contextmanager
def _watching(folder: str, url: str) -> Iterator[list[psutil.Process]]:
    """Starts a dashboard with a viewer, and an exporter that is scraped as by Prometheus; yields their processes."""
    ending = threading.Event()
    dashboard = ["dashboard", folder, "--results", folder, "--redis", url, "--port", "0"]
    with _running(dashboard) as page, _running(["exporter", "--redis", url, "--port", "0"]) as exporter:
        viewer = threading.Thread(target=_view, args=(f"{_address(page)}events?run={RUN}", ending))
        scraper = threading.Thread(target=_scrape, args=(_address(exporter), ending))
        viewer.start()
        scraper.start()
        try:
            yield [psutil.Process(process.pid) for process in (page, exporter)]
        finally:
            ending.set()
            viewer.join()
            scraper.join()


def _view(address: str, ending: threading.Event) -> None:
    with urllib.request.urlopen(address, timeout=START_S) as stream:
        while not ending.is_set() and stream.readline():
            pass


def _scrape(address: str, ending: threading.Event) -> None:
    while not ending.wait(SCRAPE_S):
        urllib.request.urlopen(address, timeout=START_S).read()


def _cpu_s(processes: Sequence[psutil.Process]) -> float:
    return sum(sum(process.cpu_times()[:2]) for process in processes)


def _address(process: "subprocess.Popen[str]") -> str:
    """Returns the address in the first line that a server prints, once it answers there."""
    assert process.stdout is not None
    address = next((word for word in process.stdout.readline().split() if word.startswith("http")), None)
    if address is None:
        raise SetupError("the dashboard or the exporter did not start")
    _until(lambda: _answers(address), address, process)
    return address


def _answers(address: str) -> bool:
    try:
        return bool(urllib.request.urlopen(address, timeout=START_S).status == 200)
    except urllib.error.URLError:
        return False


@contextlib.contextmanager
def _running(arguments: Sequence[str], out: int = subprocess.PIPE) -> Iterator["subprocess.Popen[str]"]:
    command = with_parent(bidist(*arguments))
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, text=True) as process:
        try:
            yield process
        finally:
            process.terminate()


def _until(condition: Callable[[], bool], what: str, process: "subprocess.Popen[str]") -> None:
    deadline = time.monotonic() + START_S
    while not condition():
        if process.poll() is not None or time.monotonic() > deadline:
            raise SetupError(f"waited in vain for {what}, up to {START_S:.0f} s")
        time.sleep(0.2)
