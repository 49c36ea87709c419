"""Trials that are kept without their checkpoints, and brought back."""

import json
import shutil
import threading
from pathlib import Path

import pytest

from common.errors import ConfigError
from common.files import append_line, locked, write
from experiments.sweeps.archive import keep, restore
from experiments.sweeps.plan import make_plan, read_plan
from experiments.sweeps.progress import NOTES, Notes, progress, row
from experiments.sweeps.sweep import Sweep
from experiments.sweeps.trial import Trial


@pytest.fixture
def trial(tmp_path: Path) -> Trial:
    """A trial that is done, as far as the files in tmp_path/sweep say."""
    sweep = tmp_path / "sweep"
    plan = make_plan(
        {"methods": ["mappo"], "substrates": ["coins"], "steps": 1000, "evaluation": {"scenarios": [5], "episodes": 2}}
    )
    plan.save(sweep)
    (sweep / NOTES).mkdir()
    (made,) = plan.trials()
    folder = made.folder(sweep)
    folder.path.mkdir()
    folder.create(made.config())
    Notes.of(sweep, made).write(command=made.command, commit="abc", host="here")
    append_line(folder.metrics, {"player_steps": 512, "return_learning": None})
    append_line(folder.metrics, {"player_steps": 1024, "return_learning": 4.0, "episode_coins_matched": 1 / 3})
    append_line(folder.distillation, {"updates": 1, "direction": "forward", "kl_after_nats": 0.25})
    write(folder.summary, json.dumps({"wall_s": 10.0, "trained": None}).encode())
    for episode in range(2):
        append_line(
            folder.evaluation,
            {
                "scenario": "coins_5",
                "episode": episode,
                "evaluation_seed": 0,
                "reference": False,
                "updates": 2,
                "checkpoint": "00000002",
                "focal_return": 1.5 + episode,
            },
        )
    return made


def test_a_trial_that_was_kept_is_done_wherever_it_is_restored(trial: Trial, tmp_path: Path) -> None:
    sweep, archive, elsewhere = tmp_path / "sweep", tmp_path / "archive", tmp_path / "elsewhere"
    before = row(sweep, trial)
    path = keep(sweep, trial, archive)
    first = path.read_bytes()
    assert keep(sweep, trial, archive).read_bytes() == first, "the same trial makes the same file"
    shutil.rmtree(sweep)
    assert restore(elsewhere, [trial], archive) == 1
    assert progress(elsewhere, trial).state == "done"
    after = row(elsewhere, trial)
    assert after.pop("episode_coins_matched_end") == pytest.approx(before.pop("episode_coins_matched_end"), rel=1e-4)
    assert after == before
    assert json.loads(trial.folder(elsewhere).distillation.read_text())["kl_after_nats"] == 0.25
    assert restore(elsewhere, [trial], archive) == 0, "it is there"


def test_a_trial_that_another_process_runs_is_left_alone(trial: Trial, tmp_path: Path) -> None:
    sweep, archive = tmp_path / "sweep", tmp_path / "archive"
    keep(sweep, trial, archive)
    trial.folder(sweep).summary.unlink()
    before = trial.folder(sweep).metrics.read_bytes()
    append_line(trial.folder(sweep).metrics, {"player_steps": 9999})
    with locked(Notes.of(sweep, trial).lock):
        assert restore(sweep, [trial], archive) == 0
    assert trial.folder(sweep).metrics.read_bytes() != before


def test_a_trial_that_was_done_before_there_was_an_archive_is_kept(trial: Trial, tmp_path: Path) -> None:
    sweep, archive = tmp_path / "sweep", tmp_path / "archive"
    assert Sweep(read_plan(sweep, {}), sweep, 1, [], threading.Event(), archive).run()
    assert [path.name for path in archive.iterdir()] == [f"{trial.name}.json.gz"]


def test_what_an_archive_lacks_is_left_to_be_run(trial: Trial, tmp_path: Path) -> None:
    assert restore(tmp_path / "elsewhere", [trial], tmp_path / "archive") == 0
    assert progress(tmp_path / "elsewhere", trial).state == "waiting"


def test_a_file_that_is_damaged_or_of_another_trial_is_named(trial: Trial, tmp_path: Path) -> None:
    archive, elsewhere = tmp_path / "archive", tmp_path / "elsewhere"
    path = keep(tmp_path / "sweep", trial, archive)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ConfigError, match=f"{path.name} is damaged .*delete it"):
        restore(elsewhere, [trial], archive)
    path.write_bytes(whole)
    (other,) = make_plan(
        {
            "methods": {"mappo": {"learner.epochs": 1}},
            "substrates": ["coins"],
            "steps": 1000,
            "evaluation": {"scenarios": [5], "episodes": 2},
        }
    ).trials()
    with pytest.raises(ConfigError, match=r"is not this plan's .*learner\.epochs=1"):
        restore(elsewhere, [other], archive)


def test_a_trial_whose_settings_are_no_longer_the_defaults_is_not_taken_for_the_plans(
    trial: Trial, tmp_path: Path
) -> None:
    folder = trial.folder(tmp_path / "sweep")
    config = folder.read_config()
    before = config.learner.model_copy(update={"epochs": 7})
    folder.create(config.model_copy(update={"learner": before}))
    keep(tmp_path / "sweep", trial, tmp_path / "archive")
    with pytest.raises(ConfigError, match=r"meant other settings: learner\.epochs=7, now 2; delete it"):
        restore(tmp_path / "elsewhere", [trial], tmp_path / "archive")
    assert not (tmp_path / "elsewhere").exists()
