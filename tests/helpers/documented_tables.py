"""The tables of the documentation."""

import re

from sources import ROOT


def table(document: str, section: str) -> dict[str, list[str]]:
    """The table rows of a section by the code in their first cell; an empty section is the text before the first."""
    parts = re.split(r"^## ", (ROOT / "docs" / document).read_text(), flags=re.MULTILINE)
    (text,) = [p for i, p in enumerate(parts) if (p.partition("\n")[0].startswith(section) if section else i == 0)]
    rows = [
        [cell.strip() for cell in line.strip("|").split(" | ")] for line in text.splitlines() if line.startswith("| `")
    ]
    assert rows
    return {row[0].removeprefix("| ").strip("`"): row[1:] for row in rows}
