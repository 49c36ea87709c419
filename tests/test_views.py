"""What the views say of a run, in all its states."""

import re
import threading
from pathlib import Path

import pytest
from rich.console import Console

from common.run_folder import RunFolder
from common.settings import load_config
from common.store import Store
from deploy import views
from deploy.serial import Serial


def shown(store: Store) -> str:
    console = Console(width=120)
    with console.capture() as captured:
        console.print(views.render(views.snapshot(store)))
    return captured.get()


@pytest.fixture
def run(redis_url: str, tmp_path: Path) -> Store:
    """A run of a few updates whose roles have left."""
    config = load_config(
        overrides=[
            "environment.substrate=matrix_coordination", "environment.episode_length=4", f"run.name={tmp_path.name}",
            f"run.folder={tmp_path}", "actor.environments=4", "actor.unroll_length=4", "learner.batch_unrolls=4",
            "distiller.every=2", "distiller.burn_in=1", "network.dense=8", "network.core_size=8",
        ],
        environ={},
    )  # fmt: skip
    RunFolder.of(config.run).create(config)
    with Serial(config, redis_url) as serial:
        for _ in range(25):
            serial.update()
        return serial.store


def test_before_the_first_update(store: Store) -> None:
    assert "starting" in shown(store)
    assert "starting" in views.plain(views.snapshot(store))


def test_one_screen_has_it_all(run: Store) -> None:
    text = shown(run)
    for words in ("player steps", "learning", "policy lag", "versions (min/mean/max)", "queue", "waiting",
                  "event 12, reverse: KL", "nats", "ledger, unrolls", "= trained 100 +"):  # fmt: skip
        assert words in text, words
    assert re.search("player steps .* 800 of 20,000,000", text) and re.search("env steps +400 of 10,000,000", text)
    line = views.plain(views.snapshot(run))
    assert "\n" not in line
    for words in ("player steps", "return", "lag", "entropy", "reverse 12 KL"):
        assert words in line, words


def test_who_is_away_is_said_while_the_run_goes_on(run: Store) -> None:
    assert "is away" not in shown(run)  # it has stopped: nobody is expected
    run.put_progress({"state": "running"})
    text = shown(run)
    assert all(f"{role} is away" in text for role in ("learner", "actor", "distiller"))
    assert "distiller is away" in views.plain(views.snapshot(run))


def test_watch_ends_with_the_run(run: Store, redis_url: str) -> None:
    ended = threading.Event()

    def watch() -> None:
        assert views.watch(redis_url, run.run, Path()) == 0
        ended.set()

    run.put_progress({"state": "running"})
    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    assert not ended.wait(1.5)
    run.put_progress({"state": "finished"})
    assert ended.wait(30)


def test_a_sparkline_spans_lowest_to_highest() -> None:
    assert views._sparkline([1.0]) == ""
    assert views._sparkline([0.0, 1.0, 2.0]) == "▁▄█"
    assert views._sparkline([3.0, 3.0]) == "▁▁"
    assert len(views._sparkline(list(map(float, range(100))), 30)) <= 30
