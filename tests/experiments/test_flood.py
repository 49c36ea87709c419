"""`bidist bench flood` measures a real learner with and without a real flood; the figures do not matter here."""

import json
from pathlib import Path

import pytest

from cli.main import main
from common.errors import ConfigError
from experiments.stress import flood


@pytest.mark.parametrize(("seconds", "rounds"), [(0.0, 1), (1.0, 0)])
def test_impossible_measurements(seconds: float, rounds: int) -> None:
    with pytest.raises(ConfigError, match="both have to be positive"):
        flood.run(seconds, rounds, None)


@pytest.mark.slow
def test_honest_actors_get_through_a_flood(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out" / "flood.json"
    assert main(["bench", "flood", "--seconds", "8", "--rounds", "1", "--out", str(out)]) == 0
    figures = json.loads(out.read_text())
    assert figures["alone_unrolls_per_s"][0] > 0 and figures["flooded_unrolls_per_s"][0] > 0
    assert figures["dropped"] > 0
    assert f"{figures['dropped']:,} mutated messages were dropped" in capsys.readouterr().out
