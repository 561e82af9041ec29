"""Fails if the site in a folder links to a file or heading that is missing, or loads files from other servers.

.ci/links.py FOLDER
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from urllib.parse import unquote


def broken(site: Path) -> list[str]:
    """The links that lead nowhere and the files of other servers, as "PAGE: TARGET"."""
    found = []
    texts = {page: page.read_text(encoding="utf-8") for page in site.rglob("*.html") if page.name != "404.html"}
    for page, text in texts.items():
        for kind, target in re.findall(r'(<link [^>]*?href|href|src)="([^"]+)"', text):
            name, _, anchor = unquote(target).partition("#")
            if re.match(r"[a-z]+:|//", name):
                bad = kind != "href" and not name.startswith("data:")
            else:
                file = (page.parent / name).resolve() if name else page
                bad = not file.is_file() or bool(anchor and file in texts and f'id="{anchor}"' not in texts[file])
            if bad:
                found.append(f"{page.relative_to(site)}: {target}")
    return found


if __name__ == "__main__":
    links = broken(Path(sys.argv[1]).resolve())
    sys.exit("\n".join(links) if links else 0)
