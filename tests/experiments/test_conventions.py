"""The experiment on conventions: its statistics, and a tiny run of it through the command line."""

import contextlib
import json
from pathlib import Path
from typing import Any

import command
import psutil
import pytest
from matplotlib import image
from waiting import until

from cli.main import main
from experiments.conventions.experiment import OUTCOMES, TRIED, train
from experiments.conventions.report import Outcome, summarise


def outcome(what: str, seed: int, other: float, **changes: Any) -> Outcome:
    """A run whose convention is action 2."""
    fields: dict[str, Any] = {
        "convention": 2,
        "alone": 0.9,
        "same": 1.0,
        "with_each": [0.1, 0.2, 1.0, 0.4, 0.6],
        "kept_by_learning": [0.0] * 5,
        "kept_by_others": [0.0] * 5,
        "away": None,
    }
    return Outcome(what, seed, other=other, **fields | changes)


def test_conventions_that_partners_kept() -> None:
    o = outcome("bidist", 0, 0.5, kept_by_learning=[0, 0.2, 0.9, 0, 0], kept_by_others=[0.01, 0, 0.5, 0.009, 0])
    assert o.left == [0], "its own convention does not count, nor one met in less than 1% of episodes"
    assert o.never_kept == [3, 4]


def test_summary_compares_each_method_with_mappo() -> None:
    far = [outcome("bidist", seed, 0.8 + seed / 100, away=0.25) for seed in range(6)]
    same = [outcome("rpm", seed, 0.2 + seed / 100, kept_by_others=[0.5, 0, 0, 0, 0]) for seed in range(6)]
    base = [outcome("mappo", seed, 0.2 + seed / 100) for seed in range(6)]
    found = {row["what"]: row for row in summarise(["mappo", "bidist", "rpm"], [*far, *same, *base])}
    assert found["mappo"]["p"] is None
    assert found["bidist"]["p"] < 0.02, "p of 1 in 462 splits, each way, doubled by Holm's correction"
    assert found["rpm"]["p"] == 1.0
    low, high = found["bidist"]["other_interval"]
    assert low < found["bidist"]["other"] < high and found["bidist"]["other"] == pytest.approx(0.825)
    assert (found["bidist"]["away"], found["rpm"]["away"]) == (0.25, None)
    assert (found["rpm"]["left"], found["rpm"]["with_left"]) == (1.0, pytest.approx(0.1))
    assert found["rpm"]["with_never_kept"] == pytest.approx((0.2 + 0.4 + 0.6) / 3)
    assert found["bidist"]["runs"] == 6
    assert {row["p"] for row in summarise(["bidist"], far)} == {None}, "nothing to compare with"


@pytest.mark.slow
@pytest.mark.parametrize("what", TRIED)
def test_everything_that_is_tried_trains(what: str) -> None:
    _, theta, learning, partners = train(what, seed=0, updates=1)
    assert theta and len(learning) == len(partners) > 0


@pytest.mark.slow
def test_no_process_outlives_the_command(tmp_path: Path) -> None:
    """Not even if it is killed: its workers, and their Redis servers, would otherwise train on unseen."""
    options = ("--seeds", "2", "--updates", "100000", "--methods", "mappo", "--out", str(tmp_path))
    process = command.start("conventions", *options)
    parent = psutil.Process(process.pid)

    def servers() -> int:
        with contextlib.suppress(psutil.NoSuchProcess):  # a child that ended meanwhile
            return sum(child.name().startswith("redis") for child in parent.children(recursive=True))
        return 0

    until(lambda: servers() == 2, patience_s=240)
    children = parent.children(recursive=True)
    process.kill()
    process.communicate()
    assert psutil.wait_procs(children, timeout=60)[1] == []


@pytest.mark.slow
def test_experiment_through_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--seeds", "1", "--updates", "2", "--workers", "1", "--methods", "mappo", "bidist"]
    assert main(["conventions", *options, "--out", str(tmp_path)]) == 0
    document = json.loads((tmp_path / "conventions.json").read_text())
    assert document["command"] == f"bidist conventions {' '.join(options[:4])} --methods mappo bidist"
    assert [row["what"] for row in document["methods"]] == ["mappo", "bidist"]
    rows = [json.loads(line) for line in (tmp_path / "outcomes.jsonl").read_text().splitlines()]
    assert [(row["what"], row["seed"]) for row in rows] == [("mappo", 0), ("bidist", 0)]
    assert all(len(row["with_each"]) == 5 and all(0 <= x <= 1 for x in row["with_each"]) for row in rows)
    assert rows[0]["away"] is None and 0 <= rows[1]["away"] <= 1
    assert image.imread(tmp_path / "conventions.png").std() > 0.05
    assert "2 of 2: bidist, seed 0" in capsys.readouterr().out.replace("\n", " ")
    with (tmp_path / OUTCOMES).open("w") as file:
        file.write(json.dumps(rows[0] | {"other": 0.625}) + "\n" + json.dumps(rows[1] | {"updates": 3}) + "\n")
    assert main(["conventions", *options, "--out", str(tmp_path)]) == 0
    again = [json.loads(line) for line in (tmp_path / OUTCOMES).read_text().splitlines()]
    assert again[0]["other"] == 0.625, "what is finished is not run again"
    assert again[1] == rows[1], "what other settings made is"
