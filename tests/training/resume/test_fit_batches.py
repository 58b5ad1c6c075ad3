"""Order of the batches for `fit`."""

import numpy as np
import pytest

from birdnet_fs.core.errors import UserError
from birdnet_fs.training.resume.fit_batches import ArrayBatches

X = np.arange(44).reshape(22, 2)
Y = np.arange(22)


def test_data_order_differs_between_epochs_and_can_begin_anywhere() -> None:
    batches = ArrayBatches(X, Y, batch_size=5, seed=1)
    whole = list(batches.epoch(2))
    for first in range(len(batches)):
        for found, expected in zip(batches.epoch(2, first), whole[first:], strict=True):
            np.testing.assert_array_equal(found[0], expected[0])
    assert (whole[0][0] != next(batches.epoch(3))[0]).any()


def test_every_item_occurs_once_in_an_epoch() -> None:
    found = np.concatenate([y for _, y in ArrayBatches(X, Y, batch_size=5, seed=1).epoch(2)])
    assert sorted(found.tolist()) == Y.tolist() and found.tolist() != Y.tolist()


def test_arrays_of_different_lengths_are_refused() -> None:
    with pytest.raises(UserError, match=r"must have the same length\. Received: 22 and 21"):
        ArrayBatches(X, Y[:-1])
