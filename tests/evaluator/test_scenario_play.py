"""The play loop against Melting Pot's own loop: the same game, the same seeds, the same actions, the same returns."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

PUBLIC_API = ("meltingpot", "tensorflow", "chex", "reactivex")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "focal"),
    [
        ("coins_0", "policies"),
        ("coins_0", "random"),
        ("pure_coordination_in_the_matrix__arena_0", "policies"),
        ("coop_mining_0", "policies"),
    ],
)
def test_it_plays_a_game_as_melting_pots_own_loop_does(name: str, focal: str) -> None:
    missing = [package for package in PUBLIC_API if importlib.util.find_spec(package) is None]
    if missing:
        pytest.skip(f"Melting Pot's own scenarios need {', '.join(missing)}")
    # `scenario_play_reference.py` compares settings, seeds and actions step by step while it plays.
    command = [sys.executable, str(Path(__file__).parents[1] / "helpers" / "scenario_play_reference.py"), name, focal]
    environ = os.environ | {"OMP_NUM_THREADS": "1", "TF_CPP_MIN_LOG_LEVEL": "3"}
    done = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=550)
    assert done.returncode == 0, done.stderr[-3000:]
    record = json.loads(done.stdout.splitlines()[-1])
    reference, ours = record["reference"], record["ours"]
    for key in ("focal_return", "background_return"):
        assert ours.pop(key) == pytest.approx(reference.pop(key), rel=1e-6, nan_ok=True)
    assert ours == reference
    assert record["replayed"] == record["recorded"] == ours["env_steps"] > 100
    assert record["actions"] > 3 and record["rewards"] > 0, "a game in which nothing happens proves nothing"
    assert "expected" in record["objection"], "other focal players must be noticed"
