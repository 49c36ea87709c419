"""Where settings come from, which source wins, and the messages about invalid ones."""

import ast
from pathlib import Path

import pytest
import yaml

import common.config
from common.config import Config, learner_threads
from common.errors import ConfigError
from common.run_folder import RunFolder
from common.settings import load_config, preset_names


def test_later_sources_win(tmp_path: Path) -> None:
    preset = tmp_path / "mine.yaml"
    preset.write_text("learner: {epochs: 5, clip: 0.1, gamma: 0.9, threads: 3}")
    environ = {
        f"BIDIST_LEARNER__{name}": value for name, value in (("CLIP", "0.3"), ("GAMMA", "0.8"), ("THREADS", "4"))
    }
    environ["OTHER__X"] = "1"
    overrides = ["learner.gamma=0.7", "learner.threads=5"]
    found = load_config(str(preset), overrides, {"learner.threads": 6}, environ).learner
    assert (found.epochs, found.clip, found.gamma, found.threads) == (5, 0.3, 0.7, 6)
    assert found.minibatches == Config().learner.minibatches


def test_values_are_read_as_yaml() -> None:
    overrides = ["distiller.reverse_bound=null", "network.channels=[4, 8]", "run.player_steps=2_000"]
    found = load_config(overrides=overrides, environ={})
    assert found.distiller.reverse_bound is None
    assert found.network.channels == (4, 8)
    assert found.run.player_steps == 2000


def test_a_resolved_configuration_reads_back_unchanged() -> None:
    config = load_config("small", ["distiller.reverse_bound=null", "run.name=x"], environ={})
    text = yaml.safe_dump(config.model_dump(mode="json"))
    assert Config.model_validate(yaml.safe_load(text)) == config
    assert Config.model_validate_json(config.model_dump_json()) == config


@pytest.mark.parametrize("name", preset_names())
def test_every_preset_is_valid_and_differs_from_the_defaults(name: str) -> None:
    assert load_config(name, environ={}) != Config()


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("learner.epoch=2", ["learner.epoch: no such setting", "epochs"]),
        ("leaner.epochs=2", ["leaner: no such setting", "learner"]),
        ("learner.epochs=two", ["learner.epochs", "integer", "found 'two'"]),
        ("learner.epochs=0", ["learner.epochs", "greater than or equal to 1", "found 0"]),
        ("learner.epochs", ["expected section.key=value"]),
        ("epochs=2", ["expected section.key"]),
        ("network.core=rnn", ["network.core", "'gru' or 'lstm'", "'rnn'"]),
        ("learner.device=tpu", ["learner.device", "found 'tpu'"]),
        ("run.name=../x", ["run.name", "'../x'"]),
        ("distiller.burn_in=32", ["distiller.burn_in=32 leaves no steps", "less than actor.unroll_length=32"]),
    ],
)
def test_an_invalid_setting_is_named_with_what_was_found_and_what_is_accepted(override: str, words: list[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config(overrides=[override], environ={})
    for word in words:
        assert word in str(caught.value)
    assert "\n" not in str(caught.value)


def test_all_invalid_settings_are_named() -> None:
    with pytest.raises(ConfigError, match=r"learner\.clip.*distiller\.every|distiller\.every.*learner\.clip"):
        load_config(overrides=["learner.clip=-1", "distiller.every=0"], environ={})


def test_an_invalid_environment_variable_is_named() -> None:
    with pytest.raises(ConfigError, match=r"learner\.epochs"):
        load_config(environ={"BIDIST_LEARNER__EPOCHS": "none"})


@pytest.mark.parametrize("text", ["- a list", "a: [unclosed"])
def test_a_preset_that_is_not_a_mapping_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "bad.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=r"bad\.yaml"):
        load_config(str(path), environ={})


def test_a_preset_or_run_cannot_multiply_a_value_by_aliases(tmp_path: Path) -> None:
    lines = ["x0: &a0 [" + ", ".join("a" * 10) + "]"]
    lines += [f"x{i}: &a{i} [" + ", ".join([f"*a{i - 1}"] * 10) + "]" for i in range(1, 9)]
    for name in ("bomb.yaml", "config.yaml"):
        (tmp_path / name).write_text("\n".join([*lines, "learner: {epochs: *a8}"]))
    words = r"line 2: aliases such as \*a0 are refused; write the value out$"
    with pytest.raises(ConfigError, match=words):
        load_config(str(tmp_path / "bomb.yaml"))
    with pytest.raises(ConfigError, match=words):
        RunFolder(tmp_path).read_config()
    with pytest.raises(ConfigError, match="learner.epochs: .*found '\\[&a 1, "):
        load_config(overrides=["learner.epochs=[&a 1, *a]"])


@pytest.mark.parametrize("value", ["\udcff", "[" * 2000, "1" * 5000, "0x" + "f" * 5000, "2026-13-45"])
def test_a_value_that_python_cannot_read_is_refused_like_any_other(tmp_path: Path, value: str) -> None:
    path = tmp_path / "bad.yaml"
    path.write_text(f"learner: {{epochs: {value}}}", errors="surrogateescape")
    with pytest.raises(ConfigError, match=r"bad\.yaml|learner\.epochs"):
        load_config(str(path))
    with pytest.raises(ConfigError, match=r"learner\.epochs: .*found ") as refused:
        load_config(overrides=[f"learner.epochs={value}"])
    assert len(str(refused.value)) < 400


def test_an_unknown_preset_lists_the_known_ones() -> None:
    with pytest.raises(ConfigError, match=r"'smal'.*the presets are .*small"):
        load_config("smal", environ={})


def test_every_setting_has_a_docstring() -> None:
    for name, section in Config.model_fields.items():
        assert section.annotation is not None
        for key, field in section.annotation.model_fields.items():
            assert field.description, f"{name}.{key} has no docstring"


def test_every_setting_is_used_somewhere() -> None:
    root = Path(common.config.__file__).parents[1]
    read = set()
    services = ("actors", "distiller", "evaluator", "learner")
    for folder in ("common", "environments", "networks", "methods", *services, "deploy"):
        for path in (root / folder).rglob("*.py"):
            tree = ast.parse(path.read_text())
            read |= {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    for name, section in Config.model_fields.items():
        assert section.annotation is not None
        unused = section.annotation.model_fields.keys() - read
        assert not unused, f"{name}: nothing reads {sorted(unused)}"


def test_the_learner_leaves_cores_to_actors() -> None:
    learner = Config().learner
    assert learner_threads(learner) >= 1
    assert learner_threads(learner.model_copy(update={"threads": 7})) == 7


def test_runs_older_than_the_last_action_setting_do_not_observe_it(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    folder.create(Config())
    assert folder.read_config().environment.last_action_and_reward
    lines = folder.config.read_text().splitlines(keepends=True)
    folder.config.write_text("".join(line for line in lines if "last_action_and_reward" not in line))
    assert not folder.read_config().environment.last_action_and_reward
    folder.config.write_text("learner: {epoch: 3}\n")
    with pytest.raises(ConfigError, match=r"config\.yaml: learner\.epoch: no such setting"):
        folder.read_config()
