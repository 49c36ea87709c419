"""Files of a folder that may be shown: pictures, films and tables, and nothing outside of the folder."""

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
"""What is served, by suffix, and as what; never anything that a browser would run."""


def inside(root: Path, relative: str) -> Path | None:
    """A file below a folder by its path; None if there is none, if it leads out of it, or is of no kind to be shown.

    Symbolic links are followed first, so one that leads out is refused as well.
    """
    if "\0" in relative:
        return None
    path = (root / relative).resolve()
    try:
        return path if path.is_relative_to(root.resolve()) and path.suffix in TYPES and path.is_file() else None
    except OSError:  # such as a name that is too long
        return None
