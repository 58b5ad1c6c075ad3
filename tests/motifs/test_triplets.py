"""Tables of triplets: groups, parts of equal size, units, names and what is refused."""

import datetime
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow
import pytest
from pyarrow import parquet

from birdnet_fs.core.errors import UserError
from birdnet_fs.motifs.profile_table import read_profile_table
from birdnet_fs.motifs.triplets import (
    draw_triplets,
    parse_samples,
    read_families,
    read_triplets,
    triplet_file_name,
    write_triplets,
)

FAMILIES = {"wren": "Troglodytidae", "robin": "Muscicapidae", "redstart": "Muscicapidae", "owl": "Strigidae"}
RATE, WINDOW = 10, 50


def consolidated(path: Path, **changes: list) -> Path:
    """Four classes with 2, 3, 1 and 4 recordings of 40 s; motifs at frames that name their recording."""
    names = [
        f"{name}/{i}.wav" for name, n in (("wren", 2), ("robin", 3), ("redstart", 1), ("owl", 4)) for i in range(n)
    ]
    n = len(names)
    columns = {
        "source_name": names,
        "label": [name.partition("/")[0] for name in names],
        "cens_sample_rate": [RATE] * n,
        "matrix_profile_window": [WINDOW] * n,
        "duration_seconds": [40.0] * n,
        "motif_0": [10 * i for i in range(n)],
        "motif_1": [200 + 10 * i for i in range(n)],
        "pi": [list(range(351))] * n,
    } | changes
    parquet.write_table(pyarrow.table({name: values for name, values in columns.items() if values}), path)
    return path


def test_profile_table_gives_seconds(tmp_path: Path) -> None:
    rows = read_profile_table(consolidated(tmp_path / "t.parquet"), profiles=True)
    assert rows[3].motif_s == (3.0, 23.0) and rows[3].window_s == 5.0 and rows[3].label == "robin"
    assert rows[3].neighbors.tolist() == list(range(351))
    without = read_profile_table(consolidated(tmp_path / "u.parquet", label=[], motif_0=[None] * 10))
    assert [row.label for row in without] == [row.label for row in rows]  # from the folder
    assert all(row.motif_s is None and not len(row.neighbors) for row in without)


@pytest.mark.parametrize("by", ["species", "family"])
def test_triplets_are_balanced_over_groups_and_parts(tmp_path: Path, by: str) -> None:
    rows = read_profile_table(consolidated(tmp_path / "t.parquet"))
    group = {name: name for name in FAMILIES} if by == "species" else FAMILIES
    drawn = draw_triplets(rows, 1200, families=None if by == "species" else FAMILIES, seed=1)
    places = {row.source_name: row.motif_s for row in rows}
    parts: Counter[tuple[str, bool, bool]] = Counter()
    for t in drawn:
        first, second, other = (name.partition("/")[0] for name in (t.a, t.b, t.c))
        assert group[first] == group[second] != group[other]
        assert t.a_loc == places[t.a][0] and t.b_loc == places[t.b][1]
        assert 0 <= t.c_loc <= 35.0
        if t.a != t.b and by == "family" and group[first] == "Muscicapidae":
            assert first != second  # of a neighboring species
        parts[group[first], t.a == t.b, t.c_loc == places[t.c][0]] += 1
    n = 1200 // len(set(group.values()))
    for name in set(group.values()):
        own = [parts[name, True, True], parts[name, True, False], parts[name, False, True], parts[name, False, False]]
        if name == "redstart":  # one recording: no other of its group
            own[:2], own[2:] = [parts[name, True, True] / 2, parts[name, True, False] / 2] * 1, own[:2]
            assert sum(parts[key] for key in parts if key[0] == name) == n
        else:
            assert own == [n / 4] * 4
    if by == "family":  # classes of a family have equally many anchors, whatever their number of recordings
        counts = Counter(t.a.partition("/")[0] for t in drawn)
        assert abs(counts["robin"] - counts["redstart"]) < 4 * np.sqrt(400)
    assert drawn == draw_triplets(rows, 1200, families=None if by == "species" else FAMILIES, seed=1)
    assert drawn != draw_triplets(rows, 1200, families=None if by == "species" else FAMILIES, seed=2)


