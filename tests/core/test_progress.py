"""Progress lines and bars on stderr."""

import io
import sys

import pytest

from birdnet_fs.core.progress import EscapedOutput, say, track


def test_track_yields_every_item_and_leaves_stdout_empty(capsys: pytest.CaptureFixture[str]) -> None:
    assert list(track(range(5), "counting")) == list(range(5))
    assert capsys.readouterr().out == ""


def test_say_prints_above_the_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    terminal = Terminal()
    monkeypatch.setattr("sys.stderr", terminal)
    monkeypatch.setenv("COLUMNS", "80")
    for i in track(range(2), "work"):
        say(f"item {i}")
    for i in range(2):
        assert terminal.getvalue().partition(f"item {i}\n")[0].endswith("\r")  # the bar was wiped out before


def test_track_prints_rate_and_remaining_time(capsys: pytest.CaptureFixture[str], monkeypatch) -> None:
    seconds = iter(range(0, 100, 20))  # 20 s per item, above the interval between lines
    monkeypatch.setattr("time.monotonic", lambda: float(next(seconds)))
    assert list(track(iter("ab"), "reading", total=2, unit="file")) == ["a", "b"]
    assert capsys.readouterr().err.splitlines() == [
        "reading: 1/2 file, 20 s/file, 20 s left",
        "reading: 2/2 file, 20 s/file, 0 s left",
    ]


def test_control_characters_reach_neither_stream(capsys) -> None:
    say("a\x1b[2Jb\nc")
    out = EscapedOutput(sys.stdout)
    print("d\x1b]0;e\x07", "f\rg", file=out)
    out.flush()
    found = capsys.readouterr()
    assert found.err == "a\\x1b[2Jb\nc\n"
    assert found.out == "d\\x1b]0;e\\x07 f\\rg\n"
