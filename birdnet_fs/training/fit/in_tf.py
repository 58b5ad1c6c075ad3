"""The package's batches as a `tf.data.Dataset`, for `keras.Model.fit` on the tensorflow backend.

    dataset = tf_dataset(batches)
    model.fit(dataset, epochs=30)

The batches are made by the package's own loader (decoding, segments, labels, augmentation, mixup; worker processes with
`training.workers`) and reach TensorFlow by `from_generator`, so that they are those of a training on torch to the last
bit. TensorFlow's own operations would be another definition of all of these, with other random numbers.
"""

import itertools
import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
import tensorflow as tf

from birdnet_fs.core.errors import UserError
from birdnet_fs.training.fit.batches import Batches


def tf_dataset(batches: Batches, *, first_epoch: int = 0, prefetch: int = 2) -> tf.data.Dataset:
    """Build a dataset of which each pass is the next epoch.

    A pass that was not finished is begun again, and only one pass is open at a time: a new one ends the one before.

    Args:
        batches: Source of the batches, as `batches.loader.TrainingBatches`.
        first_epoch: Number of the epoch of the first pass, 0 or more. Default: 0.
        prefetch: Number of batches that are made ahead in a thread, 0 or more. Default: 2.

    Returns:
        Pairs of inputs [batch, ...] and targets [batch, ...], `len(batches)` of them in a pass.

    Raises:
        UserError: `first_epoch` or `prefetch` is negative.
    """
    for name, value in (("first_epoch", first_epoch), ("prefetch", prefetch)):
        if value < 0:
            raise UserError(f"{name} must be 0 or more. Received: {value}")
    # worker processes are started by this thread: they end with the thread that has started them
    example = [np.asarray(part) for part in next(iter(batches.epoch(first_epoch)))[:2]]
    signature = tuple(tf.TensorSpec((None, *part.shape[1:]), part.dtype) for part in example)
    passes = _Passes(batches, first_epoch)
    number = tf.TensorSpec((), tf.int64)
    dataset = tf.data.Dataset.from_generator(passes.one, output_signature=((number, number), *signature))
    if prefetch:
        dataset = dataset.prefetch(prefetch)

    def delivered(place: Any, x: Any, y: Any) -> Any:
        with tf.control_dependencies(tf.nest.flatten(tf.numpy_function(passes.deliver, place, tf.int64))):
            return tf.identity(x), tf.identity(y)

    options = tf.data.Options()
    options.deterministic = True
    dataset = dataset.map(delivered).apply(tf.data.experimental.assert_cardinality(len(batches)))
    return dataset.with_options(options)


class _Passes:
    """Passes over the batches, and what of the last one has reached the reader."""

    def __init__(self, batches: Batches, epoch: int) -> None:
        self.batches, self.epoch = batches, epoch
        self._numbers, self._lock = itertools.count(1), threading.Lock()
        self._pass = self._n_delivered = 0

    def one(self) -> Iterator[Any]:
        """Yield the batches of a pass with their place: number of the pass, number of the batch."""
        with self._lock:
            self._pass = own = next(self._numbers)
            if self._n_delivered == len(self.batches):
                self.epoch += 1
            self._n_delivered = 0
            found = iter(self.batches.epoch(self.epoch))
        for number in range(len(self.batches)):
            with self._lock:  # the loader serves one pass at a time
                if self._pass != own:
                    return
                x, y, *_ = next(found)
            yield (own, number), np.asarray(x), np.asarray(y)

    def deliver(self, own: int, number: int) -> np.int64:
        """Note that a batch has reached the reader."""
        with self._lock:
            if self._pass == own:
                self._n_delivered = int(number) + 1
        return np.int64(number)
