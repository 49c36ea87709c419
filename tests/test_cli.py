"""The command `bidist`: exit statuses, and errors of one line that say what to do."""

import io
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from cli.main import main
from common.files import read_lines
from common.run_folder import RunFolder
from common.store import Store
from deploy.processes import bidist

ROOT = Path(__file__).parents[1]


def error(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """The one line that a command ends with when it cannot do what it is asked to."""
    assert main(arguments) in (2, 3)
    printed = capsys.readouterr().err.strip().splitlines()
    assert len(printed) == 1, printed
    assert printed[0].startswith("bidist: error: ")
    return printed[0]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--substrate", "prisoners_dilema_in_the_matrix__arena"], ["prisoners_dilemma_in_the_matrix__arena"]),
        (["--substrate", "matrix_coordinatio"], ["no matrix game", "matrix_coordination"]),
        (["--method", "bidis"], ["did you mean bidist"]),
        (["--set", "learner.epoch=3"], ["learner.epoch: no such setting", "epochs"]),
        (["--steps", "0"], ["run.player_steps", "greater than 0"]),
        (["--preset", "larg"], ["no such preset", "small"]),
        (["--resume", "nowhere"], ["there is no run at", "nowhere"]),
        (["--substrate", "pettingzoo:nothing.here:make"], ["nothing.here"]),
        (["--redis", "redis://127.0.0.1:1/0"], ["no Redis answers at redis://127.0.0.1:1/0"]),
    ],
)
def test_a_run_that_cannot_be_says_why_and_leaves_nothing(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, arguments: list[str], words: list[str]
) -> None:
    line = error(capsys, "train", "--folder", str(tmp_path), *arguments)
    assert all(word in line for word in words), line
    assert list(tmp_path.iterdir()) == []


def test_serial_training_of_a_named_run_and_what_becomes_of_it(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, redis_url: str
) -> None:
    folder = ["--folder", str(tmp_path)]
    settings = ("environment.episode_length=8", "actor.unroll_length=8", "distiller.burn_in=1")
    options = [word for setting in settings for word in ("--set", setting)]
    name = ["--run", "cli-serial", "--substrate", "matrix_coordination", "--redis", redis_url]
    assert main(["train", "--serial", *folder, *name, *options, "--steps", "3000"]) == 0
    assert "produced" in capsys.readouterr().out
    assert Store(redis_url, "cli-serial").finished

    assert "--resume cli-serial" in error(capsys, "train", *folder, *name)
    resume = ["train", "--serial", *folder, "--resume", "cli-serial"]
    assert "run.seed is 0 and cannot become 3" in error(capsys, *resume, "--seed", "3")
    assert "is one of bidist and cannot go on as one of rpm" in error(capsys, *resume, "--method", "rpm")
    assert "run.name is 'cli-serial'" in error(capsys, *resume, "--run", "other")
    assert "learner.epochs is" in error(capsys, *resume, "--set", "learner.epochs=9")
    for more in (options, ["--steps", "100"]):
        assert "has made 3072 player steps" in error(capsys, *resume, *more)
    with RunFolder(tmp_path / "cli-serial").held("train"):
        assert "is already running" in error(capsys, *resume, "--redis", redis_url, "--steps", "6000")
    assert main(["status", *folder, "--run", "cli-serial"]) == 0
    shown = capsys.readouterr().out
    assert all(words in shown for words in ("is finished", "return of the trained population", "produced"))
    assert main(["train", "--serial", *folder, "--resume", "cli-serial", "--redis", redis_url, "--steps", "6000"]) == 0

    assert main(["status", "--redis", redis_url, "--run", "cli-serial"]) == 0
    shown = capsys.readouterr().out
    assert "produced" in shown
    assert "knows no run 'other'" in error(capsys, "status", "--redis", redis_url, "--run", "other")
    assert "no run" in error(capsys, "status", "--folder", str(tmp_path / "empty"))
    assert "no Redis answers at redis://127.0.0.1:1/0" in error(capsys, "status", "--redis", "redis://127.0.0.1:1/0")
    assert "no Redis answers at nonsense" in error(capsys, "watch", "--redis", "nonsense")

    # A ledger that does not add up is what `status` fails for.
    Store(redis_url, "cli-serial").client.hincrby("bidist:cli-serial:ledger", "trained", 5)
    assert main(["status", "--redis", redis_url, "--run", "cli-serial"]) == 1


def test_a_learner_started_again_with_the_same_options_goes_on(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, redis_url: str
) -> None:
    settings = ("environment.episode_length=8", "actor.unroll_length=8", "distiller.burn_in=1")
    options = [word for setting in settings for word in ("--set", setting)]
    common = ["--folder", str(tmp_path), "--run", "cli-again", "--redis", redis_url]
    game = ["--substrate", "matrix_coordination", "--steps", "1500", *options]
    assert main(["train", "--serial", *common, *game]) == 0
    assert main(["learner", *common, *game]) == 0
    assert main(["learner", *common]) == 0
    assert "environment.substrate is" in error(capsys, "learner", *common, "--substrate", "matrix_chicken")
    assert "no substrate is called 'x'" in error(capsys, "learner", *common[:3], "new", *common[4:], "--substrate", "x")
    assert [path.name for path in tmp_path.iterdir()] == ["cli-again"]


@pytest.mark.parametrize("role", ["actor", "distiller", "learner"])
def test_a_role_without_redis_says_so_at_once(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, role: str
) -> None:
    monkeypatch.chdir(tmp_path)
    line = error(capsys, role, "--redis", "redis://127.0.0.1:1/0", "--run", "x")
    assert "no Redis answers at redis://127.0.0.1:1/0" in line
    assert list(tmp_path.iterdir()) == []


