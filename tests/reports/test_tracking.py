"""Runs reach experiment trackers: what was written is read back, from the trackers' own files."""

import importlib.util
import json
import sqlite3
import struct
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import command
import pytest

from cli.extras import require
from cli.main import main
from common.errors import SetupError
from common.files import append_line, cut_lines
from common.run_folder import RunFolder
from common.settings import load_config
from reports.trackers import Row
from reports.tracking import Tail, track


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    """A run that has made three updates and one distillation event."""
    overrides = ["run.name=tracked", f"run.folder={tmp_path}", "run.player_steps=900", "learner.learning_rate=0.125"]
    folder = RunFolder(tmp_path / "tracked")
    folder.create(load_config(overrides=overrides, environ={}))
    for update in (1, 2, 3):
        line = {"updates": update, "player_steps": 100 * update, "return_learning": update / 2, "value_loss": None}
        append_line(folder.metrics, {"time_s": 1e9 + update, **line})
    event = {"events": 1, "player_steps": 200, "direction": "forward", "kl_after_nats": 0.25}
    append_line(folder.distillation, {"time_s": 1e9 + 2.5, **event})
    return folder


class Notebook:
    """A tracker that keeps what it is sent."""

    pages: dict[str, list[Row]] = {}
    ended: list[object] = []

    def __init__(self, name: str, settings: Any, folder: Path, id: str) -> None:
        self.id = id or f"{name}-{settings['learner.learning_rate']}"

    def __enter__(self) -> "Notebook":
        self.pages.setdefault(self.id, [])
        return self

    def __exit__(self, *error: object) -> None:
        self.ended.append(error[0])

    def log(self, rows: Sequence[Row]) -> None:
        self.pages[self.id] += rows


class UntilTheNextLook(threading.Event):
    """Calls a function while the tracking waits, and then is set."""

    def __init__(self, meanwhile: Any) -> None:
        super().__init__()
        self._meanwhile = meanwhile

    def wait(self, timeout: float | None = None) -> bool:
        self._meanwhile()
        self.set()
        return True


def test_a_run_is_sent_while_it_trains_and_no_row_twice(run: RunFolder) -> None:
    Notebook.pages.clear()

    def resume_from_a_checkpoint_and_train_on() -> None:
        """As a learner does that died after update 3 and continues after update 2."""
        cut_lines(run.metrics, "updates", 2)
        for update in (3, 4):
            append_line(run.metrics, {"time_s": 2e9, "updates": update, "player_steps": 100 * update})
        with run.metrics.open("a") as file:
            file.write('{"updates": 5, "torn')

    assert track(run, "notebook", Notebook, UntilTheNextLook(resume_from_a_checkpoint_and_train_on)) == 5
    (name,) = Notebook.pages
    assert name == "tracked-0.125"
    assert [row.player_steps for row in Notebook.pages[name]] == [100, 200, 300, 200, 400]
    first, _, _, event, _ = Notebook.pages[name]
    assert first.metrics == {"progress/updates": 1, "progress/player_steps": 100, "play/return_learning": 0.5}
    assert event.metrics["learning/kl_after_nats"] == 0.25 and "learning/direction" not in event.metrics
    stopping = threading.Event()
    stopping.set()
    append_line(run.metrics, {"time_s": 3e9, "updates": 6, "player_steps": 600})
    assert track(run, "notebook", Notebook, stopping) == 1, "what was sent before is not sent again"
    assert Notebook.pages[name][-1].player_steps == 600


def test_tracking_ends_with_the_run(run: RunFolder) -> None:
    Notebook.ended.clear()
    append_line(run.metrics, {"time_s": 3e9, "updates": 9, "player_steps": 900})
    assert track(run, "notebook", Notebook, UntilTheNextLook(lambda: None)) == 5
    run.summary.write_text("{}")
    assert track(run, "notebook", Notebook, threading.Event()) == 0
    assert Notebook.ended == [None, None]


def test_a_tail_waits_for_the_end_of_a_line(tmp_path: Path) -> None:
    path = tmp_path / "lines"
    tail = Tail(path, "updates", 0)
    assert tail.read() == []
    path.write_text('{"updates": 1}\n{"upd')
    assert tail.read() == [{"updates": 1}] and tail.read() == []
    with path.open("a") as file:
        file.write('ates": 2}\nnonsense\n[3]\n')
    assert tail.read() == [{"updates": 2}] and tail.last == 2


def test_a_missing_package_names_its_extra(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SetupError, match=r"found no a_package_that_nobody_has: .* 'bidist\[track\]'"):
        require("track", "a_package_that_nobody_has")
    with pytest.raises(SystemExit):
        main(["track", "RUN", "--to", "paper"])
    assert "choose from" in capsys.readouterr().err


