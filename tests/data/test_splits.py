"""Folds and splits: groups are not divided, classes stay balanced, rare classes are pinned, leaks are found."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import soundfile as sf
from hypothesis import given, settings
from hypothesis import strategies as st

from birdnet_fs.core.errors import UserError
from birdnet_fs.data.copies import SameSound, fingerprints
from birdnet_fs.data.manifest import Clip, read_manifest
from birdnet_fs.data.splits import PINNED, assign_folds, leak_report, possible_folds, split_by_groups
from birdnet_fs.schema import Data


@pytest.fixture(scope="module")
def birds10(shared_data):
    return read_manifest(Data(str(shared_data), table="metadata.csv", audio="audio", where="set=birds10")).clips


def sides_of(groups, sides):
    found = {}
    for group, side in zip(groups, sides, strict=True):
        found.setdefault(group, set()).add(int(side))
    return found


@pytest.mark.shared
@pytest.mark.parametrize("seed", range(3))
def test_folds_of_real_clips_are_balanced(birds10, seed):
    labels, groups = [clip.labels for clip in birds10], [clip.group for clip in birds10]
    folds = assign_folds(labels, groups, 5, seed)
    assert all(len(found) == 1 for found in sides_of(groups, folds).values())
    per_class = Counter((label[0], int(fold)) for label, fold in zip(labels, folds, strict=True))
    assert len(per_class) == 50 and set(per_class.values()) <= {1, 2, 3}
    assert np.array_equal(folds, assign_folds(labels, groups, 5, seed))


@pytest.mark.shared
@pytest.mark.parametrize(("fractions", "counts"), [((0.8, 0.2), [80, 20]), ((0.7, 0.15, 0.15), [70, 15, 15])])
def test_splits_of_real_clips_are_balanced(birds10, fractions, counts):
    labels, groups = [clip.labels for clip in birds10], [clip.group for clip in birds10]
    parts = split_by_groups(labels, groups, fractions, 0)
    assert all(len(found) == 1 for found in sides_of(groups, parts).values())
    assert np.abs(np.bincount(parts) - counts).max() <= 10
    per_class = Counter((label[0], int(part)) for label, part in zip(labels, parts, strict=True))
    assert len(per_class) == 10 * len(fractions)  # every class in every part
    assert not np.array_equal(parts, split_by_groups(labels, groups, fractions, 1))


@settings(max_examples=80, deadline=None)
@given(
    items=st.lists(st.tuples(st.sampled_from("abcd"), st.integers(0, 14)), min_size=1, max_size=80),
    fractions=st.sampled_from([(0.8, 0.2), (0.7, 0.15, 0.15), (0.5, 0.5)]),
    seed=st.integers(0, 5),
)
def test_no_group_is_divided(items, fractions, seed):
    labels, groups = [label for label, _ in items], [str(group) for _, group in items]
    parts = split_by_groups(labels, groups, fractions, seed)
    assert all(len(found) == 1 for found in sides_of(groups, parts).values())
    rare = {label for label in labels if len({g for x, g in items if x == label}) < len(fractions)}
    assert all(part == 0 for label, part in zip(labels, parts, strict=True) if label in rare)
    try:
        folds = assign_folds(labels, groups, 3, seed)
    except UserError:
        return
    assert all(len(found) == 1 for found in sides_of(groups, folds).values()) and set(folds) <= {PINNED, 0, 1, 2}


def test_rare_class_is_pinned_with_a_message(capsys):
    labels = ["a"] * 10 + ["b"] * 10 + ["rare"] * 6
    groups = [f"g{i}" for i in range(20)] + ["r1"] * 4 + ["r2", "g0"]  # g0 holds "a" too and is pinned with it
    folds = assign_folds(labels, groups, 5, 0)
    assert (folds[20:] == PINNED).all() and folds[0] == PINNED and (folds[1:20] >= 0).all()
    said = capsys.readouterr().err
    assert "1 classes have fewer groups than 5 folds" in said and "rare (3)" in said
    with pytest.raises(UserError, match="same length"):
        assign_folds(["x"], ["1", "2"], 5, 0)
    with pytest.raises(UserError, match="sum to 1"):
        split_by_groups(labels, groups, (0.5, 0.2), 0)


@pytest.mark.parametrize(
    ("n_groups", "n_folds"),
    [((3, 3, 3), 3), ((4, 3, 3), 3), ((3, 3, 20), 3), ((3, 20, 20), 5), ((2, 2), 2), ((2, 1, 1), 2), ((1, 1), 1)],
)
def test_number_of_folds_is_lowered_to_what_most_classes_can_fill(n_groups, n_folds, capsys):
    labels = [f"species{c}" for c, n in enumerate(n_groups) for _ in range(n)]
    groups = [f"recording{i}" for i in range(len(labels))]
    folds = assign_folds(labels, groups, 5, 0)
    said = capsys.readouterr().err
    assert possible_folds(labels, groups, 5) == n_folds
    assert set(folds.tolist()) - {PINNED} == (set(range(n_folds)) if n_folds > 1 else set())
    for c, n in enumerate(n_groups):
        held = {fold for fold, label in zip(folds.tolist(), labels, strict=True) if label == f"species{c}"}
        assert held == (set(range(n_folds)) if n >= n_folds > 1 else {PINNED})
    assert (f"The number of folds is {n_folds}, not 5 (data.n_folds)" in said) == (1 < n_folds < 5)
    assert ("Nothing is held out: none of the 2 classes has two recordings" in said) == (n_folds == 1)


def test_leak_report_finds_groups_columns_and_identical_recordings(tmp_path):
    x = np.random.default_rng(0).normal(0, 0.1, 800)
    sf.write(tmp_path / "a.wav", x, 8000)
    sf.write(tmp_path / "copy.flac", sf.read(tmp_path / "a.wav", dtype="int16")[0], 8000)
    (tmp_path / "b.wav").write_bytes((tmp_path / "a.wav").read_bytes())
    sf.write(tmp_path / "c.wav", -x, 8000)
    clips = [
        Clip(tmp_path / "a.wav", group="1", row={"author": "M"}),
        Clip(tmp_path / "b.wav", group="2", row={"author": "N"}),
        Clip(tmp_path / "copy.flac", group="3", row={"author": ""}),
        Clip(tmp_path / "c.wav", group="1", row={"author": "N"}),
    ]
    paths = [clip.path for clip in clips]
    by_name = leak_report(clips, [0, 1, 1, 1], columns=("author",))
    assert (by_name.groups, by_name.identical) == (("1",), ())
    assert by_name.columns == {"author": ()} and by_name
    by_sound = leak_report(clips, [0, 1, 1, 0], columns=("author",), fingerprints=fingerprints(paths))
    assert by_sound.identical == ((paths[0], paths[1], paths[2]),) and by_sound.columns == {"author": ("N",)}
    assert by_sound.groups == () and "a.wav = b.wav = copy.flac" in str(by_sound)
    clean = leak_report(clips, [0, 0, 0, 0], columns=("author",), fingerprints=fingerprints(paths))
    assert not clean and clean.repeated == (SameSound((paths[0], paths[1], paths[2])),)
    assert str(clean).startswith("1 recordings are there more than once with the same labels: ")
    assert str(leak_report(clips[2:], [0, 0], columns=("author",))) == "nothing crosses the split"
    with pytest.raises(UserError, match=r"no clip has 'site'\. Columns: author"):
        leak_report(clips, [0, 0, 0, 0], columns=("site",))


@pytest.mark.shared
def test_leak_report_finds_the_recordists_that_cross_the_real_split(birds10):
    """The data's own note: 2 of the 20 test clips share a recordist (of the same species) with train."""
    sides = [{"train": 0, "val": 0, "test": 1}[clip.split] for clip in birds10]
    clips = [replace(clip, row={"author": f"{clip.labels[0]}: {clip.row['author']}"}) for clip in birds10]
    train_test = [(c, s) for c, s in zip(clips, sides, strict=True) if c.split != "val"]
    found = leak_report([c for c, _ in train_test], [s for _, s in train_test], columns=("author",))
    crossing = [c for c, s in train_test if s == 1 and c.row["author"] in found.columns["author"]]
    assert found.groups == () and len(crossing) == 2
