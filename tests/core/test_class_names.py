"""Class names: which are refused, scientific and common parts, and names that are easily confused."""

import pytest

from birdnet_fs.core.class_names import (
    RESERVED,
    check_class_names,
    class_name_problem,
    folded_name,
    is_scientific_name,
    scientific_and_common,
    similar_names,
)
from birdnet_fs.core.errors import UserError
from birdnet_fs.data.score_table import COLUMNS
from birdnet_fs.inference.model import TIMES


@pytest.mark.parametrize(
    "name", ["Owl, Barn", "=cmd()", "-1", "nan", "0123", "a" * 200, "鳥 🦉", "e\u0301", 'say "hi"', "a\\tb"]
)
def test_names_that_can_be_stored(name):
    assert class_name_problem(name) == ""
    check_class_names([name, "other"])


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("", "is empty"),
        (" \t", "is empty"),
        ("a;b", "separates labels"),
        (" a", "begins or ends with a space"),
        *((name, "name of a column") for name in RESERVED),
        *(
            (f"a{c}b", "control character")
            for c in ("\t", "\n", "\r", "\x1b[2J", "\x85", "\u2028", "\u202e", "\udce9", "\x00")
        ),
    ],
)
def test_names_that_cannot_be_stored_are_refused_with_the_reason(name, why):
    assert why in class_name_problem(name)
    with pytest.raises(UserError, match=rf"x\.json: Class names must be .*; rename the label .*{why}") as error:
        check_class_names(["owl", name], "x.json")
    assert str(error.value).isprintable()


def test_names_that_are_printed_alike_are_refused():
    with pytest.raises(UserError, match="must be different when they are printed"):
        check_class_names(["a\u00a0b", "a\\xa0b"])
    with pytest.raises(UserError, match="must be different"):
        check_class_names(["a", "a"])


def test_columns_of_tables_with_scores_are_reserved():
    assert {*COLUMNS, *TIMES} <= set(RESERVED)


@pytest.mark.parametrize(
    ("label", "names"),
    [
        ("Turdus merula_Amsel", ("Turdus merula", "Amsel")),
        ("Motacilla alba yarrellii_Pied Wagtail", ("Motacilla alba yarrellii", "Pied Wagtail")),
        ("Larus argentatus/cachinnans_gull", ("Larus argentatus/cachinnans", "gull")),
        ("Corvus sp._crow", ("Corvus sp.", "crow")),
        ("Anas platyrhynchos × acuta_hybrid", ("Anas platyrhynchos × acuta", "hybrid")),
        ("Genus species_name_with_more", ("Genus species", "name_with_more")),
    ],
)
def test_names_with_a_scientific_part_are_divided(label, names):
    assert scientific_and_common(label) == names


@pytest.mark.parametrize(
    "label",
    [
        "lilac_breasted_roller",
        "amro_call",
        "Turdus_merula",
        "Barn Owl_call",
        "Owl_Barn",
        "bird0_0",
        "_x",
        "X_",
        "",
        "Dog_Dog",
        "Turdus merula",
    ],
)
def test_other_names_stay_whole(label):
    assert scientific_and_common(label) == (label, label)


def test_form_of_a_scientific_name():
    assert is_scientific_name("Parus major") and not any(map(is_scientific_name, ("Great Tit", "Parus", "parus major")))


def test_similar_names_are_grouped():
    names = ["Wren", "wren", "WREN ", "owl", "Caf\u00e9", "Cafe\u0301", "a_b", "a b", "ab", "nan", "Nan"]
    assert similar_names(names) == [
        ("Cafe\u0301", "Caf\u00e9"),
        ("Nan", "nan"),
        ("WREN ", "Wren", "wren"),
        ("a b", "a_b", "ab"),
    ]
    assert folded_name("Turdus_Merula") == "turdus merula" and folded_name("ab") != folded_name("a b")
