"""Divisions of windows."""

import numpy as np
import pytest

from birdnet_fs.core.errors import UserError
from birdnet_fs.motifs.no_call.splits import fold_groups, groups_of, split_groups

RECORDINGS = [f"r{i // 12}" for i in range(240)]
Y = np.random.default_rng(0).random(240) < np.repeat(np.linspace(0.2, 0.8, 20), 12)


def test_parts_hold_whole_recordings_and_both_kinds_of_windows():
    groups = groups_of(RECORDINGS, "recordings")
    parts = split_groups(Y, groups, (0.85, 0.075, 0.075), 3)
    assert sorted(np.concatenate(parts)) == list(range(240))
    owners = [set(groups[part]) for part in parts]
    assert sum(map(len, owners)) == 20  # of 20 recordings, so none is in two parts
    assert all(0 < Y[part].sum() < len(part) for part in parts)
    assert [len(part) for part in parts] == [204, 12, 24] or [len(part) for part in parts] == [204, 24, 12]
    again = split_groups(Y, groups, (0.85, 0.075, 0.075), 3)
    assert all(np.array_equal(a, b) for a, b in zip(parts, again, strict=True))
    other = split_groups(Y, groups, (0.85, 0.075, 0.075), 4)
    assert any(not np.array_equal(a, b) for a, b in zip(parts, other, strict=True))


def test_rows_are_divided_where_they_are_asked_for():
    groups = groups_of(RECORDINGS, "rows")
    train, valid, test = split_groups(Y, groups, (0.85, 0.075, 0.075), 0)
    assert [len(train), len(valid), len(test)] == [204, 18, 18]
    whole = groups_of(RECORDINGS, "recordings")
    assert set(whole[train]) & set(whole[test])


def test_folds_hold_whole_recordings():
    groups = groups_of(RECORDINGS, "recordings")
    folds = fold_groups(Y, groups, 5, 0)
    assert sorted(np.concatenate(folds)) == list(range(240))
    assert sum(len(set(groups[fold])) for fold in folds) == 20


def test_recordings_of_one_kind_are_refused_with_the_numbers():
    y = np.array([True] * 12 + [False] * 12)
    groups = groups_of(RECORDINGS[:24], "recordings")
    with pytest.raises(UserError, match=r"3 parts \(85\.0%, .*--split rows.*Received: 2 recordings or rows, 0 of them"):
        split_groups(y, groups, (0.85, 0.075, 0.075), 0)
    with pytest.raises(UserError, match="Every one of 5 folds must have windows with and without calls"):
        fold_groups(y, groups, 5, 0)
    with pytest.raises(UserError, match=r"by recordings or rows. Received: 'site'"):
        groups_of(RECORDINGS, "site")
