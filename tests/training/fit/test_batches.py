"""Batches for `fit` on torch: those of the package's own epochs, and nothing else is taken for them."""

import numpy as np
import pytest
from fit_recorder import Recorder, arrays, assert_same
from torch.utils.data import DataLoader

from birdnet_fs.core.errors import UserError
from birdnet_fs.training.fit.batches import ArrayBatches, KeyedBatches

X = np.arange(44).reshape(22, 2)
Y = np.arange(22)
IMAGES = np.random.default_rng(0).normal(size=(22, 3, 2, 1)).astype(np.float32)
TARGETS = np.arange(22, dtype=np.float32)[:, None]


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


@pytest.mark.parametrize("batch_size", [5, 22])
@pytest.mark.parametrize("shuffle", [True, False])
def test_epochs_of_fit_are_those_of_the_batches(batch_size: int, shuffle: bool) -> None:
    """Keras draws a batch before the first epoch to find shapes; with one batch in an epoch that is all of it."""
    batches = ArrayBatches(IMAGES, TARGETS, batch_size=batch_size, seed=3)
    model, data = Recorder(), KeyedBatches(batches)
    model.fit(data, epochs=3, shuffle=shuffle, verbose=0)
    assert_same(model.seen, [batch for epoch in range(3) for batch in arrays(batches, epoch)])


def test_second_fit_goes_on_with_the_next_epoch_and_a_look_changes_nothing() -> None:
    batches = ArrayBatches(IMAGES, TARGETS, batch_size=5, seed=3)
    model, data = Recorder(), KeyedBatches(batches)
    data[0]
    next(iter(data))
    model.fit(data, epochs=1, verbose=0)
    next(iter(data))
    model.fit(data, epochs=1, verbose=0)
    assert_same(model.seen, arrays(batches, 0) + arrays(batches, 1))
    assert_same(list(data), arrays(batches, 2))
    assert_same(list(data), arrays(batches, 3))
    data.go_to(7, 2)
    assert len(data) == 3
    assert_same(list(data), arrays(batches, 7)[2:])
    assert_same(list(data), arrays(batches, 8))


def test_loader_of_training_batches_cannot_be_given_to_fit(training_batches) -> None:
    """Its third item, the index of a clip, would be taken for the weight of an item."""
    assert not any(isinstance(value, DataLoader) for value in vars(training_batches).values())
    with pytest.raises(ValueError, match="must return a tuple"):
        Recorder().fit(training_batches.epoch(0), verbose=0)
    with pytest.raises(ValueError, match="Unrecognized data type"):
        Recorder().fit(training_batches, verbose=0)
