"""`bidist settings` and the page it generates."""

from pathlib import Path

import pytest

from cli import settings
from cli.main import main
from common.config import Config
from common.settings import suggestions

PAGE = Path(__file__).parents[2] / "docs" / "settings.md"


def test_page_is_up_to_date() -> None:
    generated = settings.markdown(settings.groups())
    assert PAGE.read_text() == generated, f"docs/settings.md is out of date; run: {settings.COMMAND}"


def test_every_setting_is_listed_once_with_its_meaning() -> None:
    listed = [setting for group in settings.groups() for setting in group.settings]
    names = [setting.name for setting in listed]
    declared = {f"{section}.{key}" for section, values in Config().model_dump().items() for key in values}
    assert declared <= set(names)
    assert {"method.learning_probability", "method.population", "method.options", "method.rank_width"} <= set(names)
    assert len(names) == len(set(names))
    assert all(setting.meaning.endswith(".") for setting in listed)


@pytest.mark.parametrize(
    ("name", "default", "accepted"),
    [
        ("learner.epochs", "2", "a whole number of at least 1 and at most 1,000"),
        ("learner.gamma", "0.99", "a number of at least 0 and at most 1"),
        ("learner.targets", '"gae"', "`gae` or `vtrace`"),
        ("learner.final_learning_rate", "null", "a number of at least 0 and at most 1 or `null`"),
        ("learner.device", '"auto"', "text that matches `^(auto|cpu|cuda(:\\d+)?)$`"),
        ("network.channels", "[16, 32]", "a list of 2 whole numbers of at least 1 and at most 1,024"),
        ("environment.last_action_and_reward", "true", "`true` or `false`"),
        ("run.folder", '"runs"', "a path"),
        ("run.heartbeat_s", "2.0", "a number of at least 0.05 and at most 600"),
    ],
)
def test_default_and_accepted_values(name: str, default: str, accepted: str) -> None:
    (found,) = [s for group in settings.groups() for s in group.settings if s.name == name]
    assert (found.default, found.accepted) == (default, accepted)


def test_methods_that_share_settings_share_a_group() -> None:
    found = {group.title: group for group in settings.groups()}
    assert (
        "`bidist`, `bidist-forward-only`, `bidist-no-distillation` or `bidist-symmetric`"
        in found["method: bidist"].meaning
    )
    assert "method: mappo" not in found


def test_word_filters_by_name_and_meaning(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["settings", "Entropy"]) == 0
    shown = capsys.readouterr().out
    assert "learner.entropy_coef" in shown and "method.option_entropy_coef" in shown
    assert "learner.epochs" not in shown and "distiller" not in shown
    assert main(["settings", "nonsense"]) == 2
    assert "no setting mentions 'nonsense'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("learner.lr", ["learner.learning_rate", "learner.final_learning_rate"]),
        ("learner.entropy", ["learner.entropy_coef", "learner.final_entropy_coef"]),
        ("learner.epoch", ["learner.epochs"]),
        ("learner.dense", ["network.dense"]),
        ("distiller.lr", ["distiller.forward_learning_rate", "distiller.reverse_learning_rate"]),
        ("lerner", ["learner"]),
        ("learner.zzz", []),
    ],
)
def test_unknown_settings_suggest_near_ones(path: str, expected: list[str]) -> None:
    sections = Config().model_dump()
    known = [*sections, *(f"{section}.{key}" for section, values in sections.items() for key in values)]
    assert suggestions(path, known) == expected
