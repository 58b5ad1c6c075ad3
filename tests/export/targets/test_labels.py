"""The labels file."""

import pytest

from birdnet_fs.core.errors import UserError
from birdnet_fs.export.targets.labels import label_lines


def test_label_lines_are_pairs_in_order() -> None:
    lines = label_lines(["Turdus merula_Common Blackbird", "noise", "été"])
    assert lines == ["Turdus merula_Common Blackbird", "noise_noise", "été_été"]


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("lilac_breasted_roller", "lilac breasted roller"),
        ("amro_call", "amro call"),
        ("Turdus_merula", "Turdus merula"),
        ("Owl, Barn", "Owl, Barn"),
        ("Strix aluco_Tawny_Owl", "Tawny Owl"),
        ("Dog_Dog", "Dog"),
        ("_x", "x"),
        ("=cmd()", "=cmd()"),
    ],
)
def test_every_program_shows_the_whole_name(name: str, shown: str) -> None:
    """BirdNET-Analyzer divides at the first `_`, BirdNET-Go into three parts at most, BirdNET-Pi as the first."""
    [line] = label_lines([name])
    assert line.split("_", 1)[-1] == shown  # BirdNET-Analyzer, Raven and CSV tables
    parts = line.strip().split("_", 2)  # BirdNET-Go: scientific name, common name, species code
    assert len(parts) == 2 and parts[1] == shown
    assert line.split("_")[0] in (shown, "Strix aluco")  # BirdNET-Pi identifies species by it


def test_names_that_differ_in_underscores_only_are_refused() -> None:
    with pytest.raises(UserError, match="'amro call_amro call' stands for 'amro_call' and 'amro call'"):
        label_lines(["amro_call", "amro call"])


@pytest.mark.parametrize("classes", [["a", "a"], ["a", "a_a"], [""], ["a\nb"], [" "]])
def test_label_lines_that_cannot_be_read_back_are_refused(classes: list[str]) -> None:
    with pytest.raises(UserError):
        label_lines(classes)
