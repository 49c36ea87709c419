"""Where a run's settings come from, and error messages about invalid ones.

There are four sources, each overriding the ones before it: the defaults in `common.config`, a preset (a YAML file),
environment variables (`BIDIST_LEARNER__EPOCHS=2`), and the command line (`--set learner.epochs=2`). No other module
reads environment variables.
"""

import difflib
import os
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import ValidationError

from common.config import Config, Section
from common.errors import ConfigError

PRESETS = Path(__file__).parent / "presets"
ENVIRONMENT_PREFIX = "BIDIST_"
MAX_SHOWN_VALUE = 200
"""Characters of a wrong value that a message shows."""
MAX_SHOWN_NAME, MAX_SHOWN_PROBLEMS = 60, 20
"""Characters of an unknown name, and wrong settings, that a message shows."""
# Where a role finds its run if the command line does not say. Variables with two underscores are settings.
REDIS_VARIABLE, RUN_VARIABLE = "BIDIST_REDIS", "BIDIST_RUN"
# The code from outside BiDist that a role may run.
ALLOW_VARIABLE = "BIDIST_ALLOW"
# Files with secrets, so that neither a command line nor the environment holds one.
PASSWORD_VARIABLE, KEYS_VARIABLE = "BIDIST_REDIS_PASSWORD_FILE", "BIDIST_KEYS"
# How a role talks to its operator: the form of its log, and where it answers probes.
LOG_VARIABLE, HEALTH_VARIABLE = "BIDIST_LOG", "BIDIST_HEALTH_PORT"

S = TypeVar("S", bound=Section)


def load_config(
    preset: str | None = None,
    overrides: Iterable[str] = (),
    values: Mapping[str, Any] | None = None,
    environ: Mapping[str, str] = os.environ,
    base: Config | None = None,
) -> Config:
    """Resolves a configuration from its four sources.

    Args:
      preset: name of a preset, or path of a YAML file; None takes the defaults.
      overrides: `section.key=value` strings from the command line; values are parsed as YAML.
      values: `section.key` to value, from named options such as `--seed`; they override everything else.
      environ: the environment variables, `BIDIST_SECTION__KEY`.
      base: the configuration to start from; None takes the defaults.

    Raises:
      ConfigError: naming the setting, what was found and what is accepted.
    """
    tree: dict[str, Any] = {} if base is None else base.model_dump()
    if preset is not None:
        _merge(tree, read_yaml(preset_path(preset)))
    for name, text in environ.items():
        if name.startswith(ENVIRONMENT_PREFIX) and "__" in name:
            section, _, key = name.removeprefix(ENVIRONMENT_PREFIX).lower().partition("__")
            _assign(tree, f"{section}.{key}", _parse(text), f"environment variable {name}")
    for path, value in parse_overrides(overrides).items():
        _assign(tree, path, value, f"--set {path}={_short(value)}")
    for path, value in (values or {}).items():
        _assign(tree, path, value, path)
    return validate(tree)


def parse_overrides(overrides: Iterable[str], option: str = "--set") -> dict[str, Any]:
    """Parses an option's `section.key=value` strings; values are YAML, and the last one for a key wins.

    Raises:
      ConfigError: if one has no `=`.
    """
    found = {}
    for override in overrides:
        path, equals, text = override.partition("=")
        if not equals:
            example = "section.key=value, such as learner.epochs=2" if option == "--set" else "key=value"
            raise ConfigError(f"{option} {override}: expected {example}")
        found[path.strip()] = _parse(text)
    return found


def validate(tree: Mapping[str, Any]) -> Config:
    """Turns nested plain values into a configuration; `methods.resolve` validates the method's own settings.

    Raises:
      ConfigError: naming every invalid setting.
    """
    return build(Config, tree)


def differences(one: Config, other: Config) -> dict[str, tuple[Any, Any]]:
    """Returns the settings in which two configurations differ, as `section.key`, with the values of both."""
    first, second = _flat(one), _flat(other)
    names = [name for name in first | second if first.get(name) != second.get(name)]
    return {name: (first.get(name), second.get(name)) for name in names}


def _flat(config: Config) -> dict[str, Any]:
    sections = config.model_dump()
    return {f"{section}.{key}": value for section, values in sections.items() for key, value in values.items()}


def build(model: type[S], tree: Mapping[str, Any], path: str = "") -> S:
    """Turns plain values into a section.

    Args:
      model: the section.
      tree: its values; missing ones take their defaults.
      path: prefix of its settings' names in messages.

    Raises:
      ConfigError: naming every invalid setting.
    """
    try:
        return model.model_validate(tree)
    except ValidationError as error:
        problems = [_explain(e, model, path) for e in error.errors()[:MAX_SHOWN_PROBLEMS]]
        more = (
            [f"and {error.error_count() - MAX_SHOWN_PROBLEMS} more"] if error.error_count() > MAX_SHOWN_PROBLEMS else []
        )
        raise ConfigError("; ".join([*problems, *more])) from None


