"""Data for `keras.Model.fit` in an order drawn from (seed, epoch), of which each epoch can be begun at any batch."""

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
    """Data for `fit` at a place that `ExactResume` sets; the order is that of the batches, whatever `shuffle` is.

    Args:
        batches: Source of the batches.
    """

    def __init__(self, batches: Batches) -> None:
        super().__init__(workers=1)
        self.batches = batches
        self.go_to(0, 0)

    def go_to(self, epoch: int, first: int) -> None:
        """Set the place.

        Args:
            epoch: Number of the epoch, from 0.
            first: Number of its next batch, from 0.
        """
        self.place = (epoch, first)
        self._open: Iterator[Sequence[Any]] | None = None

    def __len__(self) -> int:
        """Number of batches that are left in the epoch."""
        return len(self.batches) - self.place[1]

    def __getitem__(self, index: int) -> tuple[Any, Any]:
        """The next batch: inputs [batch, ...] and targets [batch, ...]."""
        if self._open is None:
            self._open = iter(self.batches.epoch(*self.place))
        x, y, *_ = next(self._open)
        return np.asarray(x), np.asarray(y)
