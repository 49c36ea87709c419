"""A MkDocs hook: links from docs/ into the rest of the repository, which the site does not contain.

On a code host `../results/README.md` works as it is. In the site it becomes a link to `repo_url`, or plain text if none
is set.
"""

import re
from collections.abc import Mapping

OUTSIDE = re.compile(r"\[([^\]]+)\]\(\.\./([^)]+)\)")


def on_page_markdown(markdown: str, *, config: Mapping[str, object], **_: object) -> str:
    """Rewrites a page's links that leave docs/."""
    repository = config["repo_url"]
    link = rf"[\1]({repository}/blob/main/\2)" if repository else r"\1"
    return OUTSIDE.sub(link, markdown)
