"""The sub-commands of `bidist`, and the overview of them that `bidist --help` prints."""

import argparse
import importlib.metadata
import tomllib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

HEADINGS = ("run", "look", "evaluate", "many runs", "operate")
Handler = Callable[[argparse.Namespace], int]


class Commands:
    """Collects sub-commands under headings.

    Args:
      parser: the parser of `bidist` itself.
    """

    def __init__(self, parser: argparse.ArgumentParser) -> None:
        self._parsers = parser.add_subparsers(
            dest="command", required=True, metavar="COMMAND", help=argparse.SUPPRESS, prog="bidist"
        )
        self._summaries: dict[str, dict[str, str]] = {heading: {} for heading in HEADINGS}

    def add(
        self, heading: str, name: str, summary: str, handler: Handler, arguments: str = "", notes: str = ""
    ) -> argparse.ArgumentParser:
        """Adds a sub-command and returns its parser.

        Args:
          heading: one of `HEADINGS`.
          name: of the sub-command.
          summary: one line, lower case, without a full stop.
          handler: called with the parsed arguments; returns the exit status.
          arguments: the positional arguments, for the usage line.
          notes: shown below the options as they are, such as examples.
        """
        self._summaries[heading][name] = summary
        parser: argparse.ArgumentParser = self._parsers.add_parser(
            name,
            help=summary,  # for shell completion
            usage=f"bidist {name} [OPTION ...] {arguments}".strip(),
            description=f"{summary[0].upper()}{summary[1:]}.",
            epilog=notes or None,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        parser.set_defaults(handler=handler)
        return parser

    def overview(self) -> str:
        """Every sub-command with its summary, by heading."""
        groups = []
        for heading, summaries in self._summaries.items():
            lines = [f"  {name:<12} {summary}" for name, summary in summaries.items()]
            groups.append("\n".join([f"{heading}:", *lines]))
        return "\n\n".join(groups)


class ShowVersion(argparse.Action):
    """Prints the version and exits."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: str | Sequence[Any] | None,
        option_string: str | None = None,
    ) -> None:
        """See `argparse.Action`."""
        print(f"bidist {version()}")
        parser.exit()


def version() -> str:
    """The installed version, or that of the checkout if the project is not installed."""
    try:
        return importlib.metadata.version("bidist")
    except importlib.metadata.PackageNotFoundError:
        document = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text())
        return str(document["project"]["version"])
