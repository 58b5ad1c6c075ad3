"""Augmented views of training clips: waveforms that are changed before an encoder embeds them.

A view is the whole clip, changed like a training segment of a network (batches/augment: stretch and pitch, mixup,
shift, noise, filters, gain), and then cut into windows as the clip is; a clip shorter than a window is placed anywhere
in it. The random numbers depend on the seed, on the recording and the times of the clip, and on the number of the view,
so that a second training, and the other folds of a cross-validation, read the kept embeddings. A clip that is mixed in
is one of the training clips, and therefore another one in another fold.
"""

import dataclasses
import functools
import hashlib
import json
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from birdnet_fs import schema
from birdnet_fs.batches.augment.item_random import ItemKey, ItemRandom
from birdnet_fs.batches.augment.segment import draw_segment
from birdnet_fs.batches.augment.waveform import Partner, augment_waveform, draw_mixup_share, mix, mixed_targets
from birdnet_fs.core.errors import UserError
from birdnet_fs.core.random_streams import Stream, generator
from birdnet_fs.core.text import escaped
from birdnet_fs.data.manifest import Clip
from birdnet_fs.data.waveforms import Waveforms, read_clip
from birdnet_fs.inference.encode_clips import ClipChange, clip_identity, encode_clips
from birdnet_fs.inference.encoder_features import EncoderFeatures
from birdnet_fs.training.encoder_heads.data import Views

MIXTURE, CHANGES = 0, 1  # last key of the random stream
_ONE_ITEM = ItemKey(0, 0, 0, 0)  # of no effect: nothing is drawn per batch


class ViewOfClips:
    """One view of each training clip.

    Args:
        number: Number of the view, from 0.
        clips: The training clips, with fingerprints.
        n_labeled: Number of clips, the first ones, that may be mixed in.
        experiment: Uses `seed` and `augmentation`.
        noises: Background recordings; without any, noise is synthesized.
        n_samples: Length of a window in samples.
        sample_rate_hz: Rate of the waveforms.
    """

    def __init__(
        self,
        number: int,
        clips: Sequence[Clip],
        n_labeled: int,
        experiment: schema.Experiment,
        noises: Sequence[Clip],
        *,
        n_samples: int,
        sample_rate_hz: int,
    ) -> None:
        self.number, self.clips, self.n_labeled = number, clips, n_labeled
        self.seed, self.settings = experiment.seed, experiment.augmentation
        self.noises = noises if self.settings.noise.p else ()
        self.n_samples, self.sample_rate_hz = n_samples, sample_rate_hz

    def mixture(self, clip: Clip) -> tuple[int, float] | None:
        """Clip that is mixed into the view of a clip, and its share.

        Args:
            clip: One of the clips.

        Returns:
            Number of another clip, or by chance of the same one, and the share of the power of the first, 0.5 or more;
            None for no mixture.
        """
        drawn = self._random(clip, MIXTURE)
        share = draw_mixup_share(self.settings.mixup, drawn)
        return None if share is None else (int(drawn.rng.integers(self.n_labeled)), max(share, 1 - share))

    def key(self, clip: Clip) -> str:
        """Text that differs where the view does: settings, seed, number, partner, and background recordings."""
        mixture = self.mixture(clip)
        parts = [
            dataclasses.asdict(self.settings),
            [self.seed, self.number, _place(clip)],
            [*clip_identity(self.clips[mixture[0]]), mixture[1]] if mixture else None,
            self._identity_of_noises if self.noises else None,
        ]
        return json.dumps(parts)

    def apply(self, clip: Clip, waveform: NDArray[np.float32]) -> NDArray[np.float32]:
        """Change the waveform of a clip.

        Args:
            clip: One of the clips.
            waveform: float32 [n], samples of the clip.

        Returns:
            float32 [n], or [n_samples] for a clip that is shorter than a window.

        Raises:
            UserError: The clip that is mixed in can no longer be read.
        """
        drawn, mixture = self._random(clip, CHANGES), self.mixture(clip)
        n, rate_hz = max(len(waveform), self.n_samples), self.sample_rate_hz
        _, segment = draw_segment(waveform, n, self.settings, drawn, sample_rate_hz=rate_hz)
        if mixture:
            other = read_clip(self.clips[mixture[0]], rate_hz)
            if other.waveform is None:
                raise UserError(f"{escaped(other.row.path)} can no longer be read: {escaped(other.row.reason)}.")
            _, second = draw_segment(other.waveform, n, self.settings, drawn, sample_rate_hz=rate_hz)
            segment = mix(segment, second, mixture[1])
        changed, _ = augment_waveform(
            segment,
            np.zeros(0, np.float32),
            dataclasses.replace(self.settings, mixup=schema.Mixup()),
            drawn,
            sample_rate_hz=rate_hz,
            multi_label=False,
            partner=_no_partner,
            noises=self._noise_waveforms,
        )
        return changed

    def _random(self, clip: Clip, what: int) -> ItemRandom:
        hashed = hashlib.blake2b(_place(clip).encode(errors="surrogateescape"), digest_size=8).digest()
        rng = generator(self.seed, Stream.HEAD_VIEWS, int.from_bytes(hashed, "big"), self.number, what)
        return ItemRandom(self.seed, _ONE_ITEM, rng)

    @functools.cached_property
    def _identity_of_noises(self) -> str:
        return hashlib.sha256(json.dumps([clip_identity(clip) for clip in self.noises]).encode()).hexdigest()

    @functools.cached_property
    def _noise_waveforms(self) -> Waveforms | tuple[()]:
        return Waveforms(self.noises, self.sample_rate_hz) if self.noises else ()


