"""Batches of augmented clips for training: clips in random order, or few-shot episodes.

The order of an epoch is drawn from (seed, epoch) and each item from (seed, epoch, position), so that batches are the
same with any number of workers and after a restart.
"""

import sys
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from birdnet_fs import schema
from birdnet_fs.batches.augment.item_random import ItemKey
from birdnet_fs.batches.augment.pipeline import AugmentationPipeline
from birdnet_fs.batches.augment.pseudo_label_sampling import PseudoLabelSampling
from birdnet_fs.batches.augment.teacher_features import OtherFrontEnd
from birdnet_fs.batches.class_balance import clip_weights, epoch_clips
from birdnet_fs.core.distributed.exchange import part_of
from birdnet_fs.core.processes import end_with_parent
from birdnet_fs.core.random_streams import Stream, generator
from birdnet_fs.data.episodes import draw_episodes
from birdnet_fs.data.manifest import Clip
from birdnet_fs.data.waveforms import Waveforms
from birdnet_fs.frontend.in_numpy import network_input

# features, targets, clip indices, then teacher features, teacher probabilities and teacher embeddings
Batch = Sequence[torch.Tensor]
Keys = list[ItemKey]  # of the items of a batch
MAX_CROPS_BY_LENGTH = 20  # with training.sampling.seconds_per_crop, times crops_per_clip


class TrainingBatches:
    """Augmented batches of an epoch: `for features, targets, indices in batches.epoch(3)`.

    A batch holds features float32 [batch, n_frames, n_mels, n_channels], targets float32 [batch, n_classes] (soft where
    mixed) and indices of the clips int64 [batch]. Every clip occurs `training.sampling.crops_per_clip` times in an
    epoch, unless `order`, another setting of `training.sampling`, `training.min_steps` or `training.max_steps` changes
    that. A last batch of one item is dropped, since batch normalization has no variance there.

    Args:
        waveforms: The training clips.
        targets: float32 [n_clips, n_classes], multi-hot.
        experiment: Settings; `frontend`, `augmentation`, `data.multi_label`, `training` and `seed` are read.
        noises: Background waveforms. Default: ().
        order: Sampler of the batches. Default: None, all clips are shuffled.
        teacher_frontends: Front-ends of teachers; each adds its features float32
            [batch, n_windows, n_frames, n_mels, n_channels] to a batch. Default: ().
        teacher_probabilities: Probabilities of the clips from a teacher, float32 [n_clips, n_classes]. They are mixed
            as the targets are and follow the teacher features in a batch, float32 [batch, n_classes]. Default: None.
        teacher_embeddings: Embeddings of the clips from teachers, float32 [n_clips, width], besides the probabilities.
            They are mixed in the shares of a mixture and are the last tensor of a batch, float32 [batch, width].
            Default: None.
        pseudo_labels: Sampling of the pseudo-labeled clips, the last of `waveforms`. Default: None, there are none.
        kept: Features of the middle segment of each clip, as in `AugmentationPipeline`. Default: None.

    Of several processes that train together (`core.distributed`), each gets its rows of every batch, which may be none.
    """

    def __init__(
        self,
        waveforms: Waveforms,
        targets: np.ndarray,
        experiment: schema.Experiment,
        noises: Sequence[np.ndarray] | Waveforms = (),
        order: "EpisodeOrder | None" = None,
        *,
        teacher_frontends: Sequence[schema.FrontEnd] = (),
        teacher_probabilities: np.ndarray | None = None,
        teacher_embeddings: np.ndarray | None = None,
        pseudo_labels: PseudoLabelSampling | None = None,
        kept: Sequence[np.ndarray] | None = None,
    ) -> None:
        self.clips = waveforms.clips
        other_front_ends = [OtherFrontEnd(experiment.frontend, teacher) for teacher in teacher_frontends]
        columns = [each for each in (targets, teacher_probabilities, teacher_embeddings) if each is not None]
        n_values = 0 if teacher_embeddings is None else teacher_embeddings.shape[1]
        pipeline = AugmentationPipeline(
            waveforms,
            np.concatenate(columns, axis=1),
            experiment,
            noises,
            other_front_ends,
            pseudo_labels,
            kept,
            n_values,
        )
        self._items = _Items(pipeline, np.cumsum([each.shape[1] for each in columns])[:-1].tolist())
        seconds = experiment.training.sampling.seconds_per_crop
        self._order = order or _Order(
            targets, experiment, pseudo_labels, durations_s=waveforms.durations_s if seconds else None
        )
        workers = experiment.training.workers
        loader = DataLoader(
            self._items,
            batch_sampler=_Part(self._order),
            num_workers=workers,
            persistent_workers=workers > 0,
            worker_init_fn=end_with_parent if workers else None,
            pin_memory=torch.cuda.is_available() and experiment.training.device != "cpu",
            # without a generator, the loader draws from torch's global one, once per worker, which changes dropout;
            # no item draws from the seeds that it gives its workers
            generator=torch.Generator(),
        )
        # no attribute is a DataLoader: `keras.Model.fit` would take the indices of the clips for weights of the items
        self._begin = loader.__iter__

    def __len__(self) -> int:
        """Number of batches in an epoch."""
        return len(self._order)

    def epoch(self, epoch: int, first: int = 0) -> Iterator[Batch]:
        """The batches of one epoch.

        Args:
            epoch: Number of the epoch, from 0.
            first: Number of the first batch, from 0; the ones before it are not decoded. Default: 0.

        Yields:
            The batches.
        """
        self._order.epoch, self._order.first = epoch, first
        for batch, n_rows in zip(self._begin(), self._own_rows(first), strict=True):
            yield batch if n_rows else [tensor[:0] for tensor in batch]

    def _own_rows(self, first: int) -> Iterator[int]:
        """Number of rows of this process in each batch from `first` on."""
        for number in range(first, len(self)):
            start, stop = part_of(self._order.n_items(number))
            yield stop - start


