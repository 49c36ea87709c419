"""Films during training: in the run's folder and in TensorBoard, and gone with the run."""

import io
import threading
from pathlib import Path

import av
import pytest
from tensorboard_files import events
from trained import trained

from cli.main import main
from common import checkpoint
from common.errors import ConfigError
from common.run_folder import RunFolder
from evaluator.evaluate import populations
from evaluator.films import TAG, film_training

# A game with a picture whose episodes are short: two players, at most 1,000 steps.
GAME = "running_with_scissors_in_the_matrix__one_shot"


def frames(data: bytes | Path) -> int:
    with av.open(io.BytesIO(data) if isinstance(data, bytes) else str(data), "r") as film:
        return sum(1 for _ in film.decode(video=0))


def again(run: RunFolder, number: int) -> None:
    """Saves another checkpoint, of as many updates."""
    (newest,) = populations(run, ["newest"])
    assert newest.theta is not None
    counters = {"updates": number, "player_steps": 100 * number}
    checkpoint.save(run.checkpoints, number, {"theta": newest.theta}, counters, keep=None)


@pytest.mark.slow
def test_a_run_is_filmed_until_it_ends(tmp_path: Path) -> None:
    run = trained(tmp_path / "run", GAME, 1, "run.player_steps=900")

    class Between(threading.Event):
        """Saves the run's last checkpoint while the filming waits."""

        def wait(self, timeout: float | None = None) -> bool:
            again(run, 9)
            return False

    film_training(run, 60, Between())
    assert sorted(path.name for path in run.path.glob("*.mp4")) == ["training-00000005.mp4", "training-00000009.mp4"]
    films = {e.step: v for e in events(run.tensorboard / "films") for v in e.summary.value if v.tag == TAG}
    assert films.keys() == {700, 900}
    steps = frames(run.path / "training-00000005.mp4") - 1
    assert steps > 10
    assert frames(films[700].image.encoded_image_string) == steps // 4 + 1
    assert films[700].image.width >= films[700].image.height > 50
    assert not [path for path in run.path.iterdir() if path.name.startswith(".")]


@pytest.mark.slow
def test_a_film_is_abandoned_when_the_run_stops(tmp_path: Path) -> None:
    run = trained(tmp_path / "run", "coins", 1)

    class Soon(threading.Event):
        """Set from the third question on."""

        asked = 0

        def is_set(self) -> bool:
            self.asked += 1
            return self.asked > 3

    film_training(run, 60, Soon())
    assert not list(run.path.glob("*.mp4")) and not list(run.path.glob(".*.mp4"))


def test_only_games_with_a_picture_are_filmed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = trained(tmp_path / "run", "matrix_chicken", 1)
    with pytest.raises(ConfigError, match="matrix_chicken has no picture to film"):
        film_training(run, 60, threading.Event())
    folder = ["--folder", str(tmp_path / "runs")]
    assert main(["train", *folder, "--substrate", "matrix_chicken", "--film-every", "1"]) == 2
    assert "no picture" in capsys.readouterr().err
    assert main(["train", *folder, "--substrate", "coins", "--film-every", "1", "--serial"]) == 2
    assert "leave --serial out" in capsys.readouterr().err
    for other in (["--scenario", "coins_1"], ["--seed", "3"]):
        assert main(["record", str(run.path), "--every", "1", *other]) == 2
        assert "leave --scenario, --checkpoint, --episode, --seed and --out out" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["record", str(run.path), "--every", "0"])
    assert "expected a number of minutes" in capsys.readouterr().err


@pytest.mark.slow
def test_training_is_filmed_on_request(tmp_path: Path) -> None:
    """The whole system, with a checkpoint every second and a film of each that it gets round to."""
    options = ["--run", "run", "--folder", str(tmp_path), "--substrate", GAME, "--method", "mappo", "--actors", "1"]
    settings = ["run.checkpoint_s=1", "actor.environments=2", "network.dense=16", "network.core_size=16"]
    budget = ["--steps", "8000", "--games", "0", "--film-every", "0.01"]
    assert main(["train", *options, *budget, *settings]) == 0
    run = RunFolder(tmp_path / "run")
    films = sorted(run.path.glob("training-*.mp4"))
    assert all(frames(film) > 10 for film in films)
    assert films[-1].stem == f"training-{checkpoint.checkpoints(run.checkpoints)[-1].name}"
    assert "training-" in (run.logs / "films.log").read_text()
    assert not list(run.path.glob(".*.mp4"))
    x = {v.tag: e.step for e in events(run.tensorboard / "learner") for v in e.summary.value}
    assert x["play/return_learning"] >= 8000
