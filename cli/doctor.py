"""`bidist doctor`: checks that this machine has what a run needs, and says how to fix what is missing."""

import sys
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from cli import checks, machine
from cli.checks import Check, Status
from common.cores import usable_cores

STYLES: dict[Status, str] = {"ok": "green", "warn": "yellow", "fail": "bold red"}


def diagnose() -> list[Check]:
    """Runs all checks."""
    return [
        checks.check_python(sys.version_info[:3]),
        checks.check_package("torch"),
        checks.check_package("numpy"),
        checks.check_package("pyzmq", "zmq"),
        checks.check_package("redis"),
        checks.check_package("dmlab2d"),
        checks.check_glibc(machine.wheel_tags("dmlab2d"), machine.glibc_version()),
        checks.check_substrates(machine.melting_pot_folder()),
        checks.check_bots(machine.melting_pot_folder()),
        checks.check_redis_server(),
        checks.check_cores(usable_cores()),
        checks.check_memory(machine.usable_memory()),
        checks.check_gpu(),
        checks.check_disk(Path.cwd()),
    ]


def render(found: list[Check]) -> Table:
    """Draws the checks as a table, with advice below the check it concerns."""
    table = Table(box=None, pad_edge=False)
    for column in ("", "check", "found"):
        table.add_column(column)
    for check in found:
        style = STYLES[check.status]
        table.add_row(Text(check.status, style), check.name, Text(check.found))
        if check.advice:
            table.add_row("", "", Text(f"-> {check.advice}", style))
    return table


def run() -> int:
    """Runs and prints all checks.

    Returns: the exit status, 1 if a check failed.
    """
    found = diagnose()
    Console().print(render(found))
    return int(any(check.status == "fail" for check in found))
