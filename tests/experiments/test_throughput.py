"""The benchmark measures the real parts and reports ratios; no test depends on how fast they are."""

import json
from pathlib import Path

import pytest
import torch

import environments
from cli.main import main
from common.config import Config
from common.errors import ConfigError
from experiments.speed import core_speed, throughput
from experiments.speed.rates import System
from methods import make_method

WHAT = ["game alone"] + [
    f"{part}, {kind} parameters"
    for part in ("one actor", "one learner", "whole system")
    for kind in ("shared", "per_player")
]


def test_ratios_are_taken_within_rounds() -> None:
    game, actor = throughput.Result("game", 1, [100.0, 50.0, 80.0]), throughput.Result("actor", 1, [40.0, 30.0, 40.0])
    assert game.median == 80
    assert actor.median == 40
    assert actor.ratio(game) == 0.5
    assert game.ratio(game) == 1


def test_the_parts_limit_the_whole_system() -> None:
    """A step costs 1/4 s of a core in an actor and 1/12 s in a learner: two cores allow six steps a second."""
    rates = {"one actor": [4.0, 1.0], "one learner": [12.0, 1.0], "whole system": [3.0, 0.5]}
    results = [throughput.Result(f"{part}, shared parameters", 2, rate) for part, rate in rates.items()]
    assert throughput.share_of_limit(results, "shared") == 0.5


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("matrix_coordination", 1.0, 1), "is not a Melting Pot substrate"),
        (("coins", 0.0, 1), "positive"),
        (("coins", 1.0, 0), "positive"),
    ],
)
def test_impossible_measurements(arguments: tuple[str, float, int], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        throughput.run(*arguments, None)


@pytest.mark.slow
def test_every_part_is_measured_and_saved(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "bench.json"
    game = "running_with_scissors_in_the_matrix__one_shot"  # small images
    assert main(["bench", "--substrate", game, "--seconds", "1", "--rounds", "1", "--out", str(out)]) == 0
    document = json.loads(out.read_text())
    assert document["command"] == f"bidist bench --substrate {game} --seconds 1 --rounds 1"
    assert [row["what"] for row in document["results"]] == WHAT
    assert all(len(row["player_steps_per_s"]) == 1 and row["player_steps_per_s"][0] > 0 for row in document["results"])
    assert document["hardware"]["cores"] >= 1
    assert set(document["share_of_limit"]) == {"shared", "per_player"}
    shown = capsys.readouterr().out
    assert all(what in shown for what in WHAT)


@pytest.mark.slow
def test_cost_of_methods_through_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "cost.json"
    quick = ["--substrate", "matrix_coordination", "--seconds", "1", "--rounds", "1", "--out", str(out)]
    assert main(["bench", "methods", "--method", "rpm", *quick]) == 0
    document = json.loads(out.read_text())
    assert document["command"].startswith("bidist bench methods --method rpm --substrate matrix_coord")
    assert [row["method"] for row in document["results"]] == ["mappo", "rpm"]
    for row in document["results"]:
        assert all(len(row[name]) == 1 and row[name][0] > 0 for name in row if name != "method")
    assert "100%" in capsys.readouterr().out


def test_the_gru_is_compared_with_torchs_own(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tried: list[Config] = []

    def measure(config: Config, seconds: float) -> System:
        tried.append(config)
        return System(100.0 if config.network.name else 125.0, 0.1, {})

    out = tmp_path / "core.json"
    assert core_speed.run("matrix_chicken", 2.0, 3, out, measure) == 0
    document = json.loads(out.read_text())
    assert document["command"] == "bidist bench core --substrate matrix_chicken --seconds 2 --rounds 3"
    assert [row["player_steps_per_s"] for row in document["results"]] == [[100.0] * 3, [125.0] * 3] * 2
    assert capsys.readouterr().out.count("125%") == 2
    assert len(tried) == 12
    spec = environments.spec(tried[0].environment)
    theirs, ours, *_ = (make_method(config).network(spec, 2) for config in tried)
    ours.load_state_dict(theirs.state_dict())
    rgb, features = torch.zeros(2, 5, 3, 0, 0, 3, dtype=torch.uint8), torch.randn(2, 5, 3, spec.features)
    state, version = torch.randn(2, 3, ours.state_size), torch.zeros(2, 3, dtype=torch.long)
    for x, y in zip(*(network.act(rgb, features, state, version) for network in (theirs, ours)), strict=True):
        torch.testing.assert_close(x, y)
    assert type(theirs.core) is core_speed.TorchCore
    with pytest.raises(ConfigError, match="positive"):
        core_speed.run("matrix_chicken", 0.0, 1, None, measure)
