"""The dashboard's table of runs, on disk and in Redis, and its command."""

import json
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from fake_runs import LiveRun, update_of, write_evaluation, write_run

from cli.extras import NEEDED
from cli.main import main
from common.store import Store
from dashboard.catalogue import Catalogue
from dashboard.details import curves, details
from dashboard.history import averaged
from dashboard.source import Address


def test_a_table_of_all_runs_those_of_sweeps_included(tmp_path: Path) -> None:
    write_run(tmp_path, "alone", updates=30, method="mappo", seed=3)
    write_evaluation(write_run(tmp_path / "sweep", "trial", updates=20, finished=False), ["coins_0", "coins_3"])
    catalogue = Catalogue(tmp_path)
    catalogue.scan()
    assert catalogue.rows.keys() == {"alone", "sweep/trial"}
    alone, trial = catalogue.rows["alone"], catalogue.rows["sweep/trial"]
    assert (alone["method"], alone["seed"], alone["player_steps"], alone["finished"]) == ("mappo", 3, 61440, True)
    assert (trial["group"], trial["scenarios"], trial["episodes"], trial["finished"]) == ("sweep", 2, 8, False)
    assert alone["return"] == pytest.approx(update_of(30, 3, alone["return"])["return_learning"], abs=4)


def test_a_run_is_read_again_when_it_changed_and_only_then(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write_run(tmp_path, "one", updates=10)
    catalogue = Catalogue(tmp_path)
    catalogue.scan()
    monkeypatch.setattr("dashboard.source.facts", lambda folder: pytest.fail("nothing has changed"))
    catalogue.scan()
    monkeypatch.undo()
    with folder.metrics.open("a") as file:
        file.write(json.dumps(update_of(11)) + "\n")
    catalogue.scan()
    assert catalogue.rows["one"]["updates"] == 11


def test_a_folder_that_cannot_be_read_says_why(tmp_path: Path) -> None:
    write_run(tmp_path, "good")
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "config.yaml").write_text("run: {nmae: x}")
    catalogue = Catalogue(tmp_path)
    catalogue.scan()
    assert "nmae" in catalogue.rows["bad"]["error"]
    assert "error" not in catalogue.rows["good"]


def test_a_damaged_evaluation_does_not_hide_a_run(tmp_path: Path) -> None:
    folder = write_run(tmp_path, "one")
    folder.evaluation.write_text('{"something": "else"}\n')
    catalogue = Catalogue(tmp_path)
    catalogue.scan()
    assert catalogue.rows["one"]["scenarios"] == 0
    assert details("one", folder.path)["scenarios"] == []


def test_a_film_is_recorded_from_the_folder_wherever_the_run_is(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "a sweep", "trial")
    assert details("a sweep/trial", folder.path)["record"] == f"bidist record '{tmp_path}/a sweep/trial'"


def test_curves_are_means_over_stretches_and_leave_out_what_is_missing(tmp_path: Path) -> None:
    rows = [{"x": float(i), "y": None if i % 2 else 10.0} for i in range(1000)]
    found = averaged(rows, ("x", "y"), points=10)
    assert found["x"] == [pytest.approx(49.5 + 100 * i) for i in range(10)]
    assert found["y"] == [10.0] * 10
    folder = write_run(tmp_path, "long", updates=2000)
    assert len(curves(folder.path)["player_steps"]) == 600
    folder.metrics.write_text('{"player_steps": 1, "updates": 1, "return_learning": NaN}\n')
    assert curves(folder.path)["return_learning"] == [None]


def test_a_run_of_a_named_server_is_joined_with_its_folder(redis_url: str, tmp_path: Path) -> None:
    store = Store(redis_url, f"joined-{os.getpid()}")
    LiveRun(store, tmp_path).advance(2)
    try:
        catalogue = Catalogue(tmp_path, redis_url)
        catalogue.scan()
        row = catalogue.rows[f"@{store.run}"]
        assert (row["name"], row["live"], row["state"], row["finished"]) == (store.run, True, "running", False)
        assert (row["method"], row["game"], row["seed"]) == ("bidist", "matrix_coordination", 0)
        assert (row["player_steps"], row["budget"], row["updates"]) == (4096, 2_000_000, 2)
        assert row["return"] == pytest.approx(update_of(2)["return_learning"])
        write_run(tmp_path, store.run, finished=False)
        catalogue.scan()
        assert catalogue.rows[store.run]["live"] and f"@{store.run}" not in catalogue.rows
        assert catalogue.addresses[store.run] == Address(redis_url, store.run)
    finally:
        store.client.delete(*store.client.keys(store.key("*")))


def test_a_run_that_bidist_train_started_is_found_by_its_folder(redis_url: str, tmp_path: Path) -> None:
    store = Store(redis_url, f"found-{os.getpid()}")
    LiveRun(store, tmp_path).advance(2)
    folder = write_run(tmp_path, store.run, finished=False)
    folder.redis.mkdir()
    (folder.redis / "url").write_text(f"{redis_url}\n")
    try:
        catalogue = Catalogue(tmp_path)
        catalogue.scan()
        assert catalogue.rows[store.run]["live"]
        (folder.redis / "url").write_text("unix:///nowhere/redis.sock\n")
        catalogue.scan()
        assert "live" not in catalogue.rows[store.run]
    finally:
        store.client.delete(*store.client.keys(store.key("*")))


@pytest.fixture
def taken() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()[1]


def test_what_cannot_be_done_is_one_line(
    tmp_path: Path, taken: int, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("BIDIST_REDIS", raising=False)
    assert main(["dashboard", str(tmp_path / "none")]) == 2
    assert "no such folder" in capsys.readouterr().err
    assert main(["dashboard", str(tmp_path), "--port", str(taken)]) == 2
    assert f"cannot listen on 127.0.0.1:{taken}" in capsys.readouterr().err
    for extra in NEEDED:
        monkeypatch.setitem(NEEDED, extra, ("a_package_that_nobody_has",))
    assert main(["dashboard", str(tmp_path)]) == 2
    assert "pip install 'bidist[dashboard]'" in capsys.readouterr().err
    assert main(["exporter", "--redis", "redis://localhost"]) == 2
    assert "pip install 'bidist[metrics]'" in capsys.readouterr().err
