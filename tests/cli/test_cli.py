"""The command `bidist`: help, exit statuses, and errors of one line that say what to do."""

import io
import re
import signal
import subprocess
import sys
from pathlib import Path

import command
import pytest
import yaml

from cli.main import main
from common.files import read_lines
from common.run_folder import RunFolder
from common.store import Store
from deploy.processes import bidist

ROOT = Path(__file__).parents[2]
SMALL = [
    *("--set", "environment.episode_length=8", "--set", "actor.unroll_length=8", "--set", "distiller.burn_in=1"),
    *("--set", "network.dense=16", "--set", "network.core_size=16"),
]


def error(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """Runs a command that fails, and returns the one line it prints."""
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
        (
            ["--method", "bidist-symmetric", "--substrate", "matrix_chicken"],
            ["no symmetries of matrix_chicken are known"],
        ),
        (["--set", "learner.epoch=3"], ["learner.epoch: no such setting; did you mean learner.epochs?", "epochs"]),
        (["learner.lr=1e-3"], ["learner.lr: no such setting; did you mean learner.learning_rate or "]),
        (["--steps", "0"], ["run.player_steps", "greater than or equal to 1"]),
        (["--preset", "larg"], ["no such preset", "small"]),
        (["--resume", "nowhere"], ["there is no run at", "nowhere"]),
        (["--substrate", "pettingzoo:nothing.here:make"], ["nothing.here"]),
        (["--redis", "redis://127.0.0.1:1/0"], ["no Redis answers at redis://127.0.0.1:1/0"]),
        (["--folder", "/proc/nope"], ["--folder /proc/nope: /proc/nope/", "cannot be made: No such file or directory"]),
    ],
)
def test_impossible_runs_are_refused_and_leave_nothing(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, arguments: list[str], words: list[str]
) -> None:
    line = error(capsys, "train", "--folder", str(tmp_path), "--run", "refused", *arguments)
    assert capsys.readouterr().out == ""
    assert all(word in line for word in words), line
    assert list(tmp_path.iterdir()) == []


def test_life_of_a_run_in_one_process(capsys: pytest.CaptureFixture[str], tmp_path: Path, redis_url: str) -> None:
    folder = ["--folder", str(tmp_path)]
    name = ["--run", "cli-serial", "--substrate", "matrix_coordination", "--redis", redis_url]
    assert main(["train", "--serial", *folder, *name, *SMALL, "--steps", "3000"]) == 0
    printed = capsys.readouterr().out
    assert "produced" in printed
    assert "budget: 3,000 player steps, which is 1,500 env steps of 2 players" in printed
    assert Store(redis_url, "cli-serial").finished

    assert "--resume cli-serial" in error(capsys, "train", *folder, *name)
    resume = ["train", "--serial", *folder, "--resume", "cli-serial"]
    assert "run.seed is 0 and cannot become 3" in error(capsys, *resume, "--seed", "3")
    assert "uses bidist and cannot continue with rpm" in error(capsys, *resume, "--method", "rpm")
    assert "run.name is 'cli-serial'" in error(capsys, *resume, "--run", "other")
    assert "learner.epochs is" in error(capsys, *resume, "--set", "learner.epochs=9")
    for more in (SMALL, ["--steps", "100"]):
        assert re.search("has made 3072 of [0-9]+ player steps: it is finished", error(capsys, *resume, *more))
    with RunFolder(tmp_path / "cli-serial").held("train"):
        assert "is already running" in error(capsys, *resume, "--redis", redis_url, "--steps", "6000")
    assert main(["list", "runs", *folder]) == 0
    assert re.search("cli-serial +bidist +matrix_coordination +3,072 of 3,000 +finished", capsys.readouterr().out)
    assert main(["status", *folder, "--run", "cli-serial"]) == 0
    shown = capsys.readouterr().out
    assert all(words in shown for words in ("is finished", "return of the trained population", "produced"))
    assert main(["train", "--serial", *folder, "--resume", "cli-serial", "--redis", redis_url, "--steps", "6000"]) == 0

    assert main(["status", "--redis", redis_url, "--run", "cli-serial"]) == 0
    shown = capsys.readouterr().out
    assert "produced" in shown
    assert "knows no run 'other'" in error(capsys, "status", "--redis", redis_url, "--run", "other")
    nothing = error(capsys, "status", "--folder", str(tmp_path / "empty"))
    assert "no run in" in nothing and "start one with `bidist train`" in nothing
    assert "no Redis answers at redis://127.0.0.1:1/0" in error(capsys, "status", "--redis", "redis://127.0.0.1:1/0")

    # `status` fails if the ledger does not balance.
    Store(redis_url, "cli-serial").client.hincrby("bidist:cli-serial:ledger", "trained", 5)
    assert main(["status", "--redis", redis_url, "--run", "cli-serial"]) == 1


