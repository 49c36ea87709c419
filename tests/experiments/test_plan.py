"""Plans of sweeps: what they contain, their mistakes, and which changes a started sweep accepts."""

from pathlib import Path
from typing import Any

import pytest

from common.errors import ConfigError
from experiments.sweeps.folder import open_sweep
from experiments.sweeps.plan import make_plan, parse_seeds, read_plan
from experiments.sweeps.progress import Notes

GAME = "matrix_coordination"


def test_plan_is_a_product_and_later_settings_win() -> None:
    tree = {
        "methods": {"mappo": {"learner.epochs": 2}, "bidist": None},
        "substrates": [GAME],
        "seeds": "3,7-8",
        "settings": {"learner.epochs": 1, "learner.gamma": 0.9},
        "variants": {"": None, "hot": {"learner.epochs": 5}},
        "steps": 500,
    }
    plan = make_plan(tree)
    trials = plan.trials()
    assert len(trials) == 2 * 3 * 2
    assert [t.seed for t in trials] == sorted(t.seed for t in trials), "seed by seed"
    found = {t.name: dict(t.settings) for t in trials}
    assert found[f"mappo-{GAME}-s3"] == {"learner.epochs": 2, "learner.gamma": 0.9}
    assert found[f"bidist-{GAME}-s3"] == {"learner.epochs": 1, "learner.gamma": 0.9}
    assert found[f"mappo-{GAME}-hot-s8"] == {"learner.epochs": 5, "learner.gamma": 0.9}
    assert "--set learner.gamma=0.9" in trials[0].command and "--steps 500" in trials[0].command


def test_scenarios_by_number_or_name(tmp_path: Path) -> None:
    plan = make_plan({"substrates": ["coins"], "evaluation": {"scenarios": [5, "coins_6"], "episodes": 3}})
    (trial,) = plan.trials()
    assert trial.scenarios == ("coins_5", "coins_6")
    assert trial.evaluate(tmp_path)[-6:] == ["--episodes", "3", "--scenario", "coins_5", "--scenario", "coins_6"]


@pytest.mark.parametrize(
    ("tree", "words"),
    [
        (
            {"method": ["mappo"]},
            r"method: no such setting; did you mean methods\? there are methods, substrates, seeds",
        ),
        ({"seeds": "1-x"}, "expected seeds such as 0-4"),
        ({"steps": 0}, "steps: .*greater than 0"),
        ({"methods": ["mapo"]}, "trial mapo-.*did you mean mappo"),
        ({"settings": {"learner.epoch": 1}}, "trial bidist-.*learner.epoch: no such setting"),
        ({"variants": {"hot": {"learner.epochs": 0}}}, "trial bidist-.*-hot-s0: learner.epochs: "),
        ({"seeds": [1, 1]}, "two trials are called bidist-.*-s1"),
        ({"seeds": [-1]}, "run.seed: .*greater than or equal to 0"),
        ({"methods": ["mappo", {"pp": {}}]}, "methods"),
        ({"settings": {"run.seed": 3}}, "run.seed is not a setting of a trial here: use the plan's seeds"),
        ({"variants": {"x": {"environment.substrate": "coins"}}}, "environment.substrate is not a setting"),
        ({"evaluation": {"episodes": 0}}, "evaluation.episodes"),
    ],
)
def test_mistakes_in_a_plan(tree: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=f"plan: .*{words}"):
        make_plan(tree, "plan: ")


def test_parse_seeds() -> None:
    assert parse_seeds("3") == [3]
    assert parse_seeds("100-102, 7") == [100, 101, 102, 7]


def test_plan_is_read_back_and_changed_from_the_command_line(tmp_path: Path) -> None:
    plan = make_plan(
        {"methods": ["mappo"], "substrates": [GAME], "seeds": "0-2", "variants": {"x": {"learner.clip": 0.1}}}
    )
    plan.save(tmp_path)
    assert read_plan(tmp_path, {}) == plan
    assert read_plan(tmp_path / "sweep.yaml", {"seeds": "4"}).seeds == [4]
    changed = read_plan(tmp_path, {"settings": {"learner.gamma": 0.9}, "evaluation": {"episodes": 3}})
    changed.save(tmp_path)
    again = read_plan(tmp_path, {"settings": {"learner.clip": 0.2}, "evaluation": {"scenarios": [6]}})
    assert again.settings == {"learner.gamma": 0.9, "learner.clip": 0.2}
    assert again.evaluation is not None and (again.evaluation.scenarios, again.evaluation.episodes) == ([6], 3)
    with pytest.raises(ConfigError, match="nowhere"):
        read_plan(tmp_path / "nowhere.yaml", {})


def test_sweep_may_grow_but_started_trials_keep_their_settings(tmp_path: Path) -> None:
    tree = {"methods": ["mappo"], "substrates": [GAME], "seeds": [0]}
    open_sweep(make_plan(tree), tmp_path)
    other = make_plan(tree | {"settings": {"learner.epochs": 1}})
    open_sweep(other, tmp_path)  # nothing has started
    (trial,) = other.trials()
    Notes.of(tmp_path, trial).write(command=trial.command)
    open_sweep(make_plan(tree | {"settings": {"learner.epochs": 1}, "seeds": [0, 1]}), tmp_path)
    with pytest.raises(ConfigError, match=f"holds another sweep: its trial mappo-{GAME}-s1 is not in this plan"):
        open_sweep(make_plan(tree | {"settings": {"learner.epochs": 1}, "seeds": [0, 2]}), tmp_path)
    with pytest.raises(ConfigError, match="epochs=1.*which is not.*name a new variant"):
        open_sweep(make_plan(tree | {"settings": {"learner.epochs": 2}, "seeds": [0, 1]}), tmp_path)
    assert read_plan(tmp_path, {}).seeds == [0, 1], "the refused plan changed nothing"


def test_foreign_run_is_not_taken_for_a_trial(tmp_path: Path) -> None:
    (tmp_path / f"mappo-{GAME}-s0").mkdir()
    with pytest.raises(ConfigError, match="is a run that this sweep did not start"):
        open_sweep(make_plan({"methods": ["mappo"], "substrates": [GAME]}), tmp_path)


def test_environment_variables_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BIDIST_LEARNER__EPOCHS", "2")
    with pytest.raises(ConfigError, match="BIDIST_LEARNER__EPOCHS: environment variables would change every trial"):
        open_sweep(make_plan({"substrates": [GAME]}), tmp_path)


def test_impossible_evaluation_is_refused(tmp_path: Path) -> None:
    plan = make_plan({"substrates": [GAME], "evaluation": {"scenarios": [0]}})
    with pytest.raises(ConfigError, match=f"no scenario is called '{GAME}_0'"):
        open_sweep(plan, tmp_path)
    plan = make_plan({"substrates": ["coop_mining"], "evaluation": {"scenarios": ["coins_5"]}})
    with pytest.raises(ConfigError, match="coins_5 is a scenario of another game; give its number"):
        open_sweep(plan, tmp_path)
    assert not list(tmp_path.iterdir())
