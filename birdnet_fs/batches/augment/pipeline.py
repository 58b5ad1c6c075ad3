"""Augmentation of a training item: crop of its clip, waveform stage, front-end, feature stage, mixing.

All random numbers come from a generator keyed on (seed, epoch, position), see item_random.py. The changes are listed in
schema.Augmentation and cited in stretch_pitch.py, waveform.py, filters.py, animal_spot.py and features.py. Libraries
for augmentation are not used: they draw from their own or from global generators, so that an item would depend on the
number of workers.
"""

import dataclasses
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from birdnet_fs import schema
from birdnet_fs.batches.augment import animal_spot
from birdnet_fs.batches.augment.crop import cumulative_activity
from birdnet_fs.batches.augment.features import Rectangle, augment_features, mix_features
from birdnet_fs.batches.augment.item_random import ANY_CLIP, ItemKey, ItemRandom
from birdnet_fs.batches.augment.pseudo_label_sampling import PseudoLabelSampling
from birdnet_fs.batches.augment.segment import draw_segment
from birdnet_fs.batches.augment.teacher_features import OtherFrontEnd
from birdnet_fs.batches.augment.waveform import Partner, augment_waveform, mix, mixed_targets
from birdnet_fs.data.waveforms import Waveforms
from birdnet_fs.data.windows import pad_to
from birdnet_fs.frontend.in_numpy import log_mel


class Item(NamedTuple):
    """One training item."""

    features: np.ndarray  # float32 [n_frames, n_mels]
    targets: np.ndarray  # float32 [n_classes], soft where mixed
    crop: np.ndarray  # float32 [n], the part of the clip before any change; empty with kept features
    changes: tuple[str, ...]  # descriptions of what was applied, in order
    teacher_features: tuple[np.ndarray, ...] = ()  # of each other front-end, float32 [n_windows, n_frames, n_mels]