class _Loader(yaml.SafeLoader):
    """Refuses aliases, by which a few lines can stand for a value that fills the memory."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            alias = self.get_event()  # type: ignore[no-untyped-call]
            name, line = _named(alias.anchor), alias.start_mark.line + 1
            raise yaml.YAMLError(f"line {line}: aliases such as *{name} are refused; write the value out")
        return super().compose_node(parent, index)


def load_yaml(text: str) -> Any:
    """Returns the value of a YAML document without aliases.

    Raises:
      YAMLError: if it is malformed or has an alias.
    """
    loader = _Loader(text)
    try:
        return loader.get_single_data()
    except (ValueError, RecursionError) as error:  # a date or number that cannot be, or lists within lists
        raise yaml.YAMLError(str(error)) from None
    finally:
        loader.dispose()


def read_yaml(path: Path) -> dict[str, Any]:
    """Reads a YAML mapping.

    Raises:
      ConfigError: if the file cannot be read or is not a mapping.
    """
    try:
        tree = load_yaml(path.read_text())
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(f"{path}: {' '.join(str(error).split())}") from None
    if not isinstance(tree, dict):
        raise ConfigError(f"{path}: expected a mapping of sections, found {type(tree).__name__}")
    return tree


def variable(name: str) -> str | None:
    """Returns the value of an environment variable; None if it is unset or empty."""
    return os.environ.get(name) or None


def setting_variables() -> list[str]:
    """Returns the names of the environment variables that change settings."""
    return sorted(name for name in os.environ if name.startswith(ENVIRONMENT_PREFIX) and "__" in name)


def preset_names() -> list[str]:
    """Returns the names of the presets that come with the project."""
    return sorted(path.stem for path in PRESETS.glob("*.yaml"))


def preset_path(preset: str) -> Path:
    """Returns the path of a preset by name, or of a user's own file.

    Raises:
      ConfigError: if neither exists.
    """
    for path in (PRESETS / f"{preset}.yaml", Path(preset)):
        if path.is_file():
            return path
    raise ConfigError(f"preset {preset!r}: no such preset or file; the presets are {', '.join(preset_names())}")


def suggestions(path: str, known: Iterable[str]) -> list[str]:
    """Returns the settings that an unknown name may stand for, likeliest first, at most three.

    A setting qualifies if it has the same key in another section, if the name abbreviates it (`lr`, `entropy`), or if
    it is spelt alike.

    Args:
      path: the unknown name.
      known: the names that exist.
    """
    section, _, key = path.rpartition(".")
    found: dict[str, float] = {}
    for name in known:
        other, _, candidate = name.rpartition(".")
        near = difflib.SequenceMatcher(None, key, candidate).ratio()
        if other == section and _abbreviates(key, candidate):
            near += 1
        if candidate == key or (other == section and near > 0.7):
            found[name] = near
    return sorted(found, key=lambda name: -found[name])[:3]


def _abbreviates(short: str, key: str) -> bool:
    words = key.split("_")
    initials = "".join(word[:1] for word in words)
    return (len(short) > 1 and short in initials) or bool({*short.split("_")} & {*words})


def _keys(annotation: Any) -> Iterable[str]:
    return annotation.model_fields if isinstance(annotation, type) and issubclass(annotation, Section) else ()


def _merge(into: dict[str, Any], tree: Mapping[str, Any]) -> None:
    for key, value in tree.items():
        if isinstance(value, Mapping) and isinstance(into.get(key), dict):
            _merge(into[key], value)
        else:
            into[key] = dict(value) if isinstance(value, Mapping) else value


def _assign(tree: dict[str, Any], path: str, value: Any, source: str) -> None:
    section, dot, key = path.partition(".")
    if not dot or not section or not key:
        raise ConfigError(f"{source}: expected section.key, such as learner.epochs, found {path!r}")
    tree.setdefault(section, {})[key] = value


def _parse(text: str) -> Any:
    try:
        return load_yaml(text)
    except yaml.YAMLError:
        return text


def _short(value: Any) -> str:
    try:
        text = repr(value)
    except ValueError:
        return f"a number of more than {sys.get_int_max_str_digits()} digits"
    return text if len(text) <= MAX_SHOWN_VALUE else f"{text[:MAX_SHOWN_VALUE]}... ({len(text)} characters)"


def _explain(error: Any, model: type[Section], path: str) -> str:
    path = ".".join([*filter(None, [path]), *map(_named, error["loc"])])
    if error["type"] == "extra_forbidden":
        fields: Any = model.model_fields
        for part in error["loc"][:-1]:
            annotation = fields[part].annotation
            fields = annotation.model_fields
        section = path.rpartition(".")[0]
        known = [f"{section}.{name}" if section else name for name in fields]
        if model is Config:
            known += [f"{name}.{key}" for name, part in model.model_fields.items() for key in _keys(part.annotation)]
        if near := suggestions(path, known):
            return f"{path}: no such setting; did you mean {' or '.join(near)}? there are {', '.join(fields)}"
        return f"{path}: no such setting; there are {', '.join(fields) or 'none'}"
    message = error["msg"].removeprefix("Value error, ")
    return f"{path}: {message}, found {_short(error['input'])}" if path else message


def _named(part: str | int) -> str:
    """Returns a part of a setting's name, whatever it contains, on one line and not too long."""
    text = str(part)
    return text if text.isprintable() and len(text) <= MAX_SHOWN_NAME else ascii(text[:MAX_SHOWN_NAME])
