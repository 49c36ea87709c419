"""What the exporter and the dashboard say of a Redis that is frozen, takes no writes, moves or stops."""

import asyncio
import os
import signal
import threading
from collections.abc import AsyncGenerator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from fake_runs import LiveRun, write_run
from scraping import scraped
from waiting import until

from common.connection import refusal
from common.run_folder import RunFolder
from common.store import Store
from dashboard.app import Dashboard
from dashboard.catalogue import Catalogue
from dashboard.feed import Feed, Message
from dashboard.metrics import SERVER
from dashboard.source import Address
from deploy.redis_server import RedisServer

NO_MEMORY, REPLICA = ("CONFIG", "SET", "maxmemory", "1"), ("REPLICAOF", "127.0.0.1", "1")


@pytest.mark.slow
def test_a_frozen_redis_is_down_before_prometheus_gives_up(tmp_path: Path) -> None:
    with RedisServer(tmp_path / "redis") as server, ThreadPoolExecutor(2) as threads:
        LiveRun(Store(server.url, "run"), tmp_path).advance(2)
        assert server.pid is not None
        os.kill(server.pid, signal.SIGSTOP)
        try:
            asking = threading.Thread(target=refusal, args=(server.url,))  # gives up after five seconds
            asking.start()
            for found in threads.map(lambda _: scraped(server.url, "run"), range(2)):
                assert found["bidist_redis_up"] == {(): 0} and found.keys() <= SERVER.keys()
            assert asking.is_alive()
            asking.join()
        finally:
            os.kill(server.pid, signal.SIGCONT)
        until(lambda: scraped(server.url, "run")["bidist_redis_up"] == {(): 1})


@pytest.mark.parametrize("spoil", [NO_MEMORY, REPLICA], ids=["out of memory", "read-only"])
def test_a_redis_that_takes_no_writes_is_a_metric_and_no_missing_role(tmp_path: Path, spoil: tuple[str, ...]) -> None:
    with RedisServer(tmp_path / "redis") as server:
        run = LiveRun(Store(server.url, "run"), tmp_path)
        run.advance(2)
        assert scraped(server.url, "run")["bidist_redis_writable"] == {(): 1}
        run.store.client.delete(*run.store.client.keys(run.store.key("worker:*")))  # as they expire
        run.store.client.execute_command(*spoil)
        found = scraped(server.url, "run")
        assert found["bidist_redis_up"] == {(): 1} and found["bidist_redis_writable"] == {(): 0}
        if spoil == REPLICA:  # without memory, Redis refuses to read the ledger
            assert found["bidist_run_state"]["running",] == 1 and set(found["bidist_role_missing"].values()) == {0}


async def message(messages: AsyncGenerator[Message, None], name: str, **fields: Any) -> dict[str, Any]:
    """The next message of some name in which fields have some values."""
    while True:
        found, data = await asyncio.wait_for(anext(messages), 60)
        if found == name and all(data[field] == value for field, value in fields.items()):
            return data


@pytest.mark.parametrize(
    ("spoil", "name", "words"),
    [(NO_MEMORY, "away", "Redis is out of memory"), (REPLICA, "frame", "Redis is a replica")],
    ids=["out of memory", "read-only"],
)
def test_a_feed_says_what_is_wrong_with_redis(tmp_path: Path, spoil: tuple[str, ...], name: str, words: str) -> None:
    with RedisServer(tmp_path / "redis") as server:
        run = LiveRun(Store(server.url, "run"), tmp_path)
        run.advance(2)

        async def watch() -> None:
            messages = Feed(lambda: Address(server.url, "run"), tick_s=0.05).messages()
            assert (await message(messages, "frame"))["trouble"] is None
            run.store.client.delete(run.store.key("worker:learner:learner"))
            run.store.client.execute_command(*spoil)
            told = {"trouble": None}
            while told["trouble"] is None:
                told = await message(messages, name)
            assert words in told["trouble"]
            assert name == "away" or (told["missing"], told["halted"], told["rate"]) == ([], "", None)
            await messages.aclose()

        asyncio.run(watch())


def test_an_open_page_follows_a_resumed_run_to_another_server(tmp_path: Path) -> None:
    folder = write_run(tmp_path, "run", updates=5, finished=False)
    dashboard = Dashboard(tmp_path, tmp_path / "none")

    async def watch() -> None:
        with RedisServer(tmp_path / "first") as server:
            LiveRun(Store(server.url, "run"), tmp_path).advance(5)
            folder.put_url(server.url)
            messages = (await dashboard._feed("run")).messages()
            await message(messages, "frame", updates=5)
        await message(messages, "away")
        with RedisServer(tmp_path / "second") as server:
            LiveRun(Store(server.url, "run"), tmp_path).advance(7)
            folder.put_url(server.url)
            dashboard.catalogue.scan()
            await message(messages, "frame", updates=7, server=server.url)
            await messages.aclose()

    asyncio.run(watch())


def test_a_run_whose_redis_has_gone_was_stopped_unless_its_train_goes_on(tmp_path: Path) -> None:
    folder = write_run(tmp_path, "run", updates=5, finished=False)

    async def watch() -> None:
        with RedisServer(tmp_path / "redis") as server:
            LiveRun(Store(server.url, "run"), tmp_path).advance(5)
            messages = Feed(lambda: Address(server.url, "run"), folder.path, tick_s=0.05).messages()
            with folder.held("train"):
                await message(messages, "frame")
                server.stop()
                await message(messages, "away", ended="")
            await message(messages, "away", ended="stopped")
            await messages.aclose()

    asyncio.run(watch())


def test_a_run_is_finished_when_redis_says_so_or_its_steps_are_spent(tmp_path: Path) -> None:
    write_run(tmp_path, "run", updates=976, finished=False)
    write_run(tmp_path, "spent", updates=977, finished=False)
    with RedisServer(tmp_path / "redis") as server:
        run = LiveRun(Store(server.url, "run"), tmp_path)
        run.advance(2)
        catalogue = Catalogue(tmp_path, server.url)

        def row(name: str) -> tuple[Any, ...]:
            catalogue.scan()
            return tuple(catalogue.rows[name].get(key) for key in ("live", "state", "finished"))

        assert row("run") == (True, "running", False) and row("spent") == (None, None, True)
        for state in ("stopped", "finished"):
            run.store.put_progress({"state": state})
            assert row("run") == (True, state, state == "finished")
        run.store.client.flushall()
        assert row("run") == (None, None, False)


def test_a_run_that_is_starting_is_live_before_its_learner_has_come(tmp_path: Path) -> None:
    folder = write_run(tmp_path, "run", updates=0, finished=False)
    with RedisServer(RunFolder(folder.path).redis) as server:
        folder.put_url(server.url)
        catalogue = Catalogue(tmp_path)
        catalogue.scan()
        assert "live" not in catalogue.rows["run"]
        Store(server.url, "run").put_progress({"state": "starting"})
        catalogue.scan()
        assert catalogue.rows["run"]["live"] and catalogue.rows["run"]["state"] == "starting"
