"""Crawl the built site: local links lead somewhere, and no page fetches from another host.

python tests/crawl_site.py docs/_build/html

Links that a reader may follow to other sites are left alone.
"""

import re
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

# What a browser fetches by itself when it shows a page.
_FETCHED = {("link", "href"), ("object", "data"), ("img", "srcset"), ("source", "srcset")}
_FETCHED |= {
    (tag, "src") for tag in ("audio", "embed", "iframe", "img", "script", "source", "video")
}
_IN_STYLES = re.compile(r"""(?:url\(|@import)\s*['"]?([^'")\s;]+)""")


class Page(HTMLParser):
    """The anchors, links and requests of an HTML file."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.anchors: set[str] = set()
        self.links: list[str] = []
        self.requests: list[str] = []
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if name in ("id", "name") and value:
                self.anchors.add(value)
            elif (tag, name) == ("a", "href"):
                self.links.append(value or "")
            elif (tag, name) in _FETCHED:
                addresses = (value or "").split(",") if name == "srcset" else [value or ""]
                self.requests += [address.split()[0] for address in addresses if address.strip()]
            elif name == "style":
                self.requests += _IN_STYLES.findall(value or "")


def problems(root: Path) -> list[str]:
    # Files in _static are the theme's, among them a template that is no page.
    paths = [path for path in sorted(root.rglob("*.html")) if "_static" not in path.parts]
    pages = {path: Page(path) for path in paths}
    requests = {path: page.requests for path, page in pages.items()}
    requests |= {path: _IN_STYLES.findall(path.read_text()) for path in root.rglob("*.css")}
    found = [
        f"{path.relative_to(root)}: asks another host for {address}"
        for path, addresses in requests.items()
        for address in addresses
        if urlsplit(address).netloc
    ]
    for path, page in pages.items():
        for address in page.links + page.requests:
            parts = urlsplit(address)
            if parts.scheme or parts.netloc:
                continue
            target = path.parent / unquote(parts.path) if parts.path else path
            target = target.resolve()
            fragment = unquote(parts.fragment)
            if not target.is_file():
                found.append(f"{path.relative_to(root)}: no file for {address}")
            elif fragment and target in pages and fragment not in pages[target].anchors:
                found.append(f"{path.relative_to(root)}: no anchor for {address}")
    return found


if __name__ == "__main__":
    site = Path(sys.argv[1]).resolve()
    # An empty message would be a failure, too.
    sys.exit("\n".join(problems(site)) or None)
