"""What every page of the package must be: one file that loads nothing and runs nothing but the script it names."""

import base64
import hashlib
import re
from html.parser import HTMLParser


class Page(HTMLParser):
    """Tags, what they would load, scripts, and the text of a page.

    Attributes:
        html: The page.
        words: The text outside of scripts and styles.
    """

    def __init__(self, html: str) -> None:
        super().__init__()
        self.html = html
        self.tags: list[str] = []
        self.loads: list[str] = []
        self.scripts: list[str] = []
        self.words: list[str] = []
        self._inside = ""
        self.policy = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        self.tags.append(tag)
        self._inside = tag
        loading = ("src", "href", "xlink:href", "data", "srcset", "action")
        self.loads += [value for name, value in attrs if name in loading and value]
        assert not any(name.startswith("on") for name, _ in attrs)
        if values.get("http-equiv") == "Content-Security-Policy":
            self.policy = values["content"] or ""

    def handle_endtag(self, tag: str) -> None:
        self._inside = ""

    def handle_data(self, data: str) -> None:
        if self._inside == "script":
            self.scripts.append(data)
        elif self._inside != "style":
            self.words.append(data)

    @property
    def text(self) -> str:
        """The text with single spaces."""
        return " ".join("".join(self.words).split())


def check_page(html: str) -> Page:
    """Check that a page loads nothing and may run its own script only, and return it."""
    page = Page(html)
    assert not {"link", "iframe", "object", "embed", "base", "form"} & set(page.tags)
    assert all(load.startswith(("#", "data:image/", "data:audio/")) for load in page.loads), page.loads
    assert not re.search(r"https?://|url\((?!#)|@import", re.sub(r"&lt;.*?&gt;", "", html))
    (script,) = page.scripts
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in page.policy and "default-src 'none'" in page.policy
    assert "unsafe-inline" not in page.policy.replace("style-src 'unsafe-inline'", "") and "eval" not in page.policy
    return page
