"""Markdown for reports: tables, and values with their intervals."""

from collections.abc import Sequence
from typing import Any


def table(head: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """Formats a table."""
    rows = [head, ["---"] * len(head), *lines]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def interval_text(cell: Any) -> str:
    """Formats a value with its interval, if it has one."""
    if cell is None or cell[1] == cell[2]:
        return "" if cell is None else f"{cell[0]:.2f}"
    return f"{cell[0]:.2f} ({min(cell[1:]):.2f} to {max(cell[1:]):.2f})"
