"""User errors and suggestions of known names."""

import pytest

from birdnet_fs.core.errors import UserError, nearest


@pytest.mark.parametrize(
    ("name", "expected"),
    [("traning", " Did you mean 'training'?"), ("xyz", ""), ("", ""), ("data", " Did you mean 'data'?")],
)
def test_nearest_suggests_one_similar_name(name: str, expected: str) -> None:
    assert nearest(name, ["training", "data"]) == expected


def test_user_error_is_a_value_error() -> None:
    assert issubclass(UserError, ValueError)
    assert str(UserError("One sentence.")) == "One sentence."
