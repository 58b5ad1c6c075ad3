"""Batches for `keras.Model.fit` on the torch backend, in an order drawn from (seed, epoch).

    data = KeyedBatches(batches)
    model.fit(data, epochs=30)

Each pass of `fit` over the data is the next epoch. A pass that was not finished, as that of a look at the first batch,
is begun again, so that it changes nothing.
"""

from collections.abc import Iterator, Sequence
from typing import Any, Protocol

import keras
import numpy as np

from birdnet_fs.core.errors import UserError
from birdnet_fs.core.random_streams import Stream, generator


class Batches(Protocol):
    """Batches of which each epoch can be begun at any batch, as `batches.loader.TrainingBatches`."""

    def __len__(self) -> int: ...

    def epoch(self, epoch: int, first: int = 0) -> Iterator[Sequence[Any]]:
        """Yield the batches of an epoch from the batch `first` on: inputs, targets, and more that is not used."""
        ...


class ArrayBatches:
    """Batches of arrays in an order drawn from (seed, epoch).

    Args:
        x: Inputs [n_items, ...].
        y: Targets [n_items, ...].
        batch_size: Items per batch, 1 or more. Default: 32.
        seed: Seed of the order, 0 or more. Default: 0.
    """

    def __init__(self, x: np.ndarray, y: np.ndarray, *, batch_size: int = 32, seed: int = 0) -> None:
        if len(x) != len(y):
            raise UserError(f"x and y must have the same length. Received: {len(x)} and {len(y)}")
        self.x, self.y, self.batch_size, self.seed = x, y, batch_size, seed

    def __len__(self) -> int:
        """Number of batches in an epoch."""
        return -(-len(self.x) // self.batch_size)

    def epoch(self, epoch: int, first: int = 0) -> Iterator[Sequence[np.ndarray]]:
        """Yield the batches of an epoch.

        Args:
            epoch: Number of the epoch, from 0.
            first: Number of the first batch, from 0. Default: 0.

        Yields:
            Inputs [batch, ...] and targets [batch, ...].
        """
        order = generator(self.seed, Stream.FIT_ORDER, epoch).permutation(len(self.x))
        for start in range(first * self.batch_size, len(order), self.batch_size):
            part = order[start : start + self.batch_size]
            yield self.x[part], self.y[part]


class KeyedBatches(keras.utils.PyDataset):
    """Batches for `fit` on the torch backend; their order is that of the source, whatever `shuffle` is.

    Args:
        batches: Source of the batches, as `batches.loader.TrainingBatches`.

    Attributes:
        place: Epoch of the present pass, and the number of its first batch, both from 0.

    Raises:
        UserError: The Keras backend is not torch.
    """

    def __init__(self, batches: Batches) -> None:
        if keras.backend.backend() != "torch":  # Keras draws ahead of `fit` in a thread, which would change the epoch
            raise UserError(
                "KeyedBatches needs KERAS_BACKEND=torch; on tensorflow use birdnet_fs.training.fit.in_tf.tf_dataset. "
                f"Received: {keras.backend.backend()}"
            )
        super().__init__(workers=1)
        self.batches = batches
        self._is_new = True
        self.go_to(0, 0)

    def go_to(self, epoch: int, first: int) -> None:
        """Set the place of the next pass.

        Args:
            epoch: Number of the epoch, from 0.
            first: Number of its next batch, from 0.
        """
        self.place = (epoch, first)
        self._n_given = 0
        self._open: Iterator[Sequence[Any]] | None = None

    def on_epoch_begin(self) -> None:
        """Begin a pass: the next epoch after a finished one, else the same again."""
        if self._n_given:
            self.go_to(*((self.place[0] + 1, 0) if self._n_given == len(self) else self.place))

    def on_epoch_end(self) -> None:
        """Drop the batch from which Keras has found the shapes; the first call comes before the first epoch."""
        if self._is_new:
            self._is_new = False
            self.go_to(*self.place)

    def __len__(self) -> int:
        """Number of batches of the present pass."""
        return len(self.batches) - self.place[1]

    def __iter__(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Begin a pass, and yield its batches: inputs [batch, ...] and targets [batch, ...]."""
        self.on_epoch_begin()
        for index in range(len(self)):
            yield self[index]

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        """The next batch: inputs [batch, ...] and targets [batch, ...]."""
        if self._n_given == len(self):
            self.on_epoch_begin()
        if self._open is None:
            self._open = iter(self.batches.epoch(*self.place))
        x, y, *_ = next(self._open)
        self._n_given += 1
        return np.asarray(x), np.asarray(y)