class AugmentationPipeline:
    """Makes a training item from its key.

    Args:
        waveforms: The training clips.
        targets: float32 [n_clips, n_classes], multi-hot; probabilities for pseudo-labeled clips.
        experiment: Settings; `frontend`, `augmentation`, `data.multi_label` and `seed` are read.
        noises: Background waveforms. Default: (), noise is synthesized.
        other_front_ends: Front-ends of teachers. They get the waveform after the waveform stage; the feature stage
            does not apply to them, and their features are mixed as the item's are. Default: ().
        pseudo_labels: Sampling of the pseudo-labeled clips at the end of `waveforms`, which are mixed into labeled ones
            and are never partners of mixup or CutMix. Default: None, there are none.
        kept: Features of the middle segment of each clip, float32 [1, n_frames, n_mels], for settings that change no
            waveform (`Augmentation.waveform_changes`). Default: None, they are computed for each item.
        n_values: Number of last columns of the targets that are no classes (`mixed_targets`). Default: 0.
    """

    def __init__(
        self,
        waveforms: Waveforms,
        targets: np.ndarray,
        experiment: schema.Experiment,
        noises: Sequence[np.ndarray] | Waveforms = (),
        other_front_ends: Sequence[OtherFrontEnd] = (),
        pseudo_labels: PseudoLabelSampling | None = None,
        kept: Sequence[np.ndarray] | None = None,
        n_values: int = 0,
    ) -> None:
        self.waveforms, self.targets, self.noises, self.kept = waveforms, targets, noises, kept
        self.other_front_ends, self.pseudo_labels, self.n_values = tuple(other_front_ends), pseudo_labels, n_values
        self._n_labeled = pseudo_labels.n_labeled if pseudo_labels else len(waveforms)
        self.seed, self.spec = experiment.seed, experiment.frontend
        self.settings, self.multi_label = experiment.augmentation, experiment.data.multi_label
        self._unmixed = dataclasses.replace(self.settings, mixup=schema.Mixup(), cutmix=schema.CutMix())
        self._shortest = self.spec.min_samples if self.spec.normalize_when == "clip" else 0  # samples
        self._within = (0.0, 1.0) if self.spec.normalize in ("min_max", "db_range") else None
        self._activity: dict[int, np.ndarray] = {}  # by clip, computed when first cropped: 80 bytes per second of audio

    def item(self, key: ItemKey) -> Item:
        """The item of a key: the same for the same seed and key, in any order and in any process."""
        item_random = ItemRandom(self.seed, key)
        made = self._before_mixing(key.clip, item_random)
        teacher_features = made.teacher_features

        def mix_teacher_features(other: Partner, share: float, rectangle: Rectangle | None) -> None:
            nonlocal teacher_features
            both = zip(self.other_front_ends, teacher_features, other.teacher_features, strict=True)
            teacher_features = tuple(
                front_end.mixed(first, second, share, rectangle) for front_end, first, second in both
            )

        features, targets = mix_features(
            made.features,
            made.targets,
            self._settings_of(item_random),
            item_random,
            multi_label=self.multi_label,
            partner=lambda: self._partner(item_random),
            on_mix=mix_teacher_features,
            n_values=self.n_values,
        )
        return Item(features, targets, made.crop, tuple(item_random.changes), teacher_features)

    def _before_mixing(self, clip: int, item_random: ItemRandom) -> Item:
        """Item of a clip before its features are mixed with those of another."""
        if self.kept is not None:
            kept = augment_features(self.kept[clip][0], self.settings, item_random, within=self._within)
            return Item(kept, self.targets[clip], np.empty(0, np.float32), ())
        spot = animal_spot.draw_parameters(self.settings.animal_spot, item_random)
        n_samples = max(round(self.spec.n_samples / (spot.time if spot else 1.0)), self.spec.min_samples)
        cropped, segment = self._segment(clip, n_samples, item_random)
        segment, targets = self._with_pseudo_labeled(clip, segment, item_random)
        waveform, targets = augment_waveform(
            segment,
            targets,
            self._settings_of(item_random),
            item_random,
            sample_rate_hz=self.spec.sample_rate_hz,
            multi_label=self.multi_label,
            partner=lambda n: self._waveform_partner(n, item_random),
            noises=self.noises,
            n_values=self.n_values,
        )
        if len(waveform) < n_samples:
            waveform = pad_to(waveform, n_samples)
        if spot:
            settings = self.settings.animal_spot
            features = animal_spot.features(waveform, spot, self.spec, settings, item_random, self.noises)
        else:
            features = log_mel(waveform, self.spec)[0]
        teacher_features = tuple(front_end.features(waveform) for front_end in self.other_front_ends)
        features = augment_features(features, self.settings, item_random, within=self._within)
        return Item(features, targets, cropped, (), teacher_features)

    def _with_pseudo_labeled(
        self, clip: int, segment: np.ndarray, item_random: ItemRandom
    ) -> tuple[np.ndarray, np.ndarray]:
        """A segment and its targets; into a labeled clip, a pseudo-labeled one may be mixed."""
        targets, sampling = self.targets[clip], self.pseudo_labels
        if sampling is None or clip >= sampling.n_labeled or item_random.rng.random() >= sampling.mix:
            return segment, targets
        alpha = self.settings.mixup.alpha
        share = float(item_random.rng.beta(alpha, alpha))
        share = max(share, 1 - share)
        other, before = int(sampling.draw(1, item_random.rng)[0]), len(item_random.changes)
        second = self._filled_segment(other, len(segment), item_random)
        item_random.changes.append(
            f"{1 - share:.0%} of the power from {self._name(other, item_random, before)}, pseudo-labeled"
        )
        labels = self.settings.mixup.labels
        targets = mixed_targets(targets, self.targets[other], share, labels, self.multi_label, self.n_values)
        return mix(segment, second, share), targets

    def _segment(self, clip: int, n_samples: int, item_random: ItemRandom) -> tuple[np.ndarray, np.ndarray]:
        """A crop of a clip, and the same crop stretched to `n_samples` and shifted in pitch."""
        waveform, rate_hz = self.waveforms[clip], self.spec.sample_rate_hz
        if self.settings.crop == "active" and clip not in self._activity:
            self._activity[clip] = cumulative_activity(waveform, rate_hz)
        found = self._activity.get(clip)
        return draw_segment(
            waveform,
            n_samples,
            self.settings,
            item_random,
            sample_rate_hz=rate_hz,
            activity=found,
            shortest=self._shortest,
        )

    def _filled_segment(self, clip: int, n_samples: int, item_random: ItemRandom) -> np.ndarray:
        """A segment of a clip to mix into another, float32 [n_samples]; behind a shorter clip it is silent."""
        _, segment = self._segment(clip, n_samples, item_random)
        return segment if len(segment) == n_samples else pad_to(segment, n_samples)

    def _settings_of(self, item_random: ItemRandom) -> schema.Augmentation:
        return self._unmixed if item_random.key.partner is None else self.settings

    def _partner_clip(self, item_random: ItemRandom) -> int:
        """Index of the clip that is mixed into an item."""
        partner = item_random.key.partner
        return int(item_random.rng.integers(self._n_labeled)) if partner in (None, ANY_CLIP) else partner

    def _waveform_partner(self, n_samples: int, item_random: ItemRandom) -> Partner:
        clip, before = self._partner_clip(item_random), len(item_random.changes)
        segment = self._filled_segment(clip, n_samples, item_random)
        return Partner(segment, self.targets[clip], self._name(clip, item_random, before))

    def _partner(self, item_random: ItemRandom) -> Partner:
        clip, before = self._partner_clip(item_random), len(item_random.changes)
        made = self._before_mixing(clip, item_random)
        return Partner(made.features, made.targets, self._name(clip, item_random, before), made.teacher_features)

    def _name(self, clip: int, item_random: ItemRandom, before: int) -> str:
        """File name of a partner with its own changes, which are moved out of the changes of the item."""
        done, item_random.changes[before:] = item_random.changes[before:], []
        return self.waveforms.clips[clip].path.name + (f" ({'; '.join(done)})" if done else "")