def test_every_number_of_samples_is_kept(tmp_path: Path) -> None:
    rows = read_profile_table(consolidated(tmp_path / "t.parquet"))
    assert [len(draw_triplets(rows, n)) for n in (1, 2, 7, 1001)] == [1, 2, 7, 1001]


def test_names_and_numbers_of_samples() -> None:
    assert triplet_file_name(1000, datetime.date(2022, 2, 26)) == "2022-02-26-motif-triplets-1e+03.parquet"
    assert [parse_samples(text) for text in ("10000", "5e5", "1e+03")] == [10_000, 500_000, 1000]
    for wrong in ("0", "1.5", "many", "-3", "1e30", "nan"):
        with pytest.raises(UserError, match="--samples must be a whole number from 1 on"):
            parse_samples(wrong)


def test_recordings_without_class_or_motif_are_left_out_and_one_group_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    labels = [None] * 3 + ["robin"] * 3 + ["owl"] * 4
    names = [f"{i}.wav" for i in range(10)]
    motifs = [10 * i if i != 5 else None for i in range(10)]
    table = consolidated(tmp_path / "t.parquet", label=labels, source_name=names, motif_0=motifs)
    drawn = draw_triplets(read_profile_table(table), 50)
    assert not {f"{i}.wav" for i in (0, 1, 2, 5)} & {name for t in drawn for name in (t.a, t.b, t.c)}
    assert "4 of 10 recordings are in no triplet: 3 without a class, 1 without a motif" in capsys.readouterr().err
    one = consolidated(tmp_path / "u.parquet", label=["owl"] * 10)
    with pytest.raises(UserError, match=r"two groups or more.*Received: owl"):
        draw_triplets(read_profile_table(one), 50)


def test_families_come_from_the_users_table_only(tmp_path: Path) -> None:
    file = tmp_path / "families.csv"
    file.write_text("class,family\n" + "".join(f"{name},{family}\n" for name, family in FAMILIES.items()))
    assert read_families(file) == FAMILIES
    rows = read_profile_table(consolidated(tmp_path / "t.parquet"))
    with pytest.raises(UserError, match=r"every class. Received: none for 'owl' \(1 such\)"):
        draw_triplets(rows, 10, families={name: family for name, family in FAMILIES.items() if name != "owl"})
    for text, why in (
        ("species,order\na,b\n", "columns class and family. Received: species, order"),
        ("class,family\na,\n", "line 2: class and family must not be empty"),
        ("class,family\na,b\na,c\n", "line 3: a class has one family. Received: 'a' with 'b' and 'c'"),
    ):
        file.write_text(text)
        with pytest.raises(UserError, match=why):
            read_families(file)
    with pytest.raises(UserError, match="cannot be read as a CSV of classes and families"):
        read_families(tmp_path / "none.csv")


def test_table_is_written_once_and_read_back(tmp_path: Path) -> None:
    drawn = draw_triplets(read_profile_table(consolidated(tmp_path / "t.parquet")), 20)
    file = tmp_path / "triplets.parquet"
    write_triplets(drawn, file)
    assert read_triplets(file) == drawn
    with pytest.raises(UserError, match="exists already"):
        write_triplets(drawn, file)
    with pytest.raises(UserError, match=r"must have the columns a, a_loc, .* none named a"):
        read_triplets(tmp_path / "t.parquet")
    file.write_text("no table")
    with pytest.raises(UserError, match="cannot be read as a Parquet file"):
        read_triplets(file)
    with pytest.raises(UserError, match="there is no such file"):
        read_triplets(tmp_path / "none.parquet")
    parquet.write_table(pyarrow.table({name: [None] for name in ("a", "a_loc", "b", "b_loc", "c", "c_loc")}), file)
    with pytest.raises(UserError, match=r"row 0: three recordings and times"):
        read_triplets(file)


def test_table_out_of_range_is_refused(tmp_path: Path) -> None:
    for change in ({"cens_sample_rate": [0] * 10}, {"matrix_profile_window": [0] * 10}):
        with pytest.raises(UserError, match="row 0: cens_sample_rate and matrix_profile_window must be above 0"):
            read_profile_table(consolidated(tmp_path / "t.parquet", **change))