def test_a_run_is_resumed_where_it_lies_from_wherever(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, redis_url: str
) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    here.mkdir()
    there.mkdir()
    train = ["train", "--serial", "--redis", redis_url]
    settings = ("environment.episode_length=8", "actor.unroll_length=8", "distiller.burn_in=1")
    options = [word for setting in settings for word in ("--set", setting)]
    monkeypatch.chdir(here)
    assert main([*train, "--run", "cli-far", "--substrate", "matrix_coordination", *options, "--steps", "1500"]) == 0
    monkeypatch.chdir(there)
    assert main([*train, "--folder", str(here / "runs"), "--resume", "cli-far", "--steps", "3000"]) == 0
    assert list(there.iterdir()) == []
    updates = [line["updates"] for line in read_lines(here / "runs" / "cli-far" / "metrics.jsonl")]
    assert updates == list(range(1, len(updates) + 1)) and len(updates) > 3


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["evaluate"], "nobody to evaluate"),
        (["evaluate", "nowhere"], "there is no run at"),
        (["evaluate", "--random", "matrix_coordination"], "no official scenarios"),
        (["evaluate", "--random", "coins", "--episodes", "0"], "--episodes 0"),
        (["evaluate", "--random", "coins", "--follow"], "--follow follows one run"),
        (["record", "nowhere"], "there is no run at"),
        (["report", "nowhere"], "no results"),
        (["bench", "--scenario", "coins_9"], "no scenario is called 'coins_9'"),
        (["bench", "scenarios", "--scenario", "coins_9"], "no scenario is called 'coins_9'"),
        (["bench", "methods", "--method", "mapo"], "did you mean mappo"),
        (["bench", "methods", "--scenario", "coins_0"], "only `bidist bench scenarios` takes it, this is methods"),
        (["bench", "throughput", "--method", "mappo"], "only `bidist bench methods` takes it, this is throughput"),
        (["conventions", "--out", "x", "--methods", "mapo"], "--methods 'mapo': expected some of 'bidist'"),
        (["conventions", "--out", "x", "--seeds", "0"], "--seeds 0"),
        (["curves", "nowhere", "--out", "x.png"], "runs/nowhere/config.yaml"),
        (["sweep", "nowhere.yaml"], "nowhere.yaml: "),
        (["sweep", "--jobs", "0"], "--jobs 0"),
        (["sweep", "--slurm", "0"], "--slurm 0: expected 1 or more"),
        (["sweep", "--method", "mapo"], "did you mean mappo"),
        (["sweep", "--seeds", "a"], "expected seeds such as 0-4"),
        (["sweep", "--status"], "there is no sweep at sweeps/sweep: no sweep.yaml"),
        (["tune", "--trials", "0"], "--trials 0: expected 1 or more"),
        (["tune"], "nothing to search"),
        (["crossplay", "nowhere"], "there is no run at"),
        (["crossplay", "a", "--checkpoint", "all"], "one checkpoint of each run takes part"),
        (["crossplay", "a", "--episodes", "0"], "--episodes 0"),
    ],
)
def test_what_cannot_be_done_says_why_and_leaves_nothing(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    arguments: list[str],
    words: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert words in error(capsys, *arguments)
    assert list(tmp_path.iterdir()) == []


def test_a_run_is_looked_for_by_its_name_before_a_folder_of_that_name(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a container the working directory has a folder `run`, and so may anybody's."""
    monkeypatch.chdir(tmp_path)
    for folder in ("mine", "runs/mine", "elsewhere/other"):
        (tmp_path / folder).mkdir(parents=True)
    assert "no run at runs/mine" in error(capsys, "record", "mine")
    assert "no run at elsewhere/other" in error(capsys, "record", "elsewhere/other")
    assert "no run at runs/nothing" in error(capsys, "record", "nothing")


def test_debug_shows_the_traceback(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "cli", "--debug", "train", "--folder", str(tmp_path), "--method", "x"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert "Traceback" in done.stderr


def test_help_is_fast() -> None:
    """It loads nothing that takes long, nor does `python -m cli`, by which the roles are started."""
    program = (
        "import sys; from cli.main import parser; parser().format_help()\n"
        "print(*{'torch', 'redis', 'matplotlib', 'rich', 'dmlab2d', 'meltingpot'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    assert done.stdout.split() == []


def test_a_compose_file_becomes_a_stack(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("services: {redis: {image: redis, ports: ['6379']}}\nvolumes: {}\n"))
    assert main(["stack"]) == 0
    assert yaml.safe_load(capsys.readouterr().out)["services"]["redis"]["image"] == "redis"


def test_a_folder_in_the_way_hides_no_package(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Folders of such names are what people call their own results and programs."""
    for name in ("cli", "methods", "reports"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("raise ImportError('not this one')")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    assert subprocess.run(bidist("train", "--help"), capture_output=True).returncode == 0


def test_every_command_has_its_help(capsys: pytest.CaptureFixture[str]) -> None:
    roles = ("learner", "actor", "distiller", "health", "stack")
    others = ("train", "status", "watch", "doctor", "bench", "conventions", "evaluate", "report", "curves", "record",
              "diversity", "crossplay", "sweep", "tune")  # fmt: skip
    for command in roles + others:
        with pytest.raises(SystemExit) as ended:
            main([command, "--help"])
        assert ended.value.code == 0
        assert command in capsys.readouterr().out
