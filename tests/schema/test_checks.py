"""Checks shared by the groups of settings."""

import pytest

from birdnet_fs.core.errors import UserError
from birdnet_fs.schema import Augmentation
from birdnet_fs.schema.checks import check, values


def test_check_raises_with_the_value_received() -> None:
    check(True, "x must be 1", 1)
    with pytest.raises(UserError, match=r"^x must be 1\. Received: 'a'$"):
        check(False, "x must be 1", "a")


def test_values_yields_dotted_keys_of_nested_groups() -> None:
    found = dict(values(Augmentation(), "augmentation."))
    assert found["augmentation.mixup.alpha"] == 0.4 and found["augmentation.eq_db"] == 0.0
    assert "augmentation.mixup" not in found
