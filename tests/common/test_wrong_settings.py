"""Every setting with values of the wrong type, beyond its range, and in pairs, generated from the model itself."""

import itertools
import math
import random
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin

import pytest
from pydantic.fields import FieldInfo
from setting_numbers import numbers

from cli.main import main
from common.config import Config, MethodConfig, Section
from common.errors import ConfigError
from common.settings import build, load_config
from methods import METHODS, make_method
from methods.registry import resolve

NEVER: list[Any] = [[], [[1]], {}, {"a": 1}, math.nan, math.inf, -math.inf, 10**30, -(10**30), "x" * 100_000, "\n"]
"""No setting accepts one of these, but some accept long text."""


def beyond(limit: Any, whole: bool) -> list[float]:
    """The values next to a limit that it excludes."""
    found: list[float] = []
    for name, upward, excluded in (("ge", False, False), ("gt", False, True), ("le", True, False), ("lt", True, True)):
        if (x := getattr(limit, name, None)) is None:
            continue
        next_one = x + (1 if upward else -1) if whole else math.nextafter(x, math.inf if upward else -math.inf)
        found += [x, next_one] if excluded else [next_one]
    return found


def wrong(field: FieldInfo) -> list[Any]:
    """Values that a setting must refuse."""
    origin, inner = get_origin(field.annotation), get_args(field.annotation)
    kinds = set(inner if origin in (Union, types.UnionType) else [origin or field.annotation])
    text = kinds & {str, Path}
    values = [value for value in NEVER if not (text and isinstance(value, str))]
    values += [] if type(None) in kinds else [None]
    values += [] if bool in kinds else [True, False]
    values += [0, 1.5] if text or origin is tuple else []
    values += ["two", "", "0x", "1,5"] if not text else []
    values += [1.5] if kinds & {int} else []
    values += [2, -1] if bool in kinds else []
    values += ["nonsense", 3, inner[0] + " "] if origin is Literal else []
    if origin is tuple:
        values += [[1], [1, 2, 3], ["a", 1], [0, 1], [1, -2], [1.5, 2], "12"]
    for limit in field.metadata:
        values += beyond(limit, int in kinds)
        values += ["../x", "a b", "\x00", "a\n"] if getattr(limit, "pattern", None) is not None else []
        values += ["x" * (limit.max_length + 1)] if getattr(limit, "max_length", None) is not None else []
    return values


def every() -> Iterator[tuple[str, Any]]:
    """Every setting of the configuration with every wrong value."""
    for section, part in Config.model_fields.items():
        assert isinstance(part.annotation, type) and issubclass(part.annotation, Section)
        for key, field in part.annotation.model_fields.items():
            yield from ((f"{section}.{key}", value) for value in wrong(field))


def assert_clear(error: ConfigError, *names: str) -> None:
    text = str(error)
    assert all(name in text for name in names), text
    assert len(text.splitlines()) == 1 and len(text) < 600 * max(1, len(names)), text
    assert "found" in text, text


def test_every_setting_refuses_every_wrong_value_in_one_clear_line() -> None:
    tried = 0
    for path, value in every():
        with pytest.raises(ConfigError) as refused:
            load_config(values={path: value}, environ={})
            raise AssertionError(f"{path} accepts {value!r}")
        assert_clear(refused.value, path)
        tried += 1
    assert tried > 600


def test_wrong_values_are_all_named_in_whatever_combination() -> None:
    rng, values = random.Random(1), list(every())
    for _ in range(500):
        chosen = dict(rng.sample(values, rng.randrange(2, 6)))
        with pytest.raises(ConfigError) as refused:
            load_config(values=chosen, environ={})
        assert_clear(refused.value, *chosen)


def test_every_number_has_a_lower_and_an_upper_bound() -> None:
    unbounded = [
        path
        for path, field in numbers()
        for names in (("ge", "gt"), ("le", "lt"))
        if not any(getattr(limit, name, None) is not None for limit in field.metadata for name in names)
    ]
    assert not unbounded and len(dict(numbers())) > 50


@pytest.mark.parametrize(
    "absurd",
    [
        "actor.hang_s=0.0001",
        "run.heartbeat_s=0.0001",
        "run.heartbeat_s=1e9",
        "run.checkpoint_s=1e9",
        "network.core_size=10_000_000",
        "network.channels=[16, 1_000_000]",
        "learner.threads=100_000",
        "learner.learning_rate=1e30",
        "actor.environments=1_000_000",
    ],
)
def test_an_absurd_number_is_refused_with_the_bound(absurd: str) -> None:
    with pytest.raises(ConfigError, match=r"should be (greater|less) than or equal to \d"):
        load_config(overrides=[absurd], environ={})


@pytest.mark.parametrize("name", METHODS)
def test_a_methods_own_settings_refuse_every_wrong_value(name: str) -> None:
    method = make_method(Config(method=MethodConfig(name=name)))
    for key, field in type(method).Settings.model_fields.items():
        for value in wrong(field):
            with pytest.raises(ConfigError) as refused:
                resolve(Config(method=MethodConfig.model_validate({"name": name, key: value})))
                raise AssertionError(f"method.{key} accepts {value!r}")
            assert_clear(refused.value, f"method.{key}")


@pytest.mark.parametrize("whole", [None, 3, "text", [], [1], True])
@pytest.mark.parametrize("section", Config.model_fields)
def test_a_section_that_is_none_is_refused(section: str, whole: Any) -> None:
    with pytest.raises(ConfigError) as refused:
        build(Config, {section: whole})
    assert_clear(refused.value, section)


@pytest.mark.timeout(60)
def test_nothing_starts_with_a_wrong_setting(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """One wrong value for each setting, through the command line."""
    monkeypatch.chdir(tmp_path)
    for path, values in itertools.groupby(every(), key=lambda pair: pair[0]):
        text = next(value for _, value in values if value in ([[1]], {"a": 1}))
        assert main(["train", "--set", f"{path}={text}"]) == 2
        printed = capsys.readouterr()
        assert printed.err.startswith(f"bidist: error: {path}") and len(printed.err.splitlines()) == 1, printed.err
        assert not printed.out
    assert not list(tmp_path.iterdir())
