"""The benchmark: that it measures the real parts and reports ratios. How fast they are is no test's business."""

import json
from pathlib import Path

import pytest

from common.errors import ConfigError
from experiments import throughput

WHAT = [
    "game alone", "one actor, shared parameters", "one actor, per_player parameters", "whole system, shared parameters",
    "whole system, per_player parameters",
]  # fmt: skip


def test_ratios_are_taken_within_rounds() -> None:
    game, actor = throughput.Result("game", 1, [100.0, 50.0, 80.0]), throughput.Result("actor", 1, [40.0, 30.0, 40.0])
    assert game.median == 80
    assert actor.median == 40
    assert actor.ratio(game) == 0.5
    assert game.ratio(game) == 1


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("matrix_coordination", 1.0, 1), "no substrate"),
        (("coins", 0.0, 1), "positive"),
        (("coins", 1.0, 0), "positive"),
    ],
)
def test_what_cannot_be_measured(arguments: tuple[str, float, int], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        throughput.run(*arguments, None)


@pytest.mark.slow
def test_every_part_is_measured_and_written_down(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "bench.json"
    assert throughput.run("coins", 1.0, 1, out) == 0
    document = json.loads(out.read_text())
    assert document["command"] == "bidist bench --substrate coins --seconds 1 --rounds 1"
    assert [row["what"] for row in document["results"]] == WHAT
    assert all(len(row["player_steps_per_s"]) == 1 and row["player_steps_per_s"][0] > 0 for row in document["results"])
    assert document["hardware"]["cores"] >= 1
    shown = capsys.readouterr().out
    assert all(what in shown for what in WHAT)
