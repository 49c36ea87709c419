"""`bidist config`: the settings of a run as YAML with comments, to be read, or edited and used as a preset."""

import argparse
import textwrap
from collections.abc import Mapping

import yaml
from pydantic.fields import FieldInfo

from cli.commands import Commands
from cli.configuration import add_configuration, resolved
from common.config import Config

WIDTH = 120
EXAMPLES = """\
examples:
  bidist config                                    what `bidist train` would use
  bidist config --method opre --substrate coins learner.epochs=4
  bidist config > mine.yaml                        then edit it, and: bidist train --preset mine.yaml
"""


def add_parsers(commands: Commands) -> None:
    """Adds `config`."""
    summary = "print the resolved settings of a new run as YAML, with comments"
    config = commands.add("look", "config", summary, _config, "[SECTION.KEY=VALUE ...]", EXAMPLES)
    add_configuration(config)


def _config(arguments: argparse.Namespace) -> int:
    print(commented(resolved(arguments)), end="")
    return 0


def commented(config: Config) -> str:
    """Writes a configuration as YAML, with the meaning of each setting above it."""
    from methods import make_method

    own = type(make_method(config).settings).model_fields
    parts = []
    for name in Config.model_fields:
        section = getattr(config, name)
        fields = {**type(section).model_fields, **(own if name == "method" else {})}
        head = [*_comment(type(section).__doc__ or "", ""), f"{name}:"]
        parts.append("\n".join(head + _settings(section.model_dump(mode="json"), fields)))
    return "\n\n".join(parts) + "\n"


def _settings(values: Mapping[str, object], fields: Mapping[str, FieldInfo]) -> list[str]:
    lines = []
    for key, value in values.items():
        lines += _comment(fields[key].description or "", "  ")
        flow = None if isinstance(value, list) else False  # None keeps a list on the line of its key
        lines.append(textwrap.indent(yaml.safe_dump({key: value}, default_flow_style=flow), "  ").rstrip())
    return lines


def _comment(text: str, indent: str) -> list[str]:
    start = f"{indent}# "
    return textwrap.wrap(" ".join(text.split()), WIDTH, initial_indent=start, subsequent_indent=start)
