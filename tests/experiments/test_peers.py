"""Other training systems: what is installed, what they are told, and how they are measured."""

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import psutil
import pytest
import torch
from waiting import until

from cli.main import main
from common.config import NetworkConfig
from common.errors import BidistError, SetupError
from common.spec import EnvironmentSpec
from environments.matrix_game import MatrixGame
from experiments.speed import peer_speed, time_to_return
from experiments.speed.peers import installation
from experiments.speed.peers.embedding import Embedding
from experiments.speed.peers.games import observation_space, rows
from experiments.speed.peers.installation import DEFAULT_FOLDER, PEERS, Installed, Peer, install
from experiments.speed.peers.line_up import same
from experiments.speed.peers.settings import Sizes
from experiments.speed.peers.systems import FOLDER, Line, System, follow, of_peer
from experiments.speed.peers.task import METRICS, Task
from networks.network import Network

GAME = "running_with_scissors_in_the_matrix__one_shot"  # small images


def no_network(peer: Peer, folder: Path) -> Installed:
    raise SetupError("no route to host")


# Installation.


def test_what_plays_and_trains_is_the_same_version_as_here() -> None:
    for peer in PEERS.values():
        plan = peer.plan()
        assert set(peer.requirements) < set(plan)
        assert f"torch=={torch.__version__.partition('+')[0]}" in plan
        assert any(requirement.startswith("dmlab2d==") for requirement in plan)
        assert not any(requirement.startswith("numpy") for requirement in plan)


def test_a_peer_is_installed_once_and_sees_this_projects_games(tmp_path: Path) -> None:
    commands: list[list[str]] = []

    def run(command: list[str], log: Path) -> str:
        commands.append(command)
        return installation.run([*command, "--without-pip"], log) if "venv" in command else "one==1\ntwo==2\n"

    peer = PEERS["rllib"]
    for _ in range(2):
        found = install(peer, tmp_path / "peers", run)
        assert found.packages == ["one==1", "two==2"]
        assert [command[2:] for command in commands] == [
            ["venv", "--clear", str(tmp_path / "peers" / "rllib")],
            ["pip", "--disable-pip-version-check", "install", "--no-input", *peer.plan()],
            ["pip", "--disable-pip-version-check", "freeze"],
        ]
    program = (
        "import common.errors, importlib.util as i; print(common.errors.__file__, i.find_spec('meltingpot').origin)"
    )
    seen = subprocess.check_output([found.python, "-P", "-c", program], text=True).split()
    assert seen[0].startswith(str(tmp_path)) and Path(seen[0]).samefile(sys.modules["common.errors"].__file__ or "")
    assert Path(seen[1]).parent.name == "meltingpot"


def test_an_installation_that_fails_is_repeated_and_says_why(tmp_path: Path) -> None:
    def run(command: list[str], log: Path) -> str:
        if "venv" in command:
            return installation.run([*command, "--without-pip"], log)
        return installation.run([sys.executable, "-m", "pip", "install", "--no-index", "sample-factory==2.1.1"], log)

    for _ in range(2):
        with pytest.raises(SetupError, match="No matching distribution found for sample-factory==2.1.1; all of it"):
            install(PEERS["sample-factory"], tmp_path, run)
    assert "Could not find a version" in (tmp_path / "sample-factory.log").read_text()


# What a peer is told.


def test_peers_train_with_this_projects_settings(tmp_path: Path) -> None:
    config = same(GAME, epochs=3, seed=5)
    factory = PEERS["sample-factory"].settings(config, Sizes(environments=24, players=8, cores=4))
    assert {factory["num_epochs"], factory["seed"], factory["rnn_size"]} == {3, 5, config.network.core_size}
    assert factory["num_workers"] * factory["num_envs_per_worker"] == 24
    assert factory["learning_rate"] == config.learner.learning_rate
    rllib = PEERS["rllib"].settings(config, Sizes(environments=24, players=8, cores=4))
    assert rllib["env_runners"]["num_env_runners"] * rllib["env_runners"]["num_envs_per_env_runner"] == 24
    assert rllib["training"]["num_epochs"] == 3 and rllib["training"]["lr"] == config.learner.learning_rate
    task = Task(config, rllib)
    task.write(tmp_path)
    assert Task.read(tmp_path) == task


