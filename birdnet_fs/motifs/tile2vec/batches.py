"""Batches of triplets: order of the rows, held-out recordings, augmentation, and features of the network.

Every random number is keyed: a batch depends on the seed and its number only, so that a training that was stopped
continues with the batch that follows.
"""

import dataclasses
import functools
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from birdnet_fs import schema
from birdnet_fs.audio.find import find_audio
from birdnet_fs.batches.augment.item_random import ItemKey, ItemRandom
from birdnet_fs.batches.augment.segment import draw_segment
from birdnet_fs.batches.augment.waveform import Partner, augment_waveform
from birdnet_fs.core.errors import UserError
from birdnet_fs.core.random_streams import Stream, generator
from birdnet_fs.core.text import escaped
from birdnet_fs.data.manifest import Clip
from birdnet_fs.data.waveforms import Waveforms
from birdnet_fs.inference.engine import network_features
from birdnet_fs.motifs.tile2vec.settings import Tile2VecSettings
from birdnet_fs.motifs.tile2vec.sources import Segments, TripletSource

# changes of anchors and neighbors: the document's gain, colored noise and pitch
AUGMENTATION = schema.Augmentation(
    pitch=schema.Pitch(p=0.5, semitones=4.0),
    noise=schema.Noise(p=0.5, snr_db=(5.0, 40.0), exponent=(-2.0, 2.0)),
    gain_db=20.0,
)
# recorded noise instead
WITH_BACKGROUND = dataclasses.replace(AUGMENTATION, noise=dataclasses.replace(AUGMENTATION.noise, exponent=(0.0, 0.0)))
BACKGROUND_BYTES = 500_000_000  # of decoded recordings
MOST_VALIDATION_BATCHES = 20


class FeatureBatch(NamedTuple):
    """Features of a batch, each float32 [n, n_frames, n_bins, n_channels]; none where no row could be read.

    Attributes:
        anchor: Features of the anchors.
        neighbor: Features of the neighbors.
        distant: Features of the distant segments; [0, ...] where they are the other rows of the batch
            (`distant="batch"`).
        recordings: int64 [n], recording of each row.
    """

    anchor: NDArray[np.float32]
    neighbor: NDArray[np.float32]
    distant: NDArray[np.float32]
    recordings: NDArray[np.int64]


