"""Clips in, batches out. The order of an epoch is drawn from (seed, epoch) and each item from
(seed, epoch, index), so batches are the same with any number of workers and after a restart.
"""

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from birdnet_fs import schema
from birdnet_fs.batches import augmentation
from birdnet_fs.batches.waveforms import Waveforms
from birdnet_fs.frontend.in_numpy import log_mel, network_input

ORDER, ITEM = 0, 1  # two streams of one seed
Batch = tuple[torch.Tensor, torch.Tensor, torch.Tensor]


class TrainingBatches:
    """Augmented batches of an epoch: `for features, targets, indices in batches.epoch(3)`.

    Args:
        waveforms: The training clips.
        targets: float32 [n_clips, n_classes], multi-hot.
        experiment: Settings; `frontend`, `augmentation`, `training` and `seed` are read.
        noises: Background waveforms.

    Each batch holds features float32 [batch, n_frames, n_mels, n_channels], targets float32
    [batch, n_classes] (soft where mixed) and the clips' indices int64 [batch]. Every clip comes
    `training.views` times an epoch; a last batch of one is dropped, since BatchNorm has no variance there.
    """

    def __init__(
        self,
        waveforms: Waveforms,
        targets: np.ndarray,
        experiment: schema.Experiment,
        noises: Sequence[np.ndarray] | Waveforms = (),
    ) -> None:
        self.clips = waveforms.clips
        self._items = _Items(waveforms, targets, experiment, noises)
        self._order = _Order(len(waveforms), experiment)
        workers = experiment.training.workers
        self._loader = DataLoader(
            self._items,
            batch_sampler=self._order,
            num_workers=workers,
            persistent_workers=workers > 0,
            pin_memory=torch.cuda.is_available() and experiment.training.device != "cpu",
            # one of its own: else the loader draws from torch's, as often as there are workers, and moves dropout
            generator=torch.Generator().manual_seed(experiment.seed),
        )

    def __len__(self) -> int:
        """Batches in an epoch."""
        return len(self._order)

    def epoch(self, epoch: int) -> Iterator[Batch]:
        """The batches of one epoch, counted from 0."""
        self._order.epoch = epoch
        yield from self._loader


class _Order(Sampler[list[tuple[int, int, int]]]):
    def __init__(self, n_clips: int, experiment: schema.Experiment) -> None:
        self.n_clips, self.seed, self.epoch = n_clips, experiment.seed, 0
        self.views, self.size = experiment.training.views, experiment.training.batch_size

    def _bounds(self) -> list[tuple[int, int]]:
        n_items = self.n_clips * self.views
        bounds = [(start, min(start + self.size, n_items)) for start in range(0, n_items, self.size)]
        return [b for b in bounds if b[1] - b[0] > 1] or bounds

    def __len__(self) -> int:
        return len(self._bounds())

    def __iter__(self) -> Iterator[list[tuple[int, int, int]]]:
        rng = np.random.default_rng((self.seed, self.epoch, ORDER))
        clips = np.concatenate([rng.permutation(self.n_clips) for _ in range(self.views)])
        for start, stop in self._bounds():
            yield [(self.epoch, position, int(clips[position])) for position in range(start, stop)]


class _Items(Dataset):
    def __init__(self, waveforms: Waveforms, targets: np.ndarray, experiment: schema.Experiment, noises) -> None:
        self.waveforms, self.targets, self.noises = waveforms, targets, noises
        self.seed, self.spec = experiment.seed, experiment.frontend
        self.settings, self.multi_label = experiment.augmentation, experiment.data.multi_label

    def _segment(self, clip: int, rng: np.random.Generator) -> np.ndarray:
        return augmentation.crop(
            self.waveforms[clip],
            self.spec.n_samples,
            rng,
            kind=self.settings.crop,
            sample_rate_hz=self.spec.sample_rate_hz,
        )

    def _partner(self, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        clip = int(rng.integers(len(self.waveforms)))
        return self._segment(clip, rng), self.targets[clip]

    def __getitem__(self, key: tuple[int, int, int]) -> tuple[np.ndarray, np.ndarray, int]:
        epoch, position, clip = key
        rng = np.random.default_rng((self.seed, epoch, ITEM, position))
        waveform, targets = augmentation.augment_waveform(
            self._segment(clip, rng),
            self.targets[clip],
            self.settings,
            rng,
            sample_rate_hz=self.spec.sample_rate_hz,
            multi_label=self.multi_label,
            partner=self._partner,
            noises=self.noises,
        )
        features = augmentation.augment_features(log_mel(waveform, self.spec)[0], self.settings, rng)
        return network_input(features, self.spec), targets, clip
