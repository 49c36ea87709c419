"""What the command line reads and shows: help, versions, lists, and the ways to write numbers and settings."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from cli.arguments import expand_settings, steps
from cli.commands import version
from cli.configuration import new
from cli.main import main, parser


def test_help_imports_nothing_slow() -> None:
    """Neither does `python -m cli`, by which the roles are started."""
    program = (
        "import sys; from cli.main import parser; parser().format_help()\n"
        "print(*{'torch', 'redis', 'matplotlib', 'rich', 'dmlab2d', 'meltingpot'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    assert done.stdout.split() == []


@pytest.mark.parametrize("text", ["2000000", "2_000_000", "2e6", "2.0e6", "0.002e9"])
def test_steps_in_several_notations(text: str) -> None:
    assert steps(text) == 2_000_000
    arguments = parser().parse_args(["train", "--steps", text, "--substrate", "matrix_coordination"])
    assert new(arguments).run.player_steps == 2_000_000


@pytest.mark.parametrize("text", ["2.5", "many", "1e-3", "", "inf", "nan", "2M"])
def test_steps_that_are_no_whole_number(capsys: pytest.CaptureFixture[str], text: str) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["train", "--steps", text])
    assert ended.value.code == 2
    assert f"expected a whole number such as 2000000, 2_000_000 or 2e6, found {text!r}" in capsys.readouterr().err


def test_settings_need_no_option() -> None:
    bare = ["train", "learner.epochs=3", "--serial", "network.core=lstm", "--set", "learner.clip=0.1", "--seed", "4"]
    arguments = parser().parse_args(expand_settings(bare))
    assert arguments.overrides == ["learner.epochs=3", "network.core=lstm", "learner.clip=0.1"]
    assert (arguments.serial, arguments.seed) == (True, 4)
    config = new(arguments)
    assert (config.learner.epochs, config.network.core, config.learner.clip) == (3, "lstm", 0.1)
    plan = ["sweep", "plan.yaml", "learner.epochs=1", "--slurm-option", "some.thing=3"]
    assert expand_settings(plan) == [*plan[:2], "--set", *plan[2:]]
    elsewhere = ["evaluate", "my.run=1"]
    assert expand_settings(elsewhere) == elsewhere


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--version"])
    assert ended.value.code == 0
    assert capsys.readouterr().out == f"bidist {version()}\n"
    assert re.fullmatch(r"\d+\.\d+\.\d+", version())


@pytest.mark.parametrize(
    ("arguments", "lines"),
    [
        (["substrates"], ["matrix_chicken +matrix game", "coins +Melting Pot"]),
        (["substrates", "coins"], ["coins +Melting Pot"]),
        (["scenarios", "coins"], ["coins_0 +1 +1"]),
        (["methods"], ["mappo +The base method unchanged", "bidist +Mixed play"]),
        (["presets"], ["small +BiDist on pure coordination until conventions emerge"]),
    ],
)
def test_lists(capsys: pytest.CaptureFixture[str], arguments: list[str], lines: list[str]) -> None:
    assert main(["list", *arguments]) == 0
    shown = capsys.readouterr().out
    assert all(re.search(f"^{line}", shown, re.MULTILINE) for line in lines), shown
    if len(arguments) == 2:
        assert all(arguments[1] in line for line in shown.splitlines()[1:])


def test_list_of_runs_shows_a_damaged_one(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "odd").mkdir()
    (tmp_path / "odd" / "config.yaml").write_text("nonsense: 1\n")
    assert main(["list", "runs", "--folder", str(tmp_path)]) == 0
    assert re.search("odd .*config.yaml is damaged", capsys.readouterr().out)


ROOT = Path(__file__).parents[2]
COMMANDS = (
    *("train", "watch", "status", "doctor", "track", "push", "list", "settings", "config", "completion", "dashboard"),
    *("evaluate", "record", "diversity", "crossplay", "report", "curves"),
    *("sweep", "reproduce", "tune", "bench", "conventions", "chaos"),
    *("learner", "actor", "distiller", "health", "stack", "keys", "exporter"),
)


def test_help_lists_every_command_by_heading(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--help"])
    assert ended.value.code == 0
    shown = capsys.readouterr().out
    assert re.findall(r"^  (\w+) +\w", shown, re.MULTILINE) == list(COMMANDS)
    assert re.findall(r"^([a-z ]+):$", shown, re.MULTILINE) == [
        *("run", "look", "evaluate", "many runs", "operate", "options"),
    ]


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help(capsys: pytest.CaptureFixture[str], name: str) -> None:
    with pytest.raises(SystemExit) as ended:
        main([name, "--help"])
    assert ended.value.code == 0
    shown = capsys.readouterr().out
    assert shown.startswith(f"usage: bidist {name} [OPTION ...]")
    undocumented = re.findall(r"^  (-[-\w]+(?: [A-Z.,\d-]+)?)\n  \S", shown, re.MULTILINE)
    assert undocumented == []


def test_every_command_is_documented() -> None:
    page = (ROOT / "docs" / "cli.md").read_text()
    assert [name for name in COMMANDS if not re.search(rf"`(bidist )?{name}\b", page)] == []
