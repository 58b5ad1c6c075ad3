"""Labels in one cell: lists in every form that programs write, words for no class, and missing labels."""

import json

import numpy as np
import pytest

from birdnet_fs.data.label_formats.cells import (
    MAX_LIST,
    MISSING,
    NO_CALL,
    cell_labels,
    format_labels,
    label_notes,
    list_labels,
    parse_labels,
)
from birdnet_fs.schema import Data

ONE, MANY = Data(), Data(multi_label=True)
TWO = ["Turdus merula", "Wilson's Warbler"]


@pytest.mark.parametrize(
    "cell",
    [
        str(TWO),
        repr(tuple(TWO)),
        "{'Turdus merula', \"Wilson's Warbler\"}",
        json.dumps(TWO),
        str(np.array(TWO)),
        str(np.array(TWO, object)),
        repr(np.array(TWO)),
        str(list(np.array(TWO))),
        str(np.array(TWO)).replace(' "', '\n "'),
        f"frozenset({set(TWO[:1])})".replace("}", ', "Wilson\'s Warbler"}'),
        f"Index({TWO}, dtype='object')",
        "[Turdus merula, Wilson's Warbler]",
        "['Turdus merula', 'Wilson's Warbler']",
        "{Turdus merula,Wilson's Warbler}",
        "Turdus merula;Wilson's Warbler",
        ' "Turdus merula" ; "Wilson\'s Warbler"; ',
        "['Turdus merula', \"Wilson's Warbler\", nan, None]",
        "[ 'Turdus merula' ,, \"Wilson's Warbler\" , 'Turdus merula', ]",
    ],
)
def test_lists_as_programs_write_them(cell):
    assert parse_labels(cell) == tuple(TWO)
    assert cell_labels(cell, MANY) == (tuple(TWO), True, "")


@pytest.mark.parametrize(
    "names", [["caf\u00e9", "🦉"], ["a\\b", 'q"q'], ["a;b", "c,d"], ["nan", "None"], ["[x]", "{y}"], ["0123", "1e5"]]
)
def test_lists_written_by_json_python_and_numpy_are_read_exactly(names):
    for cell in (json.dumps(names), str(names), str(tuple(names)), str(np.array(names))):
        if "\\" not in str(np.array(names)) or cell != str(np.array(names)):
            assert parse_labels(cell) == tuple(names), cell


@pytest.mark.parametrize(
    "text", ["nan", "None", "NA", "0123", "1e5", "-1", "=cmd()", "Owl, Barn", "(noise)", "a|b", "[x", "1.0", "True"]
)
def test_other_cells_are_labels_as_they_are_written(text):
    assert cell_labels(f" {text} ", ONE) == cell_labels(text, MANY) == ((text,), True, "")


def test_with_one_label_only_lists_of_quoted_names_are_lists():
    assert cell_labels("['owl']", ONE) == (("owl",), True, "")
    assert cell_labels("[owl]", ONE).labels == ("[owl]",) and cell_labels("a;b", ONE).labels == ("a;b",)
    found = cell_labels("['owl', 'wren']", ONE)
    assert (
        found.labels == ()
        and found.problem == "it has 2 labels ('owl', 'wren'); set data.multi_label=true to use them."
    )
    assert cell_labels("['owl', 'noise']", ONE).labels == ("owl",)


@pytest.mark.parametrize("data", [ONE, MANY])
def test_empty_cells_have_no_label_and_empty_lists_no_class(data):
    for missing in ("", "  ", *(("[nan]", "[None, nan]") if data.multi_label else ())):
        assert cell_labels(missing, data) == ((), True, ""), missing
    for absent in (
        "[]",
        "['']",
        "()",
        "set()",
        "array([], dtype=object)",
        "{}",
        "nocall",
        "Noise",
        "['noise', 'nocall']",
    ):
        assert cell_labels(absent, data) == ((), False, ""), absent


def test_noise_is_a_class_where_the_settings_say_so():
    data = Data(multi_label=True, noise_label="class")
    for word in NO_CALL:
        assert cell_labels(word, MANY) == ((), False, "") and cell_labels(word, data) == ((word,), True, "")
    assert cell_labels("owl;noise", MANY).labels == ("owl",) and cell_labels("owl;noise", data).labels == (
        "owl",
        "noise",
    )


@pytest.mark.parametrize(
    ("cell", "words"),
    [
        ("['owl', 'wren'", "has no end"),
        ("('owl'", "has no end"),
        ("['owl' 'wren' ... 'robin']", "damaged or cut off"),
        ("['owl', ['wren']]", "damaged or cut off"),
        ("{'owl': 1}", "damaged or cut off"),
        (f"[{'a,' * MAX_LIST}]", "at most"),
    ],
)
def test_damaged_lists_are_refused(cell, words):
    with pytest.raises(ValueError, match=words):
        parse_labels(cell)
    found = cell_labels(cell, MANY)
    assert found.labels == () and found.labeled and words in found.problem and found.problem.startswith("its list")


def test_missing_values_are_no_secondary_labels():
    for text in (*MISSING, "NaN", "NA", ""):
        assert list_labels(text, ONE, missing=MISSING) == ((), True, "")
    assert list_labels("nan", ONE).labels == ("nan",) == list_labels("['nan']", ONE, missing=MISSING).labels
    assert list_labels("abc def|ghi,jkl", ONE, ";,| ").labels == ("abc", "def", "ghi", "jkl")


@pytest.mark.parametrize(
    "labels",
    [
        (),
        ("a",),
        ("a", "b"),
        ("a;b",),
        ("[a]", "b"),
        ('"a"', "b;c"),
        ("noise;a",),
        ("'=x",),
        ("=x", "'=y"),
        ("nan",),
        ("['a'",),
        ("(x)", "{}"),
    ],
)
def test_format_labels_is_the_inverse_of_parse_labels(labels):
    assert parse_labels(format_labels(labels)) == labels


def test_hostile_lists_take_little_time():
    for cell in ("['" * 9_000 + "]", "[" + "'a," * 6_000 + "]", "[" + "'a'b" * 4_000 + "]", "[" + "\\'" * 9_000 + "]"):
        try:
            assert parse_labels(cell)
        except ValueError as error:
            assert "its list of labels" in str(error)


def test_notes_point_out_names_that_may_not_be_meant():
    notes = label_notes({"Wren": 3, "wren ": 1, "nan": 2, "Owl, Barn": 4, "Caf\u00e9": 1, "Cafe\u0301": 2}, table=True)
    assert (
        notes[0].startswith("2 labels differ only in case") and "'Cafe\\u0301' (2), 'Caf\u00e9' (1) clips" in notes[0]
    )
    assert "'Wren' (3), 'wren ' (1) clips" in notes[1]
    assert "The label 'nan' of 2 clips is a class name" in notes[2]
    assert "1 labels of 4 clips contain a comma" in notes[3] and len(notes) == 4
    assert label_notes({"Owl, Barn": 4, "owl": 1}, table=False) == []
