"""The files of a folder that may be served: images, videos and tables, and nothing outside the folder."""

from pathlib import Path

PICTURES = (".png", ".jpg", ".jpeg", ".gif", ".webp")
FILMS = (".mp4", ".webm")
TYPES = {
    ".png": "image/png",
    ".jpg": "image/jpeg",
    ".jpeg": "image/jpeg",
    ".gif": "image/gif",
    ".webp": "image/webp",
    ".mp4": "video/mp4",
    ".webm": "video/webm",
}
"""Media types of servable files by suffix; nothing that a browser would execute."""


def inside(root: Path, relative: str) -> Path | None:
    """Resolves a path below a folder; returns None if it is missing, leads outside, or is of a kind not served.

    Symbolic links are resolved first, so one that leads outside is refused as well.
    """
    if "\0" in relative:
        return None
    path = (root / relative).resolve()
    try:
        return path if path.is_relative_to(root.resolve()) and path.suffix in TYPES and path.is_file() else None
    except OSError:  # such as a name that is too long
        return None
