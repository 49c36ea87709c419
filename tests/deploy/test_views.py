"""What the views show of a run in each of its states."""

import io
import re
import threading
from pathlib import Path

import pytest
from rich.console import Console
from rich.live import Live
from serial_runs import configuration

from common.errors import StoreError
from common.run_folder import RunFolder
from common.store import Store
from deploy import views, watching
from deploy.redis_server import RedisServer
from deploy.serial import Serial
from deploy.supervisor import Supervisor


def shown(store: Store) -> str:
    console = Console(width=120)
    with console.capture() as captured:
        console.print(views.render(views.snapshot(store)))
    return captured.get()


@pytest.fixture
def run(redis_url: str, tmp_path: Path) -> Store:
    """A run of a few updates whose roles have stopped."""
    small = ["environment.episode_length=4", "actor.environments=4", "actor.unroll_length=4", "learner.batch_unrolls=4"]
    config = configuration(tmp_path, tmp_path.name, *small, "distiller.every=2")
    RunFolder.of(config.run).create(config)
    with Serial(config, redis_url) as serial:
        for _ in range(9):
            serial.update()
        return serial.store


def test_before_the_first_update(store: Store) -> None:
    assert "starting" in shown(store)
    assert "starting" in views.plain(views.snapshot(store))


def test_who_is_not_there_before_the_first_update_is_named(store: Store, tmp_path: Path) -> None:
    store.put_config(configuration(tmp_path, store.run))
    store.put_worker("learner", "learner", {"state": "learning"}, ttl_s=60)
    store.put_worker("actor", "0", {"state": "waiting"}, ttl_s=60)
    store.put_progress({"state": "running"})
    assert "learner learning; no distiller yet; waiting for the first update" in views.plain(views.snapshot(store))
    store.put_worker("distiller", "distiller", {"state": "waiting"}, ttl_s=60)
    assert "yet" not in views.plain(views.snapshot(store))


def test_a_distiller_that_only_publishes_phi_is_missed_too(store: Store, tmp_path: Path) -> None:
    store.put_config(configuration(tmp_path, store.run, "method.name=bidist-no-distillation"))
    store.put_progress({"state": "running"})
    assert views.snapshot(store).missing() == ["learner", "actor", "distiller"]


def test_one_screen_shows_everything(run: Store) -> None:
    text = shown(run)
    rows = ("player steps", "learning", "policy lag", "versions (min/mean/max)", "queue", "waiting")
    for words in (*rows, "event 4, reverse: KL", "nats", "ledger, unrolls", "= trained 36 +"):
        assert words in text, words
    assert re.search("player steps .* 288 of 20,000,000", text) and re.search("env steps +144 of 10,000,000", text)
    line = views.plain(views.snapshot(run))
    assert "\n" not in line
    for words in ("player steps", "return", "lag", "entropy", "reverse 4 KL"):
        assert words in line, words


def test_the_supervisor_says_the_line_where_there_is_no_terminal(run: Store, tmp_path: Path) -> None:
    said: list[str] = []
    supervisor = Supervisor(configuration(tmp_path, "said"), 1, None, threading.Event(), say=said.append)
    supervisor._show(views.snapshot(run), Live(auto_refresh=False))
    assert said == [views.plain(views.snapshot(run))]


def test_missing_roles_are_named_while_the_run_is_running(run: Store) -> None:
    assert "is missing" not in shown(run)  # it has stopped, so no role is expected
    run.put_progress({"state": "running"})
    text = shown(run)
    assert all(f"{role} is missing" in text for role in ("learner", "actor", "distiller"))
    assert "distiller is missing" in views.plain(views.snapshot(run))


