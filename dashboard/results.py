"""The results that `bidist report` and similar commands left in folders: documents, figures, tables, commands.

A file's command is the one recorded under `command` in a JSON file of its folder. Failing that, it is a command whose
`--out` names the file, found in the documents of its folder or of a parent folder.
"""

import csv
import json
import os
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from common.errors import ConfigError
from dashboard.files import PICTURES
from dashboard.markdown import blocks, commands
from dashboard.state import Row

DEEPEST = 5
DOCUMENTS = ("report.md", "sweep.md", "crossplay.md", "tune.md", "README.md")
NAMED = ("conventions", "crossplay", "diversity")
MAX_ROWS = 500
MAX_BYTES = 2_000_000


def folders(root: Path) -> list[Row]:
    """Returns folders with documents, figures or tables, by their path below the root; skips run folders."""
    return [
        {
            "folder": folder.relative_to(root).as_posix(),
            **{kind: len(paths) for kind, paths in _contents(folder).items()},
        }
        for folder in _walk(root)
        if any(_contents(folder).values())
    ]


def report(root: Path, name: str) -> Row:
    """Returns the contents of one folder.

    Raises:
      ConfigError: if there is no such folder below the root.
    """
    folder = (root / name).resolve()
    if not folder.is_relative_to(root.resolve()) or not folder.is_dir():
        raise ConfigError(f"no folder {name!r} below the results; GET api/results lists them")
    found = _contents(folder)
    return {
        "folder": name,
        "documents": [{"name": path.name, "blocks": _document(root, folder, path)} for path in found["documents"]],
        "pictures": [_picture(root, path) for path in found["pictures"]],
        "tables": [{"name": path.name, "command": command(root, path), **_table(path)} for path in found["tables"]],
    }


def command(root: Path, path: Path) -> str:
    """Returns the command that made a file; empty if none is recorded, since a wrong one is worse than none."""
    recorded = dict(_recorded(path.parent))
    for name in (f"{path.stem}.json", "command.json"):
        if name in recorded and _fits(recorded[name], path):
            return recorded[name]
    for place in (path.parent, *path.parent.parents):
        if not place.is_relative_to(root):
            break
        for text in (text for name in DOCUMENTS if (place / name).is_file() for text in commands(_text(place / name))):
            if _fits(text, path) and _writes(text, Path(root.name) / path.relative_to(root)):
                return text.replace("NAME", path.parent.name)
    return ""


def _fits(command: str, path: Path) -> bool:
    """Returns whether a command may have made a file: figures named after a sub-command come only from that one."""
    return path.stem not in NAMED or path.stem in command


def _writes(command: str, path: Path) -> bool:
    """Returns whether `--out` names a file, ignoring its suffix, or its folder; NAME matches any name."""
    try:
        words = shlex.split(command)
    except ValueError:
        return False
    if "--out" not in words[:-1]:
        return False
    out = Path(words[words.index("--out") + 1])
    wanted = path.with_suffix("") if out.suffix else path.parent
    found = out.with_suffix("").parts
    return len(found) == len(wanted.parts) and all(a in (b, "NAME") for a, b in zip(found, wanted.parts, strict=True))


def _recorded(folder: Path) -> Iterator[tuple[str, str]]:
    for path in sorted(folder.glob("*.json")):
        if path.stat().st_size < MAX_BYTES:
            try:
                found: Any = json.loads(path.read_text())
            except ValueError:
                continue
            if isinstance(found, dict) and isinstance(found.get("command"), str):
                yield path.name, found["command"]


def _walk(root: Path) -> Iterator[Path]:
    for place, below, files in os.walk(root):
        path = Path(place)
        below[:] = sorted(name for name in below if not name.startswith("."))
        if "config.yaml" in files or len(path.relative_to(root).parts) >= DEEPEST:
            below.clear()
        if "config.yaml" not in files:
            yield path


def _contents(folder: Path) -> dict[str, list[Path]]:
    files = sorted(path for path in folder.iterdir() if path.is_file() and not path.name.startswith("."))
    return {
        "documents": [folder / name for name in DOCUMENTS if folder / name in files],
        "pictures": [path for path in files if path.suffix in PICTURES],
        "tables": [path for path in files if path.suffix == ".csv"],
    }


def _picture(root: Path, path: Path) -> Row:
    return {"name": path.name, "path": path.relative_to(root.resolve()).as_posix(), "command": command(root, path)}


def _document(root: Path, folder: Path, path: Path) -> list[Row]:
    """Returns a document's blocks, with image paths relative to the root and the commands that made them."""
    found = blocks(_text(path))
    for block in found:
        if block["kind"] == "picture":
            picture = (folder / block["path"]).resolve()
            shown = picture.is_relative_to(root.resolve()) and picture.suffix in PICTURES
            block |= _picture(root, picture) if shown else {"path": "", "command": ""}
    return found


def _table(path: Path) -> Row:
    with path.open(newline="", errors="replace") as file:
        rows = [row for _, row in zip(range(MAX_ROWS + 1), csv.reader(file), strict=False)]
    with path.open("rb") as file:
        lines = sum(1 for _ in file)
    return {"head": rows[0] if rows else [], "rows": rows[1:], "total": max(0, lines - 1)}


def _text(path: Path) -> str:
    with path.open(errors="replace") as file:
        return file.read(MAX_BYTES)
