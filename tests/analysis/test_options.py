"""Options of an analysis: thresholds, overlap and species lists."""

from dataclasses import replace

import pytest
from level_model import LevelModel

from birdnet_fs.analysis.options import MIN_CONFIDENCE, allowed_classes, check_options, read_species
from birdnet_fs.core.errors import UserError
from birdnet_fs.data.label_formats.cells import NO_CALL
from birdnet_fs.data.windows import WindowRule
from birdnet_fs.fewshot.enrollment import UNKNOWN_CLASS as UNKNOWN

CLASSES = ("Turdus merula_Eurasian Blackbird", "Parus major_Great Tit", "nocall", "bird0_0")
OPTIONS = {"min_confidence": None, "overlap_s": 0.0, "top_n": 0, "merge_consecutive": 1, "species": ()}


def test_species_list_selects_classes(tmp_path, capsys):
    assert allowed_classes(CLASSES, []) == (0, 1, 2, 3)
    assert allowed_classes(CLASSES, ["Turdus merula", "bird0_0"]) == (0, 3)
    assert allowed_classes(CLASSES, ["Parus major_Kohlmeise", "Corvus corax"]) == (1,)  # another language
    assert "1 of 2 names are not classes of the model, first 'Corvus corax'" in capsys.readouterr().err
    with pytest.raises(UserError, match=r"None of the 1 names .* Did you mean 'nocall'"):
        allowed_classes(CLASSES, ["no call"])
    path = tmp_path / "list.txt"
    path.write_text("\ufeff# spring\nTurdus merula\n\n  nocall \n", encoding="utf-8")
    assert read_species(path) == ["Turdus merula", "nocall"]
    for content, words in ((b"\n", "holds no name"), (b"\xff\xfe\xfa", "must be UTF-8")):
        path.write_bytes(content)
        with pytest.raises(UserError, match=words):
            read_species(path)
    with pytest.raises(UserError, match="cannot be read"):
        read_species(tmp_path / "absent.txt")


@pytest.mark.parametrize(
    ("species", "selected"),
    [
        (["Turdus_merula", "Parus_major"], ["Parus_major"]),
        (["Turdus iliacus"], ["Turdus_iliacus"]),
        (["turdus iliacus", "Turdus_philomelos"], ["Turdus_iliacus", "Turdus_philomelos"]),
        (["Strix aluco"], ["Strix aluco_call", "Strix aluco_song"]),
        (["Strix aluco_song"], ["Strix aluco_song"]),
        (["Strix aluco_Waldkauz"], ["Strix aluco_call", "Strix aluco_song"]),
        (["amro_call"], ["amro_call"]),
        (["Owl, Barn", "Parus_major"], ["Parus_major"]),
        (["Turdus", "amro", "Parus_major"], ["Parus_major"]),
    ],
)
def test_species_list_selects_the_named_species_only(species, selected):
    classes = ["Turdus_iliacus", "Turdus_philomelos", "Parus_major", "Strix aluco_call", "Strix aluco_song"]
    classes += ["amro_call", "amro_song", "Owl, Tawny"]
    assert [classes[i] for i in allowed_classes(classes, species)] == selected


@pytest.mark.parametrize(
    ("given", "threshold"),
    [
        ({}, MIN_CONFIDENCE),
        ({"top_n": 2}, 0.0),
        ({"top_n": 2, "min_confidence": 0.1}, 0.1),
        ({"min_confidence": 0.0}, 0.0),
    ],
)
def test_default_threshold_depends_on_top_n(given, threshold):
    assert check_options(LevelModel().engine, **{**OPTIONS, **given}).min_confidence == threshold


@pytest.mark.parametrize("name", [*sorted(NO_CALL), UNKNOWN, "Noise", "UNKNOWN"])
def test_no_call_class_is_no_detection_unless_the_species_list_names_it(name):
    engine = replace(LevelModel().engine, classes=("Parus major", name, "noisy miner"))
    assert check_options(engine, **OPTIONS).no_call == (1,)
    assert check_options(engine, **{**OPTIONS, "species": ["Parus major"]}).no_call == (1,)
    assert check_options(engine, **{**OPTIONS, "species": [name]}).no_call == ()
    with pytest.raises(UserError, match=r"None of the classes .* is a detection"):
        check_options(replace(engine, classes=(name,)), **OPTIONS)


def test_options_hold_the_rule_of_cutting_and_class_indices():
    options = check_options(LevelModel().engine, **{**OPTIONS, "overlap_s": 0.25, "species": ["Parus major"]})
    assert options.rule == WindowRule(8_000, 6_000, 8_000) and options.allowed == (1,)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"min_confidence": 1.1}, r"min_conf must be in 0\.\.1\. Received: 1\.1"),
        ({"top_n": -1}, r"top_n must be 0 \(no limit\) or more\. Received: -1"),
        ({"merge_consecutive": -1}, r"merge_consecutive must be 0 \(no limit\) or more"),
        ({"overlap_s": 1.0}, r"overlap must be 0 or more and below the model's segment of 1 s"),
        ({"species": ["Parus mjor"]}, r"None of the 1 names in the species list is a class"),
    ],
)
def test_options_out_of_range_are_refused(given, message):
    with pytest.raises(UserError, match=message):
        check_options(LevelModel().engine, **{**OPTIONS, **given})