def test_restarted_learner_continues_its_run(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, redis_url: str
) -> None:
    common = ["--folder", str(tmp_path), "--run", "cli-again", "--redis", redis_url]
    game = ["--substrate", "matrix_coordination", "--steps", "1500", *SMALL]
    assert main(["train", "--serial", *common, *game]) == 0
    assert main(["learner", *common, *game]) == 0
    assert main(["learner", *common]) == 0
    assert "environment.substrate is" in error(capsys, "learner", *common, "--substrate", "matrix_chicken")
    assert "no substrate is called 'x'" in error(capsys, "learner", *common[:3], "new", *common[4:], "--substrate", "x")
    assert [path.name for path in tmp_path.iterdir()] == ["cli-again"]


@pytest.mark.parametrize("role", ["actor", "distiller", "learner"])
def test_roles_without_redis_fail_at_once(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, role: str
) -> None:
    monkeypatch.chdir(tmp_path)
    line = error(capsys, role, "--redis", "redis://127.0.0.1:1/0", "--run", "x")
    assert "no Redis answers at redis://127.0.0.1:1/0" in line
    assert list(tmp_path.iterdir()) == []


def test_run_resumes_in_its_folder_from_any_directory(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, redis_url: str
) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    here.mkdir()
    there.mkdir()
    train = ["train", "--serial", "--redis", redis_url]
    monkeypatch.chdir(here)
    assert main([*train, "--run", "cli-far", "--substrate", "matrix_coordination", *SMALL, "--steps", "1500"]) == 0
    monkeypatch.chdir(there)
    assert main([*train, "--folder", str(here / "runs"), "--resume", "cli-far", "--steps", "3000"]) == 0
    assert main([*train, "--resume", str(here / "runs" / "cli-far"), "--steps", "4500"]) == 0
    assert list(there.iterdir()) == []
    updates = [line["updates"] for line in read_lines(here / "runs" / "cli-far" / "metrics.jsonl")]
    assert updates == list(range(1, len(updates) + 1)) and len(updates) > 3


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["list", "runs"], "there are no runs in runs; start one with `bidist train`"),
        (["list", "substrates", "xyz"], "there are no substrates with 'xyz' in their name"),
        (["watch"], "no run in runs yet: start one with `bidist train`"),
        (["evaluate"], "nothing to evaluate"),
        (["evaluate", "nowhere"], "there is no run at"),
        (["evaluate", "--random", "matrix_coordination"], "no official scenarios"),
        (["evaluate", "--random", "coins", "--follow"], "--follow follows one run"),
        (["evaluate", "nowhere", "--follow", "--policy", "a:b"], "--policy plays alone"),
        (["record", "nowhere"], "there is no run at"),
        (["report", "nowhere"], "no results"),
        (["bench", "--scenario", "coins_9"], "no scenario is called 'coins_9'"),
        (["bench", "scenarios", "--scenario", "coins_9"], "no scenario is called 'coins_9'"),
        (["bench", "methods", "--method", "mapo"], "did you mean mappo"),
        (["bench", "methods", "--scenario", "coins_0"], "only `bidist bench scenarios` takes it, not `bench methods`"),
        (["bench", "throughput", "--method", "mappo"], "only `bidist bench methods` takes it, not `bench throughput`"),
        (["conventions", "--out", "x", "--methods", "mapo"], "--methods 'mapo': expected some of 'bidist'"),
        (["curves", "nowhere", "--out", "x.png"], "runs/nowhere/config.yaml"),
        (["sweep", "nowhere.yaml"], "nowhere.yaml: "),
        (["sweep", "--method", "mapo"], "did you mean mappo"),
        (["sweep", "--seeds", "a"], "expected seeds such as 0-4"),
        (["sweep", "--status"], "there is no sweep at sweeps/sweep: no sweep.yaml"),
        (["tune"], "nothing to search"),
        (["crossplay", "nowhere"], "there is no run at"),
        (["chaos", "--out", "/proc/x/y.json"], "--out /proc/x/y.json: nothing can be written there"),
        (["crossplay", "a", "--checkpoint", "all"], "crossplay plays one checkpoint of each run"),
    ],
)
def test_impossible_requests_are_refused_and_leave_nothing(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    arguments: list[str],
    words: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert words in error(capsys, *arguments)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("command", "option", "text", "least"),
    [
        ("evaluate --random coins", "--episodes", "0", 1),
        ("evaluate --random coins", "--workers", "-1", 0),
        ("sweep", "--jobs", "0", 1),
        ("sweep", "--slurm", "0", 1),
        ("tune", "--trials", "0", 1),
        ("conventions --out x", "--seeds", "0", 1),
        ("crossplay a", "--episodes", "0", 1),
        ("train", "--actors", "-1", 0),
        ("chaos", "--actors", "0", 1),
        ("bench", "--rounds", "two", 1),
    ],
)
def test_a_number_out_of_range_is_refused_with_the_smallest_that_is_not(
    capsys: pytest.CaptureFixture[str], command: str, option: str, text: str, least: int
) -> None:
    with pytest.raises(SystemExit) as ended:
        main([*command.split(), f"{option}={text}"])
    assert ended.value.code == 2
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.endswith(f"argument {option}: expected {least} or a larger whole number, found {text!r}")


