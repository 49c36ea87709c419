"""`bidist.evaluate`, and policies that were trained elsewhere."""

import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from trained import needs_bots, trained

import bidist
from cli.main import main
from common.errors import ConfigError
from common.files import read_lines


@needs_bots
@pytest.mark.slow
def test_a_population_is_evaluated_as_on_the_command_line(tmp_path: Path) -> None:
    coins = trained(tmp_path / "coins")
    population = bidist.load(coins.path)
    rows = bidist.evaluate(population, "coins_1", episodes=1, seed=3)
    assert main(["evaluate", str(coins.path), "--scenario", "coins_1", "--episodes", "1", "--seed", "3"]) == 0
    written = sorted(read_lines(coins.evaluation), key=lambda row: row["episode"])
    repeats = ("focal_return", "background_return", "env_steps")  # as far as games repeat themselves
    for row, expected in zip(rows, written, strict=True):
        assert row.keys() == expected.keys()
        assert {k: v for k, v in row.items() if k not in repeats} == {
            k: v for k, v in expected.items() if k not in repeats
        }
        assert row["env_steps"] > 100 and np.isfinite(row["focal_return"])


class Recorder:
    """A policy that keeps the timesteps of one player and counts them in its state."""

    def __init__(self) -> None:
        self.seen: list[Any] = []
        self.counts: list[int] = []

    def initial_state(self) -> int:
        return 0

    def step(self, timestep: Any, prev_state: int) -> tuple[int, int]:
        self.seen.append(timestep)
        self.counts.append(prev_state)
        return prev_state % 7, prev_state + 1


@pytest.mark.slow
@needs_bots
def test_a_policy_trained_elsewhere_sees_what_melting_pot_shows() -> None:
    recorder = Recorder()
    (row,) = bidist.evaluate(recorder, "coins_1", episodes=1)
    assert (row["run"], row["method"], row["checkpoint"], row["policies"]) == ("Recorder-coins", "Recorder", "", [])
    assert recorder.counts == list(range(row["env_steps"]))
    first, second = recorder.seen[:2]
    assert first.first() and second.mid() and (first.reward, first.discount, second.discount) == (0, 0, 1)
    assert first.observation["RGB"].shape == (88, 88, 3) and first.observation["RGB"].dtype == np.uint8
    assert {*first.observation} == {"RGB", "COLLECTIVE_REWARD"}
    assert sum(x.reward for x in recorder.seen) == pytest.approx(row["focal_return"], abs=2)
    both = {float(x.observation["COLLECTIVE_REWARD"]) for x in recorder.seen}
    assert len(both) > 1, "somebody found a coin"


@needs_bots
@pytest.mark.slow
def test_each_player_of_a_foreign_policy_has_a_state_of_its_own() -> None:
    recorder = Recorder()
    rows = bidist.evaluate(recorder, "prisoners_dilemma_in_the_matrix__repeated_0", episodes=3)
    assert sorted(recorder.counts) == sorted(n for row in rows for n in range(row["env_steps"]))
    assert recorder.seen[0].observation["INVENTORY"].shape == (2,)


class Batched(Recorder):
    """The same for the players of all games at once, who are two at first."""

    def __init__(self, forgotten: int = 0) -> None:
        super().__init__()
        self.sizes: list[int] = []
        self.forgotten = forgotten

    def step_batch(self, timesteps: Sequence[Any], prev_states: Sequence[int]) -> list[tuple[int, int]]:
        self.sizes.append(len(timesteps))
        both = zip(timesteps, prev_states, strict=True)
        return [self.step(timestep, state) for timestep, state in both][self.forgotten :]


@pytest.mark.slow
@needs_bots
def test_a_batched_policy_is_asked_once_for_all_players() -> None:
    batched = Batched()
    rows = bidist.evaluate(batched, "coins_1", episodes=2)
    steps = [row["env_steps"] for row in rows]
    assert sorted(batched.counts) == sorted(n for count in steps for n in range(count))
    assert batched.sizes == [2] * min(steps) + [1] * (max(steps) - min(steps))
    with pytest.raises(ConfigError, match="returned 1 actions and states for 2 players"):
        bidist.evaluate(Batched(forgotten=1), "coins_1", episodes=2)


@needs_bots
def test_what_is_no_policy_is_explained(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="expected a policy, with initial_state.*found 3"):
        bidist.evaluate(3, "coins_1")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="found <class .*Recorder"):
        bidist.evaluate(Recorder, "coins_1")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="chose action 99; this game's are 0 to 6"):
        bidist.evaluate(lambda timestep: 99, "coins_1")
    with pytest.raises(ConfigError, match="similar names"):
        bidist.evaluate(lambda timestep: 0, "coin_1")
    with pytest.raises(ConfigError, match="coop_mining_0: scenarios of another game than coins"):
        bidist.evaluate(bidist.load(trained(tmp_path / "coins").path), "coop_mining_0")


BUILDER = """
class Still:
    def initial_state(self):
        return None

    def step(self, timestep, prev_state):
        assert timestep.observation["RGB"].shape == (88, 88, 3)
        return 0, prev_state


def build():
    return Still()


def fails():
    raise OSError("no such model")


def number():
    return 3
"""


@pytest.fixture
def my_policies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The user's own module, on the path."""
    (tmp_path / "my_policies.py").write_text(BUILDER)
    (tmp_path / "broken.py").write_text("def build(:\n")
    monkeypatch.syspath_prepend(tmp_path)
    yield "my_policies"
    sys.modules.pop("my_policies", None)


@needs_bots
@pytest.mark.slow
def test_the_command_evaluates_a_policy_of_the_users(
    my_policies: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["evaluate", "--policy", f"{my_policies}:build", "--folder", str(tmp_path), "--scenario", "coins_1"]
    assert main([*command, "--episodes", "2"]) == 0
    warning = "if the policy has changed, name another --out"
    assert warning not in capsys.readouterr().out
    out = tmp_path / "my_policies.build-coins" / "evaluation.jsonl"
    assert main([*command, "--episodes", "3"]) == 0
    assert warning in capsys.readouterr().out
    rows = read_lines(out)
    assert sorted(row["episode"] for row in rows) == [0, 1, 2]
    assert {(row["method"], row["scenario"]) for row in rows} == {("my_policies:build", "coins_1")}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--policy", "my_policies:build"], "--policy needs --scenario"),
        (["--policy", "my_policies:build", "--scenario", "coins_1", "RUN"], "--policy plays alone"),
        (["--policy", "my_policies:biuld", "--scenario", "coins_1"], "has no attribute 'biuld'"),
        (["--policy", "nowhere:build", "--scenario", "coins_1"], "No module named 'nowhere'.*PYTHONPATH"),
        (["--policy", "my_policies", "--scenario", "coins_1"], "expected module:function"),
        (["--policy", "broken:build", "--scenario", "coins_1"], "importing broken failed: SyntaxError"),
        (["--policy", "my_policies:fails", "--scenario", "coins_1"], r"fails\(\) failed: OSError\('no such model'\)"),
        (["--policy", "my_policies:number", "--scenario", "coins_1"], "expected a policy.*found 3"),
    ],
)
def test_a_policy_that_cannot_be_built_is_explained(
    my_policies: str, arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["evaluate", *arguments]) == 2
    assert re.search(words, capsys.readouterr().err)