# The trackers themselves.


def needs(package: str) -> pytest.MarkDecorator:
    return pytest.mark.skipif(importlib.util.find_spec(package) is None, reason=f"found no {package}: bidist[track]")


def send(run: RunFolder, tracker: str) -> str:
    done = command.bidist("track", str(run.path), "--to", tracker)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


@needs("wandb")
@pytest.mark.slow
def test_weights_and_biases_get_metrics_over_player_steps(run: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_MODE", "offline")
    run.summary.write_text("{}")
    assert "sent 4 rows" in send(run, "wandb")
    append_line(run.metrics, {"time_s": 3e9, "updates": 4, "player_steps": 400, "return_learning": 7.0})
    assert "sent 1 rows" in send(run, "wandb")
    records = [
        record for path in sorted(run.path.glob("wandb/offline-run-*/*.wandb")) for record in wandb_records(path)
    ]
    starts = [record.run for record in records if record.WhichOneof("record_type") == "run"]
    assert {start.display_name for start in starts} == {"tracked"} and len({start.run_id for start in starts}) == 1
    settings = {update.key: json.loads(update.value_json) for start in starts for update in start.config.update}
    assert settings["learner.learning_rate"] == 0.125 and settings["method.name"] == "bidist"
    history = [
        {".".join(item.nested_key): json.loads(item.value_json) for item in record.history.item}
        for record in records
        if record.WhichOneof("record_type") == "history"
    ]
    returns = {row["player_steps"]: row["play/return_learning"] for row in history if "play/return_learning" in row}
    assert returns == {100: 0.5, 200: 1.0, 300: 1.5, 400: 7.0}
    assert {r.metric.step_metric for r in records if r.WhichOneof("record_type") == "metric"} >= {"player_steps"}


def wandb_records(path: Path) -> list[Any]:
    """Reads an offline run: 7 bytes, then blocks of 32 KiB with fragments of records, each with a header of 7 bytes."""
    from wandb.proto import wandb_internal_pb2

    record: Any = vars(wandb_internal_pb2)["Record"]
    data, at, fragments, found = path.read_bytes(), 7, b"", []
    while at + 7 <= len(data):
        if (left := 2**15 - at % 2**15) < 7:
            at += left
            continue
        _, size, kind = struct.unpack("<IHB", data[at : at + 7])
        fragments += data[at + 7 : at + 7 + size]
        at += 7 + size
        if kind in (1, 4):  # a whole record, or its last fragment
            found.append(record.FromString(fragments))
            fragments = b""
    return found


@needs("mlflow")
@pytest.mark.slow
def test_mlflow_gets_metrics_over_player_steps(run: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    run.summary.write_text("{}")
    assert "sent 4 rows" in send(run, "mlflow")
    append_line(run.metrics, {"time_s": 3e9, "updates": 4, "player_steps": 400, "return_learning": 7.0})
    assert "sent 1 rows" in send(run, "mlflow")
    database = sqlite3.connect(tmp_path / "mlflow.db")
    returns = database.execute("select step, value, timestamp from metrics where key = 'play/return_learning'")
    assert sorted(returns) == [(100, 0.5, 1000000001000), (200, 1.0, 1000000002000), (300, 1.5, 1000000003000)] + [
        (400, 7.0, 3000000000000)
    ]
    assert dict(database.execute("select key, value from params"))["learner.learning_rate"] == "0.125"
    assert list(database.execute("select name, status from runs")) == [("tracked", "FINISHED")]
    database.close()


@needs("mlflow")
@pytest.mark.slow
def test_training_is_tracked_on_request(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The whole system: the last rows arrive too, although the tracker's process is asked to leave."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    options = ["--run", "run", "--folder", str(tmp_path), "--substrate", "matrix_chicken", "--actors", "1"]
    settings = ["environment.episode_length=8", "actor.unroll_length=8", "distiller.burn_in=1"]
    done = command.bidist("train", *options, "--steps", "3000", "--games", "0", "--track", "mlflow", *settings)
    assert done.returncode == 0, done.stdout + done.stderr
    database = sqlite3.connect(tmp_path / "mlflow.db")
    (most,) = database.execute("select max(step) from metrics where key = 'progress/updates'").fetchone()
    assert most >= 3000
    database.close()


@needs("mlflow")
@pytest.mark.slow
def test_an_unreachable_tracker_is_one_line(run: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "nonsense://nowhere")
    done = command.bidist("track", str(run.path), "--to", "mlflow")
    assert done.returncode == 2 and "MLFLOW_TRACKING_URI" in done.stderr.splitlines()[-1]
