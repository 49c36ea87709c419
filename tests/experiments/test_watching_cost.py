"""`bidist bench watching` measures a real run with and without watchers; the figures do not matter here."""

import json
from pathlib import Path

import pytest

from common.errors import ConfigError
from experiments.speed import watching_cost

QUICK = (
    *("environment.episode_length=4", "actor.unroll_length=4", "learner.batch_unrolls=4", "learner.device=cpu"),
    *("network.dense=8", "network.core_size=8", "distiller.burn_in=1"),
)


@pytest.mark.parametrize(("seconds", "rounds"), [(0.0, 1), (1.0, 0)])
def test_impossible_measurements(seconds: float, rounds: int) -> None:
    with pytest.raises(ConfigError, match="both must be positive"):
        watching_cost.run("matrix_coordination", seconds, rounds, None)


@pytest.mark.slow
def test_a_run_is_measured_alone_and_watched(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "watching.json"
    assert watching_cost.run("matrix_coordination", 6.0, 1, out, QUICK) == 0
    figures = json.loads(out.read_text())
    assert figures["alone_player_steps_per_s"][0] > 0 and figures["watched_player_steps_per_s"][0] > 0
    assert 0 < figures["watchers_share_of_cores"][0] < 1
    assert "median ratio" in capsys.readouterr().out
