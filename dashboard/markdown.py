"""Parses the Markdown of reports into blocks of plain text, from which the page builds its elements.

It knows headings, paragraphs, lists, tables, images and code, and never passes HTML through.
"""

import re
from collections.abc import Iterator

from dashboard.state import Row

_HEADING = re.compile(r"(#{1,6})\s+(.*)")
_PICTURE = re.compile(r"!\[([^\]]*)\]\(([^)\s]+)\)")
_RULE = re.compile(r"\|?[\s:|-]*-{3,}[\s:|-]*\|?")
_ITEM = re.compile(r"\s*(?:[-*]|\d+\.)\s+(.*)")
_COMMAND = re.compile(r"(?:\.venv/bin/)?(?:bidist|make|docker|python -m)\s")


def blocks(text: str) -> list[Row]:
    """Parses a document into blocks, each with its `kind`: heading, text, list, table, picture or code."""
    return list(_blocks(text.splitlines()))


def commands(text: str) -> list[str]:
    """Finds the commands in code blocks and backticks; joins continued lines and strips comments."""
    found = []
    for block in blocks(text):
        if block["kind"] == "code":
            lines = block["text"].replace("\\\n", " ").splitlines()
        else:
            lines = [code for part in _texts(block) for code in re.findall(r"`([^`]+)`", part)]
        for line in lines:
            line = re.sub(r"\s+", " ", re.sub(r"^\$ |(?:^|\s)# .*$", "", line)).strip()
            if _COMMAND.match(line) and line not in found:
                found.append(line)
    return found


def _texts(block: Row) -> list[str]:
    if block["kind"] == "table":
        return [cell for row in block["rows"] for cell in row]
    return list(block["items"]) if block["kind"] == "list" else [block.get("text", "")]


def _blocks(lines: list[str]) -> Iterator[Row]:
    i = 0
    while i < len(lines):
        line, start = lines[i], i
        if line.startswith("```"):
            i += 1
            while i < len(lines) and not lines[i].startswith("```"):
                i += 1
            yield {"kind": "code", "text": "\n".join(lines[start + 1 : i])}
            i += 1
        elif found := _HEADING.fullmatch(line):
            yield {"kind": "heading", "level": len(found[1]), "text": found[2]}
            i += 1
        elif found := _PICTURE.fullmatch(line.strip()):
            yield {"kind": "picture", "text": found[1], "path": found[2]}
            i += 1
        elif line.startswith("|") and i + 1 < len(lines) and _RULE.fullmatch(lines[i + 1].strip()):
            i += 2
            while i < len(lines) and lines[i].startswith("|"):
                i += 1
            yield {"kind": "table", "head": _cells(line), "rows": [_cells(row) for row in lines[start + 2 : i]]}
        elif _ITEM.fullmatch(line):
            items: list[str] = []
            while i < len(lines) and lines[i].strip():
                if found := _ITEM.fullmatch(lines[i]):
                    items.append(found[1])
                else:
                    items[-1] += " " + lines[i].strip()
                i += 1
            yield {"kind": "list", "items": items}
        elif line.strip():
            i += 1
            while i < len(lines) and lines[i].strip() and not re.match(r"```|#|\||!\[", lines[i]):
                i += 1
            yield {"kind": "text", "text": " ".join(part.strip() for part in lines[start:i])}
        else:
            i += 1


def _cells(line: str) -> list[str]:
    return [cell.strip().replace("\\|", "|") for cell in re.split(r"(?<!\\)\|", line.strip().strip("|"))]