def test_name_of_a_run_wins_over_a_folder_of_that_name(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The working directory may contain a folder with the run's name, as it does in a container."""
    monkeypatch.chdir(tmp_path)
    for folder in ("mine", "runs/mine", "elsewhere/other"):
        (tmp_path / folder).mkdir(parents=True)
    assert "no run at runs/mine" in error(capsys, "record", "mine")
    assert "no run at elsewhere/other" in error(capsys, "record", "elsewhere/other")
    assert "no run at runs/nothing" in error(capsys, "record", "nothing")


def test_debug_shows_the_traceback(tmp_path: Path) -> None:
    done = command.bidist("--debug", "train", "--folder", str(tmp_path), "--method", "x")
    assert done.returncode != 0
    assert "Traceback" in done.stderr


def test_what_only_starts_and_watches_processes_does_not_load_torch() -> None:
    """It would take longer than everything else that `bidist train`, `sweep`, `watch` and `track` do at first."""
    modules = [
        "deploy.supervisor",
        "deploy.views",
        "experiments.sweeps.sweep",
        "experiments.sweeps.folder",
        "reports.summary",
    ]
    program = (
        f"import sys; import reports.tracking, {', '.join(modules)}\n"
        "from reports.provenance import hardware; hardware(drivers=()); print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True, cwd=command.ROOT)
    assert done.stdout.split() == ["False"]


def test_signal_handlers_are_restored_when_a_command_ends() -> None:
    before = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)]
    assert main(["evaluate", "--random", "coins", "--follow"]) == 2, "refused after its handlers were installed"
    assert [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)] == before


def test_compose_file_becomes_a_stack(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("services: {redis: {image: redis, ports: ['6379']}}\nvolumes: {}\n"))
    assert main(["stack"]) == 0
    assert yaml.safe_load(capsys.readouterr().out)["services"]["redis"]["image"] == "redis"


def test_foreign_packages_in_the_working_directory_are_not_imported(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """People give such names to their own programs and results."""
    for name in ("cli", "methods", "reports"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("raise ImportError('not this one')")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    assert subprocess.run(bidist("train", "--help"), capture_output=True).returncode == 0


@pytest.mark.parametrize("command", ["train", "watch", "actor --run x"])
@pytest.mark.parametrize("url", ["http://x", "nonsense", "redis://localhost:port/0", "redis://user:secret@x#/0"])
def test_what_is_no_redis_url_is_refused(url: str, command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="^2$"):
        main([*command.split(), "--redis", url])
    last = capsys.readouterr().err.splitlines()[-1]
    assert "argument --redis: " in last and "is not a Redis URL (" in last and "secret" not in last


@pytest.mark.parametrize(
    "scheme", ["tipc", "ws", "wss", "udp", "pgm", "epgm", "norm", "vmci", "TCP", "ipc", "inproc", ""]
)
def test_transports_other_than_tcp_are_refused_by_name(scheme: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="^2$"):
        main(["learner", "--listen", f"{scheme}://127.0.0.1:5555"])
    assert f"expected an address with tcp://, such as tcp://*:5555, found '{scheme}://" in capsys.readouterr().err
