"""`bidist config` and `bidist completion`: what a shell is given."""

import importlib.util
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from cli.config import commented
from cli.main import main
from common.config import Config
from common.settings import load_config, validate
from methods import METHODS, resolve


@pytest.mark.parametrize("method", METHODS)
def test_the_printed_settings_are_those_of_the_run(method: str) -> None:
    config = resolve(load_config(overrides=[f"method.name={method}", "learner.adam_eps=1e-7"], environ={}))
    assert validate(yaml.safe_load(commented(config))) == config


def test_settings_are_printed_with_their_meaning_and_serve_as_a_preset(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["config", "--method", "opre", "--steps", "2e5", "learner.epochs=7", "method.options=3"]) == 0
    printed = capsys.readouterr().out
    lines = printed.splitlines()
    assert lines[lines.index("  epochs: 7") - 1] == "  # Passes over a batch."
    assert lines[lines.index("  options: 3") - 1] == "  # K, the number of options."
    assert "  channels: [16, 32]" in lines and "  player_steps: 200000" in lines
    described = sum(line.startswith("  # ") for line in lines)
    assert described >= sum(len(type(getattr(Config(), name)).model_fields) for name in Config.model_fields)
    preset = tmp_path / "mine.yaml"
    preset.write_text(printed)
    assert main(["config", "--preset", str(preset), "--seed", "5"]) == 0
    assert capsys.readouterr().out == printed.replace("  seed: 0", "  seed: 5")
    assert main(["config", "learner.lr=1"]) == 2
    assert "did you mean learner.learning_rate" in capsys.readouterr().err


@pytest.mark.skipif(importlib.util.find_spec("shtab") is None, reason="found no shtab: bidist[completion]")
@pytest.mark.parametrize(
    ("words", "completed"),
    [
        (["bidist", "tra"], "train track"),
        (["bidist", "train", "--subs"], "--substrate"),
        (["bidist", "list", "meth"], "methods"),
        (["bidist", "track", "RUN", "--to", "w"], "wandb"),
    ],
)
def test_bash_completes_commands_options_and_choices(
    words: list[str], completed: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bash = shutil.which("bash")
    assert bash is not None
    assert main(["completion", "bash"]) == 0
    script = tmp_path / "completion.sh"
    script.write_text(capsys.readouterr().out)
    typed = f"COMP_WORDS=({' '.join(words)}); COMP_CWORD={len(words) - 1}"
    text = f'source {script}; {typed}; _shtab_bidist; echo "${{COMPREPLY[@]}}"'
    done = subprocess.run([bash, "-c", text], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == completed