def test_without_a_learner_no_view_tells_of_progress(run: Store) -> None:
    run.put_progress({"state": "running", "player_steps_per_s": 123})
    run.put_queue({"unrolls": 1, "bottleneck": "the actors wait for the learner, which is busy 82% of its time"})
    for text in (" ".join(shown(run).split()), views.plain(views.snapshot(run))):
        assert "learner is missing: nothing is trained until it is back" in text
        assert "123" not in text and "left" not in text and "busy 82%" not in text
    run.put_worker("learner", "learner", {"state": "starting"}, ttl_s=60)
    for text in (shown(run), views.plain(views.snapshot(run))):
        assert "learner is starting: nothing is trained until it is ready" in text and "123" not in text
    run.put_worker("learner", "learner", {"state": "learning"}, ttl_s=60)
    for text in (shown(run), views.plain(views.snapshot(run))):
        assert "nothing is trained" not in text and "123" in text and "left" in text
    assert "busy 82%" in shown(run)


def test_what_the_learner_dropped_is_shown_by_reason(run: Store) -> None:
    assert "dropped messages" not in shown(run)
    run.put_queue({"malformed_reasons": "frames 2, key 3"})
    assert "dropped messages and refused keys, by reason: frames 2, key 3" in shown(run)


def test_watch_ends_with_the_run(run: Store, redis_url: str) -> None:
    ended = threading.Event()

    def watch() -> None:
        assert watching.watch(redis_url, run.run, Path()) == 0
        ended.set()

    run.put_progress({"state": "running"})
    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    assert not ended.wait(1.5)
    run.put_progress({"state": "finished"})
    assert ended.wait(30)


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (["CONFIG", "SET", "maxmemory", "1"], "Redis is out of memory"),
        (["REPLICAOF", "127.0.0.1", "1"], "Redis is a replica and takes no writes"),
        (["FLUSHALL"], "Redis has no data of this run, or has lost it"),
    ],
    ids=["out of memory", "read-only", "empty"],
)
def test_trouble_with_redis_is_reported(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], spoil: list[str], words: str
) -> None:
    config = configuration(tmp_path, "spoilt")
    folder = RunFolder.of(config.run)
    folder.create(config)
    with RedisServer(folder.redis) as server:
        folder.put_url(server.url)
        store = Store(server.url, "spoilt")
        store.put_config(config)
        assert watching.trouble(store) is None
        store.client.execute_command(*spoil)
        assert words in (watching.trouble(store) or "")
        if spoil[0] == "CONFIG":
            with pytest.raises(StoreError, match=words):
                watching.status(None, "spoilt", tmp_path)
        else:
            assert watching.status(None, "spoilt", tmp_path) == 0
            assert words in capsys.readouterr().out
    with folder.held("train"), pytest.raises(StoreError, match=r"is running, but its Redis is away: .*wait for up to"):
        watching.status(None, "spoilt", tmp_path)
    assert watching.status(None, "spoilt", tmp_path) == 0
    assert "not running" in capsys.readouterr().out


@pytest.mark.slow
def test_watch_keeps_running_while_redis_is_away(tmp_path: Path) -> None:
    config, seen = configuration(tmp_path, "away"), io.StringIO()
    with RedisServer(tmp_path / "redis") as server:
        Store(server.url, "away").put_config(config)
        ended = threading.Event()

        def watch() -> None:
            assert watching.watch(server.url, "away", Path(), Console(file=seen, force_terminal=True)) == 0
            ended.set()

        thread = threading.Thread(target=watch, daemon=True)
        thread.start()
        assert not ended.wait(1.5)
        server.stop()
        assert not ended.wait(4), "it waits for Redis"
        server.start()
        Store(server.url, "away").put_progress({"state": "finished"})
        assert ended.wait(30)
    assert "was unreachable" in seen.getvalue()


def test_a_sparkline_spans_lowest_to_highest() -> None:
    assert views._sparkline([1.0]) == ""
    assert views._sparkline([0.0, 1.0, 2.0]) == "▁▄█"
    assert views._sparkline([3.0, 3.0]) == "▁▁"
    assert len(views._sparkline(list(map(float, range(100))), 30)) <= 30
