"""Clips in, batches out. The order of an epoch is drawn from (seed, epoch) and each item from
(seed, epoch, index), so batches are the same with any number of workers and after a restart.
A batch is some of the clips in random order, or an episode of few-shot training.
"""

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from birdnet_fs import schema
from birdnet_fs.batches import augmentation
from birdnet_fs.batches.episodes import draw
from birdnet_fs.batches.waveforms import Waveforms
from birdnet_fs.frontend.in_numpy import log_mel, network_input
from birdnet_fs.recordings.manifest import Clip

ORDER, ITEM = 0, 1  # two streams of one seed
Batch = tuple[torch.Tensor, torch.Tensor, torch.Tensor]
Keys = list[tuple[int, int, int]]  # (epoch, place in the epoch, clip) of every item of a batch


class TrainingBatches:
    """Augmented batches of an epoch: `for features, targets, indices in batches.epoch(3)`.

    Args:
        waveforms: The training clips.
        targets: float32 [n_clips, n_classes], multi-hot.
        experiment: Settings; `frontend`, `augmentation`, `training` and `seed` are read.
        noises: Background waveforms.
        order: Which clips stand together; None = all of them shuffled, in batches.

    Each batch holds features float32 [batch, n_frames, n_mels, n_channels], targets float32
    [batch, n_classes] (soft where mixed) and the clips' indices int64 [batch]. Every clip comes
    `training.views` times an epoch (unless `order` says otherwise); a last batch of one is dropped, since BatchNorm
    has no variance there.
    """

    def __init__(
        self,
        waveforms: Waveforms,
        targets: np.ndarray,
        experiment: schema.Experiment,
        noises: Sequence[np.ndarray] | Waveforms = (),
        order: "EpisodeOrder | None" = None,
    ) -> None:
        self.clips = waveforms.clips
        self._items = _Items(waveforms, targets, experiment, noises)
        self._order = order or _Order(len(waveforms), experiment)
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


class EpisodeOrder(Sampler[Keys]):
    """Episodes as batches: class by class, the support of a class in front of its queries.

    Every item is cropped and augmented by itself. With `settings.same_recording` a class with fewer clips than an
    episode takes gives some of them several times, as evenly as can be; otherwise no recording gives both support and
    query.

    Args:
        clips: Labelled, one class each.
        settings: Which episodes, `n_train` in an epoch.
        seed: Of the draw.

    Raises:
        UserError: A class cannot take part, or there are too few (see `episodes.draw`).
    """

    def __init__(self, clips: Sequence[Clip], settings: schema.Episodes, seed: int) -> None:
        self.settings, self.seed, self.epoch = settings, seed, 0
        labels = [clip.labels[0] for clip in clips]
        size = settings.n_shot + settings.n_query
        names, n_clips = np.unique(labels, return_counts=True)
        times = dict(zip(names.tolist(), (-(-size // n_clips)).tolist(), strict=True))
        often = [times[label] if settings.same_recording else 1 for label in labels]
        self._clips = np.repeat(np.arange(len(clips)), often)
        self._labels = [labels[i] for i in self._clips]
        self._groups = [clips[i].group or str(clips[i].path) for i in self._clips.tolist()]
        self._drawn()  # what cannot be drawn is said now

    def _drawn(self) -> np.ndarray:
        """Clips [n_train, n_way, n_shot + n_query]."""
        episodes = draw(
            self._labels,
            self._groups,
            n_way=self.settings.n_way,
            n_shot=self.settings.n_shot,
            n_query=self.settings.n_query,
            n_episodes=self.settings.n_train,
            seed=self.seed,
            epoch=self.epoch,
            recordings="any" if self.settings.same_recording else "across",
        )
        return self._clips[np.concatenate([episodes.support, episodes.query], axis=2)]

    def __len__(self) -> int:
        return self.settings.n_train

    def __iter__(self) -> Iterator[Keys]:
        clips = self._drawn().reshape(len(self), -1)
        for episode, own in enumerate(clips.tolist()):
            yield [(self.epoch, episode * len(own) + i, clip) for i, clip in enumerate(own)]


class _Order(Sampler[Keys]):
    def __init__(self, n_clips: int, experiment: schema.Experiment) -> None:
        self.n_clips, self.seed, self.epoch = n_clips, experiment.seed, 0
        self.views, self.size = experiment.training.views, experiment.training.batch_size

    def _bounds(self) -> list[tuple[int, int]]:
        n_items = self.n_clips * self.views
        bounds = [(start, min(start + self.size, n_items)) for start in range(0, n_items, self.size)]
        return [b for b in bounds if b[1] - b[0] > 1] or bounds

    def __len__(self) -> int:
        return len(self._bounds())

    def __iter__(self) -> Iterator[Keys]:
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
