"""Clips in, batches out. The order of an epoch is drawn from (seed, epoch) and each item from
(seed, epoch, index), so batches are the same with any number of workers and after a restart.
A batch is some of the clips in random order, or an episode of few-shot training.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from birdnet_fs import schema
from birdnet_fs.batches.augment.pipeline import AugmentationPipeline
from birdnet_fs.batches.augment.rng import Key
from birdnet_fs.batches.augment.teacher_features import OtherFrontEnd
from birdnet_fs.batches.augment.unlabeled import UnlabeledClips
from birdnet_fs.batches.class_balance import clip_weights, epoch_clips
from birdnet_fs.core.random_streams import Stream, generator, integer_seed
from birdnet_fs.data.episodes import draw_episodes
from birdnet_fs.data.manifest import Clip
from birdnet_fs.data.waveforms import Waveforms
from birdnet_fs.frontend.in_numpy import network_input

Batch = Sequence[torch.Tensor]  # features, targets, indices of the clips; then what teachers are given
Keys = list[Key]  # of every item of a batch


class TrainingBatches:
    """Augmented batches of an epoch: `for features, targets, indices in batches.epoch(3)`.

    Args:
        waveforms: The training clips.
        targets: float32 [n_clips, n_classes], multi-hot.
        experiment: Settings; `frontend`, `augmentation`, `training` and `seed` are read.
        noises: Background waveforms.
        order: Which clips stand together; None = all of them shuffled, in batches.
        frontends: Others that hear the items as well (augmentation.Chain): each adds features float32
            [batch, n_windows, n_frames, n_mels, n_channels] of its own to a batch.
        teacher_probabilities: Probabilities that a teacher gave to the clips, float32 [n_clips, n_classes], or None; they are mixed
            as the targets are and stand last in a batch.
        unlabeled: Which clips at the end runs labeled, and how they are drawn; None = none.

    Each batch holds features float32 [batch, n_frames, n_mels, n_channels], targets float32
    [batch, n_classes] (soft where mixed) and the clips' indices int64 [batch]. Every clip comes
    `training.sampling.crops_per_clip` times an epoch (unless `order`, or another setting of `training.sampling`, says
    otherwise); a last batch of one is dropped, since BatchNorm has no variance there.
    """

    def __init__(
        self,
        waveforms: Waveforms,
        targets: np.ndarray,
        experiment: schema.Experiment,
        noises: Sequence[np.ndarray] | Waveforms = (),
        order: "EpisodeOrder | None" = None,
        *,
        frontends: Sequence[schema.FrontEnd] = (),
        teacher_probabilities: np.ndarray | None = None,
        unlabeled: UnlabeledClips | None = None,
    ) -> None:
        self.clips = waveforms.clips
        listeners = [OtherFrontEnd(experiment.frontend, own) for own in frontends]
        both = targets if teacher_probabilities is None else np.concatenate([targets, teacher_probabilities], axis=1)
        self._items = _Items(
            AugmentationPipeline(waveforms, both, experiment, noises, listeners, unlabeled), targets.shape[1]
        )
        self._order = order or _Order(targets, experiment, unlabeled)
        workers = experiment.training.workers
        self._loader = DataLoader(
            self._items,
            batch_sampler=self._order,
            num_workers=workers,
            persistent_workers=workers > 0,
            pin_memory=torch.cuda.is_available() and experiment.training.device != "cpu",
            # one of its own: else the loader draws from torch's, as often as there are workers, and moves dropout
            generator=torch.Generator().manual_seed(integer_seed(experiment.seed, Stream.WORKERS)),
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
        clips: Labeled, one class each.
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
        self._groups = [clips[i].recording_group for i in self._clips.tolist()]
        self._draw_clips()  # what cannot be drawn is said now

    def _draw_clips(self) -> np.ndarray:
        """Clips [n_train, n_way, n_shot + n_query]."""
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

    def __iter__(self) -> Iterator[Keys]:
        clips = self._draw_clips().reshape(len(self), -1)
        for episode, own in enumerate(clips.tolist()):
            place = episode * len(own)
            yield [Key(self.epoch, place + i, clip, 2 * episode + self._is_query(i)) for i, clip in enumerate(own)]

    def _is_query(self, place: int) -> bool:
        """Whether an item of an episode is a query; support and queries are a batch each for what a batch shares."""
        return place % (self.settings.n_shot + self.settings.n_query) >= self.settings.n_shot


class _Order(Sampler[Keys]):
    """All clips, or some drawn by how rare their classes are (imbalance.py), and with them those that runs labeled."""

    def __init__(
        self, targets: np.ndarray, experiment: schema.Experiment, unlabeled: UnlabeledClips | None = None
    ) -> None:
        self.unlabeled, self.epoch = unlabeled, 0
        self.targets, self.seed = targets[: unlabeled.n_labeled] if unlabeled else targets, experiment.seed
        self.settings = experiment.training
        self._weights = clip_weights(
            self.targets, self.settings.sampling.name, rare_class_weight=self.settings.loss.rare_class_weight
        )
        self._bounds = self._batch_bounds(len(self._draw_clips()))

    def _draw_clips(self) -> np.ndarray:
        rng = generator(self.seed, Stream.ORDER, self.epoch)
        clips = self._labeled(rng)
        return self.unlabeled.mixed_into(clips, rng) if self.unlabeled else clips

    def _labeled(self, rng: np.random.Generator) -> np.ndarray:
        n_crops = self.settings.sampling.crops_per_clip
        if self._weights is not None:
            return rng.choice(len(self.targets), len(self.targets) * n_crops, p=self._weights)
        pool = epoch_clips(
            self.targets,
            rng,
            min_clips_per_class=self.settings.sampling.min_clips_per_class,
            max_clips_per_class=self.settings.sampling.max_clips_per_class,
        )
        return np.concatenate([rng.permutation(pool) for _ in range(n_crops)])

    def _batch_bounds(self, n_items: int) -> list[tuple[int, int]]:
        size = self.settings.batch_size
        bounds = [(start, min(start + size, n_items)) for start in range(0, n_items, size)]
        return [b for b in bounds if b[1] - b[0] > 1] or bounds

    def __len__(self) -> int:
        return len(self._bounds)

    def __iter__(self) -> Iterator[Keys]:
        clips = self._draw_clips().tolist()
        for start, stop in self._bounds:
            number = start // self.settings.batch_size
            yield [Key(self.epoch, position, clips[position], number) for position in range(start, stop)]


class _Items(Dataset):
    def __init__(self, chain: AugmentationPipeline, n_classes: int) -> None:
        self.chain, self.n_classes = chain, n_classes

    def __getitem__(self, key: Key) -> tuple[Any, ...]:
        item = self.chain.item(key)
        pairs = zip(item.teacher_features, self.chain.other_front_ends, strict=True)
        heard = [network_input(features, listener.own) for features, listener in pairs]
        targets, beliefs = np.split(item.targets, [self.n_classes])
        given = (network_input(item.features, self.chain.spec), targets, key.clip, *heard)
        return (*given, beliefs) if len(beliefs) else given