def encode_views(
    features: EncoderFeatures,
    clips: Sequence[Clip],
    targets: np.ndarray,
    experiment: schema.Experiment,
    *,
    n_labeled: int,
    noises: Sequence[Clip] = (),
) -> Views | None:
    """Embed `model.encoder_head.n_views` views of each training clip; those that are kept are read.

    Args:
        features: The encoders.
        clips: The training clips that could be read, with fingerprints.
        targets: float32 [n_clips, n_classes], 0..1; -1 = unknown.
        experiment: Uses `seed`, `augmentation`, `data` and `model.encoder_head.n_views`.
        n_labeled: Number of clips, the first ones, that may be mixed in; the others have pseudo-labels.
        noises: Background recordings. Default: (), noise is synthesized.

    Returns:
        The views; None with `n_views=0`.

    Raises:
        UserError: A clip or background recording can no longer be read.
    """
    found = list[Views]()
    n_views, multi_label = experiment.model.encoder_head.n_views, experiment.data.multi_label
    labels, own = experiment.augmentation.mixup.labels, np.arange(len(clips))
    size = {"n_samples": features.n_samples, "sample_rate_hz": features.sample_rate_hz}
    for number in range(n_views):
        view = ViewOfClips(number, clips, n_labeled, experiment, noises, **size)
        title, change = f"embedding view {number + 1} of {n_views}", ClipChange(view.key, view.apply)
        encoded = encode_clips(features, clips, title, hop_s=experiment.data.clip_hop_s, change=change)
        if len(encoded.clips) < len(clips):
            raise UserError(f"Recordings changed during the training. {encoded.ledger.summary()}")
        partner, mixed = own.copy(), np.array(targets, np.float32)
        for i, clip in enumerate(clips):
            if (mixture := view.mixture(clip)) is not None:
                partner[i], share = mixture
                mixed[i] = mixed_targets(targets[i], targets[partner[i]], share, labels, multi_label)
        found.append(Views(encoded.features, encoded.clip_of_window, own, partner, mixed))
    return _joined(found) if found else None


def _joined(parts: Sequence[Views]) -> Views:
    counts = [len(each.clip) for each in parts]
    before = np.cumsum(counts) - counts
    return Views(
        np.concatenate([each.features for each in parts]),
        np.concatenate([each.view + n for each, n in zip(parts, before, strict=True)]),
        np.concatenate([each.clip for each in parts]),
        np.concatenate([each.partner for each in parts]),
        np.concatenate([each.targets for each in parts]),
    )


def _place(clip: Clip) -> str:
    """Text that identifies a clip: its recording, wherever the file lies, and its times."""
    return f"{clip.fingerprint or clip.path.name} {clip.onset_s!r} {clip.offset_s!r}"


def _no_partner(n_samples: int) -> Partner:
    raise AssertionError(f"mixup is drawn before the other changes, not for {n_samples} samples")