class EpisodeOrder(Sampler[Keys]):
    """Batch sampler of few-shot episodes: class by class, the support of a class before its queries.

    Every item is cropped and augmented on its own. Only queries are mixed (mixup, CutMix), each with another query of
    its episode in random order, so that their classes are ways of it and prototypes are those of their class. With
    `settings.same_recording`, clips of a class that has fewer than
    an episode needs are repeated, as evenly as possible; without it, no recording is in both support and query.

    Args:
        clips: Labeled clips, one class each.
        settings: Size of the episodes, and `n_train` episodes per epoch.
        seed: Seed of the experiment.

    Raises:
        UserError: A class has too few clips or recordings, or there are too few classes (`data.episodes`).
    """

    def __init__(self, clips: Sequence[Clip], settings: schema.Episodes, seed: int) -> None:
        self.settings, self.seed, self.epoch, self.first = settings, seed, 0, 0
        labels = [clip.labels[0] for clip in clips]
        size = settings.n_shot + settings.n_query
        names, n_clips = np.unique(labels, return_counts=True)
        times = dict(zip(names.tolist(), (-(-size // n_clips)).tolist(), strict=True))
        often = [times[label] if settings.same_recording else 1 for label in labels]
        self._clips = np.repeat(np.arange(len(clips)), often)
        self._labels = [labels[i] for i in self._clips]
        self._groups = [clips[i].recording_group for i in self._clips.tolist()]
        self._draw_clips()  # raises now, not in the first epoch, if the clips are too few

    def _draw_clips(self) -> np.ndarray:
        """Indices of clips, int64 [n_train, n_way, n_shot + n_query]."""
        episodes = draw_episodes(
            self._labels,
            self._groups,
            n_way=self.settings.n_way,
            n_shot=self.settings.n_shot,
            n_query=self.settings.n_query,
            n_episodes=self.settings.n_train,
            seed=self.seed,
            stream=Stream.TRAINING_EPISODES,
            epoch=self.epoch,
            recordings="any" if self.settings.same_recording else "across",
        )
        return self._clips[np.concatenate([episodes.support, episodes.query], axis=2)]

    def __len__(self) -> int:
        return self.settings.n_train

    def n_items(self, number: int) -> int:
        """Number of items of a batch."""
        return self.settings.n_clips

    def __iter__(self) -> Iterator[Keys]:
        clips = self._draw_clips().reshape(len(self), -1)
        is_query = np.array([self._is_query(i) for i in range(clips.shape[1])])
        for episode, own in enumerate(clips[self.first :], self.first):
            order = generator(self.seed, Stream.EPISODE_MIXING, self.epoch, episode).permutation(is_query.sum())
            partner = iter(own[is_query][order].tolist())
            first = episode * len(own)
            yield [
                ItemKey(self.epoch, first + i, clip, 2 * episode + int(query), next(partner) if query else None)
                for i, (clip, query) in enumerate(zip(own.tolist(), is_query, strict=True))
            ]

    def _is_query(self, position: int) -> bool:
        """Whether an item of an episode is a query: draws per batch are shared by the support, and by the queries."""
        return position % (self.settings.n_shot + self.settings.n_query) >= self.settings.n_shot


class _Order(Sampler[Keys]):
    """Batch sampler of all clips, or of clips drawn by class balance, together with the pseudo-labeled ones."""

    def __init__(
        self,
        targets: np.ndarray,
        experiment: schema.Experiment,
        pseudo_labels: PseudoLabelSampling | None = None,
        durations_s: Sequence[float] | None = None,
    ) -> None:
        self.pseudo_labels, self.epoch, self.first = pseudo_labels, 0, 0
        self.targets, self.seed = targets[: pseudo_labels.n_labeled] if pseudo_labels else targets, experiment.seed
        self.settings = experiment.training
        self._weights = clip_weights(
            self.targets, self.settings.sampling.name, rare_class_weight=self.settings.loss.rare_class_weight
        )
        sampling = self.settings.sampling
        counts = (
            np.ones(len(self.targets)) if durations_s is None else np.divide(durations_s, sampling.seconds_per_crop)
        )
        counts = np.clip(np.rint(counts[: len(self.targets)]), 1, MAX_CROPS_BY_LENGTH).astype(int)
        self._n_crops, self._n_most = sampling.crops_per_clip * counts, sys.maxsize
        self._fit_steps(len(self._draw_clips()))
        self._bounds = self._batch_bounds(len(self._draw_clips()))

    def _fit_steps(self, n_items: int) -> None:
        """Repeat the clips of an epoch, or limit its items, so that all epochs have min_steps to max_steps batches."""
        settings, size = self.settings, self.settings.batch_size
        n_least = -(-settings.min_steps // settings.epochs) * size
        self._n_crops = self._n_crops * max(1, -(-n_least // n_items))
        if settings.max_steps:
            self._n_most = settings.max_steps // settings.epochs * size

    def _draw_clips(self) -> np.ndarray:
        rng = generator(self.seed, Stream.ORDER, self.epoch)
        clips = self._labeled(rng)
        clips = self.pseudo_labels.shuffled_with(clips, rng) if self.pseudo_labels else clips
        return clips[: self._n_most]

    def _labeled(self, rng: np.random.Generator) -> np.ndarray:
        if self._weights is not None:
            return rng.choice(len(self.targets), int(self._n_crops.sum()), p=self._weights)
        pool = epoch_clips(
            self.targets,
            rng,
            min_clips_per_class=self.settings.sampling.min_clips_per_class,
            max_clips_per_class=self.settings.sampling.max_clips_per_class,
        )
        n_crops = self._n_crops[pool]
        return np.concatenate([rng.permutation(pool[n_crops > i]) for i in range(n_crops.max())])

    def _batch_bounds(self, n_items: int) -> list[tuple[int, int]]:
        size = self.settings.batch_size
        bounds = [(start, min(start + size, n_items)) for start in range(0, n_items, size)]
        return [b for b in bounds if b[1] - b[0] > 1] or bounds

    def __len__(self) -> int:
        return len(self._bounds)

    def n_items(self, number: int) -> int:
        """Number of items of a batch."""
        return self._bounds[number][1] - self._bounds[number][0]

    def __iter__(self) -> Iterator[Keys]:
        clips = self._draw_clips().tolist()
        for start, stop in self._bounds[self.first :]:
            number = start // self.settings.batch_size
            yield [ItemKey(self.epoch, position, clips[position], number) for position in range(start, stop)]


class _Part(Sampler[Keys]):
    """The items of this process in each batch; one item where it has none, which gives the shapes of a row."""

    def __init__(self, order: "EpisodeOrder | _Order") -> None:
        self.order = order

    def __len__(self) -> int:
        return len(self.order)

    def __iter__(self) -> Iterator[Keys]:
        for keys in self.order:
            start, stop = part_of(len(keys))
            yield keys[start:stop] or keys[:1]


class _Items(Dataset):
    """Items of the pipeline as a tuple of arrays; targets are split from what teachers give for clips."""

    def __init__(self, pipeline: AugmentationPipeline, bounds: Sequence[int]) -> None:
        self.pipeline, self.bounds = pipeline, bounds

    def __getitem__(self, key: ItemKey) -> tuple[Any, ...]:
        item = self.pipeline.item(key)
        pairs = zip(item.teacher_features, self.pipeline.other_front_ends, strict=True)
        teacher_features = [network_input(features, front_end.teacher) for features, front_end in pairs]
        targets, *of_clips = np.split(item.targets, self.bounds)
        return (network_input(item.features, self.pipeline.spec), targets, key.clip, *teacher_features, *of_clips)