class TripletBatches:
    """Batches of a source.

    Args:
        source: The rows.
        settings: Uses `seed`, `batch_size`, `val_fraction`, `shift_s`, `augment`, `background`, `distant`, `n_queue`
            and the front-end.

    Attributes:
        training_rows: int64 [n], rows to train on.
        validation_rows: int64 [n], rows of held-out recordings.

    Raises:
        UserError: There are fewer training rows than a batch has, or no recording of the background can be read.
    """

    def __init__(self, source: TripletSource, settings: Tile2VecSettings) -> None:
        self.source, self.settings, self.spec = source, settings, settings.frontend
        held_out = _held_out(source, settings)
        anchors, neighbors = np.isin(source.recordings, held_out), np.isin(source.held_out_with, held_out)
        self.training_rows = np.flatnonzero(~anchors & ~neighbors)
        self.validation_rows = np.flatnonzero(anchors & neighbors)
        self.n_per_pass = len(self.training_rows) // settings.batch_size
        if not self.n_per_pass:
            raise UserError(
                f"There are {len(self.training_rows)} triplets to train on, fewer than a batch of "
                f"{settings.batch_size}; give a smaller --batch-size or more recordings."
            )
        self._noises = _background(settings)
        self._order = functools.lru_cache(maxsize=2)(self._order_of_pass)

    @property
    def n_validation(self) -> int:
        """Number of validation batches; the last may be smaller than the others."""
        n, size = len(self.validation_rows), self.settings.batch_size
        return min(MOST_VALIDATION_BATCHES, n // size + (n % size >= 2))

    def training(self, number: int) -> FeatureBatch:
        """The features of a training batch; incomplete batches at the end of a pass are dropped.

        Args:
            number: Number of the batch since the start of the training, from 0.

        Returns:
            Features of anchors and neighbors with their changes, and of distant segments without.
        """
        size = self.settings.batch_size
        place = number % self.n_per_pass * size
        rows = self._order(number // self.n_per_pass)[place : place + size]
        rng = generator(self.settings.seed, Stream.TRIPLET_SEGMENTS, number)
        found = self.source.segments(rows, rng, self.settings.shift_s)
        if self.settings.augment:
            changed = [
                np.array([self._changed(x, number, i, side) for i, x in enumerate(part)], np.float32).reshape(
                    part.shape
                )
                for side, part in enumerate(found[:2])
            ]
            found = found._replace(anchor=changed[0], neighbor=changed[1])
        return self._features(found)

    def validation(self, number: int) -> FeatureBatch:
        """The features of a validation batch, without changes and shifts; the same in every epoch.

        Args:
            number: Number of the batch, below `n_validation`.

        Returns:
            The features.
        """
        size = self.settings.batch_size
        rows = self.validation_rows[_spread(len(self.validation_rows), number, size)]
        rng = generator(self.settings.seed, Stream.TRIPLET_SEGMENTS, 2**63 + number)
        return self._features(self.source.segments(rows, rng, 0.0))

    def _features(self, found: Segments) -> FeatureBatch:
        if self.settings.distant == "batch":
            found = found._replace(distant=found.distant[:0])
        anchor, neighbor, distant = (network_features(part, self.spec) for part in found[:3])
        return FeatureBatch(anchor, neighbor, distant, found.recordings)

    def _changed(self, waveform: NDArray[np.float32], number: int, row: int, side: int) -> NDArray[np.float32]:
        rng = generator(self.settings.seed, Stream.TRIPLET_AUGMENTATION, number, row, side)
        drawn = ItemRandom(self.settings.seed, ItemKey(0, 0, 0, 0), rng)
        rate = self.spec.sample_rate_hz
        chosen = WITH_BACKGROUND if len(self._noises) else AUGMENTATION
        _, waveform = draw_segment(waveform, len(waveform), chosen, drawn, sample_rate_hz=rate)
        changed, _ = augment_waveform(
            waveform,
            np.zeros(1, np.float32),
            chosen,
            drawn,
            sample_rate_hz=rate,
            multi_label=False,
            partner=_no_partner,
            noises=self._noises,
        )
        return changed

    def _order_of_pass(self, number: int) -> NDArray[np.int64]:
        rng = generator(self.settings.seed, Stream.TRIPLET_ORDER, number)
        return queue_order(self.training_rows, self.source.recordings, self.settings.n_queue, rng)


def queue_order(
    rows: NDArray[np.int64], recordings: NDArray[np.int64], n_queue: int, rng: np.random.Generator
) -> NDArray[np.int64]:
    """Order rows so that each stretch of them is from few recordings, which are decoded once.

    Recordings enter a queue in random order; each next row is one of a random recording in the queue.

    Args:
        rows: int64 [n], numbers of rows.
        recordings: int64 [n_rows], recording of each row.
        n_queue: Number of recordings in the queue, 1 or more.
        rng: Generator of the draws.

    Returns:
        int64 [n], the same rows.
    """
    waiting = {int(r): rng.permutation(rows[recordings[rows] == r]).tolist() for r in np.unique(recordings[rows])}
    names = rng.permutation(list(waiting)).tolist()
    queue = [waiting[name] for name in names[:n_queue]]
    following = iter(names[n_queue:])
    order = []
    while queue:
        place = int(rng.integers(len(queue)))
        order.append(queue[place].pop())
        if not queue[place]:
            name = next(following, None)
            if name is None:
                queue.pop(place)
            else:
                queue[place] = waiting[name]
    return np.array(order, np.int64)


def _held_out(source: TripletSource, settings: Tile2VecSettings) -> NDArray[np.int64]:
    """Numbers of the recordings for validation: none of fewer than two."""
    every = np.unique(source.recordings)
    n = min(len(every) - 1, max(1, round(settings.val_fraction * len(every)))) if settings.val_fraction else 0
    return generator(settings.seed, Stream.TRIPLET_VALIDATION).permutation(every)[:n]


def _spread(n: int, number: int, size: int) -> slice | NDArray[np.int64]:
    """Places of a validation batch among n rows; with more rows than are used, they are evenly spread."""
    used = min(n, MOST_VALIDATION_BATCHES * size)
    places = np.linspace(0, n - 1, used).round().astype(np.int64) if used < n else np.arange(n)
    return places[number * size : (number + 1) * size]


def _background(settings: Tile2VecSettings) -> Waveforms | tuple[()]:
    """Recordings of noise; () for colored noise."""
    if not settings.background:
        return ()
    paths = find_audio(settings.background).paths
    if not paths:
        raise UserError(f"--background must be a folder of recordings. Received: {escaped(settings.background)}, none")
    clips = [Clip(Path(path)) for path in paths]
    return Waveforms(clips, settings.frontend.sample_rate_hz, memory_bytes=BACKGROUND_BYTES)


def _no_partner(n_samples: int) -> Partner:
    raise AssertionError("no change mixes segments")
