"""Targets of clips, and the check of class names."""

from pathlib import Path

import numpy as np
import pytest

from birdnet_fs.core.errors import UserError
from birdnet_fs.data.manifest import Clip
from birdnet_fs.data.targets import check_same_classes, clip_targets
from birdnet_fs.schema import Data

CLASSES = ("a", "b", "c")
CLIPS = [
    Clip(Path("1.wav"), labels=("a", "b"), secondary=("c", "x")),
    Clip(Path("2.wav"), labels=()),
    Clip(Path("3.wav"), labels=("b", "c"), secondary=("c",)),  # as tables are read with data.multi_label=true
]


def test_only_the_first_label_counts_with_one_label():
    found = clip_targets(CLIPS, CLASSES, multi_label=False)
    assert found.dtype == np.float32 and found.tolist() == [[1, 0, 0], [0, 0, 0], [0, 1, 0]]


@pytest.mark.parametrize(
    ("secondary", "target"), [("label", 1.0), ("soft", 0.25), ("mask", -1.0), ("ignore", 0.0), (None, 1.0)]
)
def test_secondary_labels_have_the_target_of_the_setting(secondary, target):
    data = secondary and Data(multi_label=True, secondary=secondary, secondary_target=0.25)
    found = clip_targets(CLIPS, CLASSES, multi_label=True, data=data)
    assert found.tolist() == [[1, 1, target], [0, 0, 0], [0, 1, target]]


def test_same_classes_may_be_in_any_order():
    check_same_classes(["c", "a", "b"], CLASSES, "table.csv")


@pytest.mark.parametrize(
    ("theirs", "message"),
    [
        (["a", "b"], r"table\.csv must have the 3 classes .* 'c' is missing \(1 differ\)"),
        (["a", "b", "c", "d"], r"'d' is not trained here \(1 differ\)"),
    ],
)
def test_other_classes_are_refused(theirs, message):
    with pytest.raises(UserError, match=message):
        check_same_classes(theirs, CLASSES, "table.csv")