def test_peers_have_this_projects_network_but_for_the_critic() -> None:
    spec, config = EnvironmentSpec("game", 2, 8, (11, 11, 3), 5), NetworkConfig()
    embedding = Embedding(spec.rgb_shape, spec.features, config)
    rgb, features = torch.randint(0, 255, (7, 11, 11, 3), dtype=torch.uint8), torch.randn(7, 5)
    assert embedding(rgb, features).shape == (7, config.dense)
    ours = Network(spec, config, policies=1)
    parts = [*ours.conv_1.parameters(), *ours.conv_2.parameters(), *ours.dense.parameters()]
    assert sum(p.numel() for p in embedding.parameters()) == sum(p.numel() for p in parts)


def test_players_observe_what_their_space_says() -> None:
    game = MatrixGame("matrix_coordination", 3, 4)
    seen = rows(game.reset(1))
    assert len(seen) == 3
    assert all(observation_space(game.spec).contains(row) for row in seen)


# What a peer reports, in the form that runs of both had.


def script(tmp_path: Path, body: str) -> System:
    """A training system that is a few lines of Python."""
    lines = ["import sys, time", f"sys.path.insert(0, {str(Path(__file__).parents[2])!r})", "from pathlib import Path"]
    program = "\n".join([*lines, "from experiments.speed.peers.task import report", body])
    return System("Script", {}, [sys.executable, "-c", program, FOLDER], METRICS)


def test_a_system_is_followed_and_ended_with_its_children(tmp_path: Path) -> None:
    body = """
import subprocess
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
for n in range(1, 10_000):
    report(Path(sys.argv[1]), {"player_steps": child.pid, "return_learning": n})
    time.sleep(0.05)
"""
    lines = follow(script(tmp_path, body), 60.0)
    first, second = next(lines), next(lines)
    assert first.returned is not None and second.returned is not None
    assert 0 < first.elapsed_s < second.elapsed_s and first.returned < second.returned
    lines.close()
    pid = first.player_steps
    until(lambda: not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE)


def test_a_system_that_ends_shows_its_output(tmp_path: Path) -> None:
    with pytest.raises(BidistError, match="(?s)Script ended with exit status 3:.*the reason"):
        next(follow(script(tmp_path, "print('the reason'); sys.exit(3)"), 60.0))


def test_a_system_that_says_nothing_is_stopped_at_the_limit(tmp_path: Path) -> None:
    assert list(follow(script(tmp_path, "time.sleep(600)"), 0.5)) == []


LINES = [Line(20.0, 0, None), Line(29.9, 900, 1.0), Line(30.0, 1000, 2.5), Line(34.0, 2000, 4.0), Line(35.5, 6500, 3.0)]


def test_speed_is_measured_between_lines_after_the_warm_up() -> None:
    assert peer_speed.rate_of(LINES, 4.0) == 250
    assert peer_speed.rate_of(LINES, 5.0) == 1000
    assert peer_speed.rate_of(LINES, 6.0) is None
    assert peer_speed.rate_of([], 1.0) is None


def test_a_return_is_reached_at_the_first_line_that_has_it() -> None:
    lines = iter(LINES)
    assert time_to_return.reached(lines, [2.0, 4.0]) == time_to_return.Reached({2.0: 30.0, 4.0: 34.0}, LINES[3])
    assert next(lines) == LINES[4]
    assert time_to_return.reached(LINES, [1.0, 5.0]) == time_to_return.Reached({1.0: 29.9, 5.0: None}, LINES[-1])
    assert time_to_return.reached([], [1.0]) == time_to_return.Reached({1.0: None}, None)


# The benchmarks.


