"""The dashboard's live runs: each watcher sees the past and then everything new, once."""

import asyncio
import time
from collections.abc import AsyncGenerator
from pathlib import Path

import pytest
from fake_runs import LiveRun, distillation_of, update_of

from common.store import Store
from dashboard.app import _stream
from dashboard.feed import Feed, Message
from dashboard.history import MAX_POINTS, History
from dashboard.source import Address, RunReader


def test_new_entries_are_read_once_however_many_share_a_millisecond(store: Store) -> None:
    reader = RunReader(Address(store.url, store.run))
    seen: list[float] = []
    written = 0
    for size in (3, 250, 1, 0, 40):
        for _ in range(size):
            written += 1
            store.put_metrics({"updates": written})
        seen += [float(fields["updates"]) for _, fields in reader.new("metrics")]
    assert seen == list(range(1, written + 1))


def test_a_learner_that_goes_back_takes_its_updates_with_it() -> None:
    history = History()
    history.add(({**update_of(n)} for n in range(1, 11)), [])
    edition = history.edition
    history.add([update_of(8)], [])
    assert [row["updates"] for row in history.updates] == [1, 2, 3, 4, 5, 6, 7, 8]
    assert history.edition > edition, "whoever drew the later ones has to draw again"


def test_a_long_history_is_thinned() -> None:
    history = History()
    history.add(({**update_of(n)} for n in range(1, MAX_POINTS + 100)), [])
    assert len(history.updates) <= MAX_POINTS
    assert history.updates[-1]["updates"] == MAX_POINTS + 99
    distillations = [
        {"time_s": 1.0, "event": "distillation", "distillation": distillation_of(n, n)} for n in range(1, 9)
    ]
    history.add([], distillations)
    assert [row["events"] for row in history.distillations] == list(range(1, 9))


async def following(messages: AsyncGenerator[Message, None], *names: str) -> list[Message]:
    """The next messages of some names, one each, in that order."""
    found: list[Message] = []
    while len(found) < len(names):
        name, data = await asyncio.wait_for(anext(messages), 60)
        if name == names[len(found)]:
            found.append((name, data))
    return found


def test_a_feed_sends_the_past_first_and_then_what_is_new(store: Store, tmp_path: Path) -> None:
    run = LiveRun(store, tmp_path, actors=3)
    run.advance(20)

    async def watch() -> None:
        messages = Feed(lambda: Address(store.url, store.run), tick_s=0.05).messages()
        (_, past), (_, frame) = await following(messages, "history", "frame")
        assert past["curves"]["updates"] == list(range(1, 21)) and len(past["distillations"]) == 4
        assert frame["ledger"]["holds"] and frame["ledger"]["produced"] == 240
        assert sum(frame["ledger"]["terms"].values()) == 240
        assert len(frame["workers"]) == 5 and frame["missing"] == []
        assert frame["distillation"]["events"] == 4 and frame["checkpoint"]["updates"] == "20"
        run.advance(3)
        new: list[float] = []
        while len(new) < 3:
            ((_, frame),) = await following(messages, "frame")
            new += [row["updates"] for row in frame["new"]["updates"]]
        assert new == [21, 22, 23]
        await messages.aclose()

    asyncio.run(watch())


def test_many_watchers_share_one_reader_which_rests_when_they_leave(store: Store, tmp_path: Path) -> None:
    LiveRun(store, tmp_path).advance(5)

    async def watch() -> None:
        feed = Feed(lambda: Address(store.url, store.run), tick_s=0.02)
        readings = 0
        original = feed.read

        async def counted() -> None:
            nonlocal readings
            readings += 1
            await original()

        feed.read = counted  # type: ignore[method-assign]
        watchers = [feed.messages() for _ in range(20)]
        for messages in watchers:
            await following(messages, "history", "frame")
        assert feed.watchers == 20 and readings < 20, "each of twenty would have read for itself"
        for messages in watchers:
            await messages.aclose()
        at_rest = readings
        await asyncio.sleep(0.2)
        assert feed.watchers == 0 and readings <= at_rest + 1
        again = feed.messages()
        (_, past), _ = await following(again, "history", "frame")
        assert past["curves"]["updates"] == [1, 2, 3, 4, 5], "nothing is lost with a reading that was broken off"
        await again.aclose()

    asyncio.run(watch())


def test_a_watcher_who_leaves_in_the_middle_of_a_reading_takes_nothing_along(store: Store, tmp_path: Path) -> None:
    class SlowAddress(Address):
        def refusal(self) -> str | None:
            time.sleep(0.2)
            return super().refusal()

    run = LiveRun(store, tmp_path)
    run.advance(5)

    async def watch() -> None:
        feed = Feed(lambda: SlowAddress(store.url, store.run), tick_s=0.01)
        for _ in range(3):
            messages = feed.messages()
            waiting = asyncio.ensure_future(anext(messages))
            await asyncio.sleep(0.05)
            waiting.cancel()
            await asyncio.gather(waiting, return_exceptions=True)
            await messages.aclose()
            await asyncio.sleep(1)  # the thread ends its reading
            run.advance(2)
        messages = feed.messages()
        (_, past), (_, frame) = await following(messages, "history", "frame")
        assert past["curves"]["updates"] == list(range(1, 12)) and frame["updates"] == 11, (
            "nothing missing, nothing old"
        )
        await messages.aclose()

    asyncio.run(watch())


def test_a_stream_ends_when_the_server_does() -> None:
    async def talk() -> AsyncGenerator[Message, None]:
        yield "runs", {"changed": []}
        await asyncio.sleep(3600)

    async def listen() -> None:
        closing = asyncio.Event()
        stream = _stream([talk()], closing)
        assert await anext(stream) == "retry: 2000\n\n"
        assert await anext(stream) == 'event: runs\ndata: {"changed":[]}\n\n'
        closing.set()
        with pytest.raises(StopAsyncIteration):
            await asyncio.wait_for(anext(stream), 5)

    asyncio.run(listen())
