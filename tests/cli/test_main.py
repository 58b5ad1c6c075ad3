"""The command line as users run it: verbs in order, their help, names that a terminal cannot print."""

import io
import signal
import sys
from pathlib import Path

import pytest
import typer
from audio_files import chirps, write
from command_line import birdnet_fs

from birdnet_fs.cli.main import app, main
from birdnet_fs.core import stopping

VERBS = [
    "quickstart",
    "init",
    "manifest",
    "models",
    "show",
    "train",
    "tune",
    "cv",
    "ensemble",
    "pseudo-label",
    "fewshot-eval",
    "enroll",
    "quantize",
    "evaluate",
    "analyze",
    "segments",
    "sample",
    "estimate",
    "camtrap",
    "export",
    "bench",
    "motifs",
]


def test_help_lists_the_verbs_in_order(tmp_path: Path) -> None:
    lines = birdnet_fs("--help", cwd=tmp_path).stdout.splitlines()
    listed = [line.split()[0] for line in lines if line.startswith("  ") and line.split() and line.split()[0] in VERBS]
    assert listed == VERBS


def verbs_of(groups: typer.core.TyperGroup, *path: str) -> list[tuple[str, ...]]:
    """Every verb, those in groups with the words before them."""
    found = [(*path, name) for name in groups.commands]
    inner = [(name, one) for name, one in groups.commands.items() if isinstance(one, typer.core.TyperGroup)]
    return found + [verb for name, one in inner for verb in verbs_of(one, *path, name)]


@pytest.mark.parametrize("verb", verbs_of(typer.main.get_command(app)), ids=" ".join)
def test_every_verb_has_a_help_text(verb: tuple[str, ...], monkeypatch, capsys) -> None:
    monkeypatch.setattr(sys, "argv", ["birdnet-fs", *verb, "--help"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 0 and len(capsys.readouterr().out) > 200


def test_a_command_in_this_process_leaves_no_signal_handler_to_the_next_test() -> None:
    """It follows tests that call `main`, whose handlers would keep a signal from ending the tests."""
    assert all(signal.getsignal(getattr(signal, name)) is not stopping._stop for name in stopping.SIGNALS)


def test_version_prints_the_version(tmp_path: Path) -> None:
    from birdnet_fs import __version__

    assert birdnet_fs("--version", cwd=tmp_path).stdout.strip() == __version__


def test_class_names_outside_the_code_page_are_printed_escaped(tmp_path: Path, monkeypatch) -> None:
    (tmp_path / "in" / "Łabędź").mkdir(parents=True)
    write(tmp_path / "in" / "Łabędź" / "1.wav", chirps(1, 8000), 8000)
    printed = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(printed, encoding="cp1252", write_through=True))
    monkeypatch.setattr(sys, "argv", ["birdnet-fs", "manifest", str(tmp_path / "in"), "-o", str(tmp_path / "m.csv")])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 0 and r"\u0141ab\u0119d\u017a" in printed.getvalue().decode("cp1252")


@pytest.mark.parametrize("verb", ["train", "cv", "tune", "motifs extract", "cache build"])
def test_a_verb_without_its_arguments_names_the_one_that_is_missing(verb: str, monkeypatch, capsys) -> None:
    monkeypatch.setattr(sys, "argv", ["birdnet-fs", *verb.split()])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2 and "Missing argument" in capsys.readouterr().err
