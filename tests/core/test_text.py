"""Names as printable text: no name writes to the terminal, breaks a table's line or markup."""

import os
import unicodedata
from pathlib import Path

import jinja2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from birdnet_fs.core.text import escaped, escaped_lines, markdown
from birdnet_fs.data.ledger import Ledger

HOSTILE = os.fsdecode(b"\x1b[2J\x07a\tb\nc\r\x00\x7fcaf\xe9") + "\u202e\u2028\u0085"
SHOWN = r"\x1b[2J\x07a\tb\nc\r\x00\x7fcaf\udce9\u202e\u2028\x85"


def test_escaped_keeps_printable_names() -> None:
    for name in ("Pájaro 鳥 \\x", "a b_c-d (1).wav", "", "Ümlaut;,'\"", "🐦"):
        assert escaped(name) == name
    assert escaped(Path("/rec/a.wav")) == "/rec/a.wav"
    assert escaped(2.5) == "2.5"


def test_escaped_replaces_control_characters() -> None:
    assert escaped(HOSTILE) == SHOWN
    assert escaped(Path("x") / HOSTILE.replace("\x00", "")) == "x/" + SHOWN.replace("\\x00", "")


@given(st.text(st.characters(codec=None), max_size=30))
def test_escaped_returns_one_printable_line(name: str) -> None:
    shown = escaped(name)
    shown.encode("utf-8")
    assert len(shown.splitlines()) <= 1
    assert not any(unicodedata.category(c) in ("Cc", "Cf", "Cs", "Zl", "Zp") for c in shown)
    assert escaped(shown) == shown


def test_escaped_lines_keeps_line_breaks_only() -> None:
    assert escaped_lines("one\n  two\x07\r\nthree") == "one\n  two\\x07\\r\nthree"


@pytest.mark.parametrize("name", ["a_b*c* [x](y) `z` | <script> & \\n", HOSTILE])
def test_markdown_renders_as_the_escaped_name(name: str) -> None:
    shown = markdown(name)
    assert "<" not in shown
    # unescaping what CommonMark unescapes gives the text back: backslash before punctuation, then HTML entities
    plain, i = "", 0
    while i < len(shown):
        i += shown[i] == "\\" and i + 1 < len(shown) and shown[i + 1] in "\\`*_[]|"
        plain += shown[i]
        i += 1
    assert plain.replace("&lt;", "<").replace("&amp;", "&") == escaped(name)


def test_html_is_escaped_by_the_template_alone() -> None:
    page = jinja2.Environment(autoescape=True).from_string("{{ name }}")
    assert page.render(name=escaped("<b>\x07")) == "&lt;b&gt;\\x07"


def test_ledger_prints_and_writes_escaped_names(tmp_path: Path) -> None:
    ledger = Ledger()
    ledger.add(HOSTILE, "quarantined", "no audio in\x1b[31m it")
    assert SHOWN + ": no audio in\\x1b[31m it" in ledger.summary()
    ledger.write(tmp_path / "ledger.csv")
    lines = (tmp_path / "ledger.csv").read_text(encoding="utf-8").split("\n")
    assert lines[1].startswith(SHOWN + ",quarantined,")
    assert len(lines) == 3
