"""`data.where`: parsing, unknown columns and selection of rows."""

import pytest

from birdnet_fs.core.errors import UserError
from birdnet_fs.data.label_formats.source import LabelRow
from birdnet_fs.data.row_filter import filter_rows, find_columns, parse_row_filter

ROWS = [
    LabelRow("t.csv row 2", "a.wav", ("wren",), group="g1", cells={"site": "pond"}),
    LabelRow("t.csv row 3", "b.wav", (), fold="1", split="val", cells={"site": "wood"}),
]


def test_conditions_are_parsed_with_alternatives_and_spaces():
    assert parse_row_filter(" a = 1 | 2 ,b=,") == {"a": ("1", "2"), "b": ("",)}
    assert parse_row_filter("") == {}


@pytest.mark.parametrize("text", ["site", "=pond", "a=1,site"])
def test_malformed_condition_is_refused_with_its_setting(text):
    with pytest.raises(UserError, match=r"^data\.background must be column=value or column=a\|b"):
        parse_row_filter(text, "data.background")


def test_unknown_column_is_refused_with_the_nearest_one():
    with pytest.raises(UserError, match=r"t\.csv has no column 'sites'. Did you mean 'site'\? Columns: site, label"):
        find_columns(["sites"], ["site", "label"], "t.csv")


def test_column_is_found_without_case_and_underscores_unless_two_fit():
    assert find_columns(["Site Name", "b"], ["site_name", "b", "B"], "t.csv") == {"Site Name": "site_name", "b": "b"}
    with pytest.raises(UserError, match=r"'SITE' may be the column 'Site' or 'site' of t\.csv"):
        find_columns(["SITE"], ["Site", "site"], "t.csv")


def test_table_that_cannot_be_read_is_not_filtered_out():
    table = LabelRow("u.txt", "u.txt", refused="it cannot be read.")
    assert filter_rows([*ROWS, table], "site=pond", "t.csv") == [ROWS[0], table]
    with pytest.raises(UserError, match="selects none of the 3 rows"):
        filter_rows([*ROWS, table], "site=sea", "t.csv")


@pytest.mark.parametrize(
    ("text", "selected"),
    [("", [0, 1]), ("site=pond|wood", [0, 1]), ("label=wren", [0]), ("label=,fold=1", [1]), ("split=val", [1])],
)
def test_rows_are_selected_by_cells_label_group_fold_and_split(text, selected):
    assert filter_rows(ROWS, text, "t.csv") == [ROWS[i] for i in selected]


def test_selection_without_rows_is_refused_with_the_values_of_the_column():
    with pytest.raises(
        UserError, match=r"data\.where=site=sea selects none of the 2 rows of t\.csv: site has pond, wood"
    ):
        filter_rows(ROWS, "site=sea", "t.csv")