def test_speed_of_all_systems(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Each ratio is taken within a round, and what fails is left out."""
    rounds = iter([[100.0, 200.0, 400.0, 100.0], [100.0, 100.0, 200.0, 20.0]])
    rates: list[float] = []

    def measure(seconds: float, system: System) -> float:
        assert seconds == 2.0
        if not rates:
            rates.extend(next(rounds))
        return rates.pop(0)

    def only_sample_factory(peer: Peer, folder: Path) -> Installed:
        return Installed(Path("python"), ["one==1"]) if peer.name == "sample-factory" else no_network(peer, folder)

    out = tmp_path / "peers.json"
    assert peer_speed.run(GAME, 2.0, 2, out, [], 1, tmp_path, only_sample_factory, measure) == 0
    document = json.loads(out.read_text())
    assert document["command"] == f"bidist bench peers --substrate {GAME} --seconds 2 --rounds 2 --epochs 1"
    assert [row["what"] for row in document["results"]] == ["BiDist", "MAPPO", "MAPPO, as peers", "Sample Factory"]
    assert document["missing"] == {"RLlib": "no route to host"}
    *_, equal, peer = document["results"]
    assert "--set learner.epochs=1" in equal["command"] and "--set network.core=lstm" in equal["command"]
    assert peer["command"] == "python -P -m experiments.speed.peers.sample_factory FOLDER"
    assert peer["player_steps_per_s"] == [100.0, 20.0] and peer["packages"] == ["one==1"]
    assert peer["settings"]["rnn_type"] == "lstm" and peer["settings"]["num_epochs"] == 1
    shown = capsys.readouterr().out
    assert "Sample Factory 60 20-100 18%" in " ".join(shown.split())
    assert "RLlib is missing: no route to host" in shown


def test_time_to_return_of_all_systems(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    trained: list[tuple[str, object]] = []

    def measure(goals: Sequence[float], limit_s: float, system: System) -> time_to_return.Reached:
        trained.append((system.label, system.settings.get("run.seed", system.settings.get("seed"))))
        if system.label == "Sample Factory":
            raise BidistError("it ended")
        return time_to_return.Reached({goals[0]: 12.0, goals[1]: None}, Line(60.0, 5000, 4.25))

    def installed(peer: Peer, folder: Path) -> Installed:
        return Installed(Path("python"), [])

    out = tmp_path / "time.json"
    goals = time_to_return.goals(GAME, [2.0, 9.5])
    assert time_to_return.run(goals, 60.0, 2, out, ["sample-factory"], 1, tmp_path, installed, measure) == 0
    assert trained == [("BiDist", 0), ("MAPPO", 0), ("Sample Factory", 0), ("BiDist", 1), ("MAPPO", 1)]
    document = json.loads(out.read_text())
    chosen = f"--peer sample-factory --substrate {GAME} --return 2 --return 9.5"
    assert document["command"] == f"bidist bench time-to-return --seconds 60 --rounds 2 --epochs 1 {chosen}"
    assert [row["seconds"] for row in document["results"]] == 4 * [{"2.0": 12.0, "9.5": None}]
    shown = " ".join(capsys.readouterr().out.split())
    assert "MAPPO 12 s, 12 s not within 60 s, not within 60 s" in shown
    assert "BiDist ended at 60 s, 5,000 player steps, return 4.25" in shown
    assert "Sample Factory is missing: it ended" in shown


def test_this_projects_own_failure_is_no_result(tmp_path: Path) -> None:
    def measure(seconds: float, system: System) -> float:
        raise BidistError("no Redis")

    with pytest.raises(BidistError, match="no Redis"):
        peer_speed.run(GAME, 1.0, 1, None, [], 1, tmp_path, no_network, measure)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["peers", "--peer", "sample-factory,rlib"], "--peer 'rlib': expected some of sample-factory, rllib"),
        (["--peer", "rlib"], "--peer 'rlib'"),
        (["peers", "--seconds", "0"], "--seconds 0 --rounds 3: both must be positive"),
        (["peers", "--epochs", "0"], "learner.epochs"),
        (["peers", "--substrate", "coin"], "no substrate is called 'coin'"),
        (["peers", "--return", "3"], "only `bidist bench time-to-return` takes it, not `bench peers`"),
        (["core", "--peer", "rllib"], "only `bidist bench peers` and `bidist bench time-to-return` takes it"),
        (["--return", "3"], "--return 3: name the game with --substrate"),
        (["time-to-return", "--substrate", "coins"], "--substrate coins: no return is set for this game"),
        (["time-to-return", "--substrate", "coin", "--return", "3"], "no substrate is called 'coin'"),
    ],
)
def test_impossible_comparisons(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, arguments: list[str], words: str
) -> None:
    folder = [] if arguments[0] == "core" else ["--environments-folder", str(tmp_path)]
    assert main(["bench", *arguments, *folder]) == 2
    assert words in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


# The real systems.


@pytest.mark.slow
@pytest.mark.parametrize("name", PEERS)
def test_a_peer_trains(name: str) -> None:
    if not (DEFAULT_FOLDER / name / "installed.json").exists():
        pytest.skip(f"`bidist bench peers` installs {name}, which takes minutes")
    config = same(GAME, epochs=1)
    lines = follow(of_peer(PEERS[name], install(PEERS[name], DEFAULT_FOLDER), config), 300.0)
    first = next(lines)
    second = next(line for line in lines if line.returned is not None)
    lines.close()
    assert first.player_steps < second.player_steps
    assert second.elapsed_s > first.elapsed_s
