"""The labels file."""

import pytest

from birdnet_fs.core.errors import UserError
from birdnet_fs.export.targets.labels import label_lines


def test_label_lines_are_pairs_in_order() -> None:
    lines = label_lines(["Turdus merula_Common Blackbird", "noise", "été"])
    assert lines == ["Turdus merula_Common Blackbird", "noise_noise", "été_été"]


@pytest.mark.parametrize("classes", [["a", "a"], ["a", "a_a"], [""], ["a\nb"], [" "]])
def test_label_lines_that_cannot_be_read_back_are_refused(classes: list[str]) -> None:
    with pytest.raises(UserError):
        label_lines(classes)
