"""The whole way of a training item: a crop of its clip, the waveform stage, the front-end, the feature stage, mixing.

Everything is drawn from a generator keyed on (seed, epoch, index), see draws.py. What is possible stands in
schema.Augmentation, each change with its paper in augment_waveform, filters, stretch, animal_spot and augment_features.
None of it takes a library made for this: those draw from generators of their own or from the global ones, so that an
item would not be the same with another number of workers.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from birdnet_fs import schema
from birdnet_fs.batches.augment import animal_spot
from birdnet_fs.batches.augment.crop import activity, crop
from birdnet_fs.batches.augment.features import Rectangle, augment_features, mix_features
from birdnet_fs.batches.augment.rng import ItemRandom, Key
from birdnet_fs.batches.augment.stretch_pitch import stretch_and_shift
from birdnet_fs.batches.augment.teacher_features import OtherFrontEnd
from birdnet_fs.batches.augment.unlabeled import UnlabeledClips
from birdnet_fs.batches.augment.waveform import Partner, augment_waveform, mix, mixed_targets
from birdnet_fs.data.waveforms import Waveforms
from birdnet_fs.frontend.in_numpy import log_mel


class Item(NamedTuple):
    """One training item."""

    features: np.ndarray  # float32 [n_frames, n_mels]
    targets: np.ndarray  # float32 [n_classes], soft where mixed
    cut: np.ndarray  # float32 [n], the part of the clip it was made of, unchanged
    changes: tuple[str, ...]  # what was done to it, in order
    teacher_features: tuple[
        np.ndarray, ...
    ] = ()  # by each listener, float32 [n_windows, n_frames, n_mels] of its front-end


class AugmentationPipeline:
    """Training items by their keys.

    Args:
        waveforms: The training clips.
        targets: float32 [n_clips, n_classes], multi-hot.
        experiment: Settings; `frontend`, `augmentation`, `data.multi_label` and `seed` are read.
        noises: Background waveforms.
        other_front_ends: Other front-ends that hear the items: after the waveform stage, before the feature stage, mixed as
            the features are.
        unlabeled: Which clips are at the end of `waveforms` that runs labeled, with probabilities as targets. They
            are mixed into labeled ones as it says, and are no partners otherwise.
    """

    def __init__(
        self,
        waveforms: Waveforms,
        targets: np.ndarray,
        experiment: schema.Experiment,
        noises: Sequence[np.ndarray] | Waveforms = (),
        other_front_ends: Sequence[OtherFrontEnd] = (),
        unlabeled: UnlabeledClips | None = None,
    ) -> None:
        self.waveforms, self.targets, self.noises = waveforms, targets, noises
        self.other_front_ends, self.unlabeled = tuple(other_front_ends), unlabeled
        self._n_labeled = unlabeled.n_labeled if unlabeled else len(waveforms)
        self.seed, self.spec = experiment.seed, experiment.frontend
        self.settings, self.multi_label = experiment.augmentation, experiment.data.multi_label
        self._within = (0.0, 1.0) if self.spec.normalize in ("min_max", "db_range") else None
        self._activity: dict[int, np.ndarray] = {}  # of clips that were cropped: 80 bytes a second

    def item(self, key: Key) -> Item:
        """The item of a key: the same for the same seed, in any order and in any process."""
        draws = ItemRandom(self.seed, key)
        made = self._before_mixing(key.clip, draws)
        heard = made.teacher_features

        def mix_teacher_features(other: Partner, share: float, rectangle: Rectangle | None) -> None:
            nonlocal heard
            pairs = zip(self.other_front_ends, heard, other.teacher_features, strict=True)
            heard = tuple(one.mixed(first, second, share, rectangle) for one, first, second in pairs)

        features, targets = mix_features(
            made.features,
            made.targets,
            self.settings,
            draws,
            multi_label=self.multi_label,
            partner=lambda: self._partner(draws),
            on_mix=mix_teacher_features,
        )
        return Item(features, targets, made.cut, tuple(draws.changes), heard)

    def _before_mixing(self, clip: int, random: ItemRandom) -> Item:
        """A clip's item before its features are mixed with another's."""
        spot = animal_spot.draw_parameters(self.settings.animal_spot, random)
        n_samples = max(round(self.spec.n_samples / (spot.time if spot else 1.0)), self.spec.min_samples)
        cut, segment = self._segment(clip, n_samples, random)
        segment, targets = self._with_unlabeled(clip, segment, random)
        waveform, targets = augment_waveform(
            segment,
            targets,
            self.settings,
            random,
            sample_rate_hz=self.spec.sample_rate_hz,
            multi_label=self.multi_label,
            partner=lambda n: self._waveform_partner(n, random),
            noises=self.noises,
        )
        if spot:
            features = animal_spot.features(waveform, spot, self.spec, self.settings.animal_spot, random, self.noises)
        else:
            features = log_mel(waveform, self.spec)[0]
        heard = tuple(listener.features(waveform) for listener in self.other_front_ends)
        return Item(augment_features(features, self.settings, random, within=self._within), targets, cut, (), heard)

    def _with_unlabeled(self, clip: int, segment: np.ndarray, random: ItemRandom) -> tuple[np.ndarray, np.ndarray]:
        """A segment and its targets; of a labeled clip perhaps with a clip mixed in that a run labeled."""
        targets, more = self.targets[clip], self.unlabeled
        if more is None or clip >= more.n_labeled or random.rng.random() >= more.mix:
            return segment, targets
        alpha = self.settings.mixup.alpha
        share = float(random.rng.beta(alpha, alpha))
        share = max(share, 1 - share)
        other, before = int(more.draw(1, random.rng)[0]), len(random.changes)
        _, second = self._segment(other, len(segment), random)
        random.changes.append(
            f"{1 - share:.0%} of the power from {self._name(other, random, before)}, labeled by a run"
        )
        labels = self.settings.mixup.labels
        targets = mixed_targets(targets, self.targets[other], share, labels, self.multi_label)
        return mix(segment, second, share), targets

    def _segment(self, clip: int, n_samples: int, random: ItemRandom) -> tuple[np.ndarray, np.ndarray]:
        """A part of a clip, and the same stretched to `n_samples` and shifted in pitch."""
        rng, rate, semitones = random.rng, 1.0, 0.0
        if self.settings.stretch.p and rng.random() < self.settings.stretch.p:
            low, high = self.settings.stretch.rate
            rate = low * (high / low) ** rng.random()
            random.changes.append(f"{rate:.2f} times as fast")
        if self.settings.pitch.p and rng.random() < self.settings.pitch.p:
            semitones = rng.uniform(-self.settings.pitch.semitones, self.settings.pitch.semitones)
            random.changes.append(f"{semitones:+.1f} semitones")
        waveform, rate_hz = self.waveforms[clip], self.spec.sample_rate_hz
        if self.settings.crop == "active" and clip not in self._activity:
            self._activity[clip] = activity(waveform, rate_hz)
        cut = crop(waveform, round(n_samples * rate), rng, activity=self._activity.get(clip), sample_rate_hz=rate_hz)
        if rate == 1.0 and semitones == 0.0:
            return cut, cut
        return cut, stretch_and_shift(cut, n_samples, semitones, rate_hz)

    def _waveform_partner(self, n_samples: int, random: ItemRandom) -> Partner:
        clip, before = int(random.rng.integers(self._n_labeled)), len(random.changes)
        _, segment = self._segment(clip, n_samples, random)
        return Partner(segment, self.targets[clip], self._name(clip, random, before))

    def _partner(self, random: ItemRandom) -> Partner:
        clip, before = int(random.rng.integers(self._n_labeled)), len(random.changes)
        made = self._before_mixing(clip, random)
        return Partner(made.features, made.targets, self._name(clip, random, before), made.teacher_features)

    def _name(self, clip: int, random: ItemRandom, before: int) -> str:
        """A partner's file, and what was done to it, which is taken out of what was done to the item."""
        done, random.changes[before:] = random.changes[before:], []
        return self.waveforms.clips[clip].path.name + (f" ({'; '.join(done)})" if done else "")
