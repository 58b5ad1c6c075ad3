"""Teacher features of the same segments: resampling, windows, and mixing at the same times and frequencies."""

from dataclasses import replace

import numpy as np
import pytest
import soundfile
import tolerances
import torch
import uncompiled_librosa as librosa

from birdnet_fs.batches.augment.item_random import ItemKey
from birdnet_fs.batches.augment.pipeline import AugmentationPipeline
from birdnet_fs.batches.augment.teacher_features import OtherFrontEnd, same_features
from birdnet_fs.batches.loader import TrainingBatches
from birdnet_fs.data.manifest import Clip
from birdnet_fs.data.waveforms import Waveforms
from birdnet_fs.frontend.in_numpy import log_mel
from birdnet_fs.schema import Augmentation, CutMix, Experiment, FrontEnd, Masks, Mixup, Noise, Training

RATE = 16_000
SPEC = FrontEnd(
    segment_s=1.0, n_mels=32, sample_rate_hz=RATE, n_fft=512, win_length=512, hop_length=256, fmin_hz=100, fmax_hz=8000
)
OTHER = replace(SPEC, preset="other", sample_rate_hz=24_000, n_mels=48, segment_s=0.6, fmax_hz=12_000, normalize="none")
N_CLIPS = 4


@pytest.fixture(scope="module")
def waveforms(tmp_path_factory: pytest.TempPathFactory) -> Waveforms:
    """Clips of one segment each, so that the crop is all of it."""
    folder = tmp_path_factory.mktemp("clips")
    rng = np.random.default_rng(0)
    for i in range(N_CLIPS):
        soundfile.write(folder / f"{i}.wav", rng.normal(0, 0.1, RATE), RATE, subtype="FLOAT")
    return Waveforms([Clip(path=folder / f"{i}.wav", labels=(str(i),)) for i in range(N_CLIPS)], RATE)


def items(waveforms: Waveforms, settings: Augmentation, other: FrontEnd = OTHER) -> list:
    experiment = Experiment(seed=3, frontend=SPEC, augmentation=settings)
    pipeline = AugmentationPipeline(
        waveforms, np.eye(N_CLIPS, dtype=np.float32), experiment, (), [OtherFrontEnd(SPEC, other)]
    )
    return [pipeline.item(ItemKey(0, place, place % N_CLIPS, 0)) for place in range(8)]


def test_same_features_ignores_the_preset_name() -> None:
    assert same_features(SPEC, replace(SPEC, preset="x")) and not same_features(SPEC, replace(SPEC, n_mels=31))


def test_shorter_teacher_segment_is_cut_into_windows(waveforms: Waveforms) -> None:
    for item in items(waveforms, Augmentation(time_masks=Masks(2))):
        (teacher_features,) = item.teacher_features
        assert teacher_features.shape == (2, *OTHER.shape)
        resampled = librosa.resample(item.crop, orig_sr=RATE, target_sr=24_000, res_type="soxr_hq")
        # masks do not apply to teachers, and the last 0.1 s is dropped
        for window, onset in zip(teacher_features, (0, 7_200), strict=True):
            expected = log_mel(resampled[onset : onset + 14_400], OTHER)[0]
            np.testing.assert_allclose(window, expected, atol=tolerances.TEACHER_FEATURES_DB)


def test_longer_teacher_segment_repeats_the_waveform(waveforms: Waveforms) -> None:
    longer = replace(SPEC, segment_s=1.5, normalize="none")
    item = items(waveforms, Augmentation(), longer)[1]
    expected = log_mel(np.concatenate([item.crop, item.crop[: RATE // 2]]), longer)[0]
    np.testing.assert_array_equal(item.teacher_features[0], expected[None])
    second, start = OtherFrontEnd(SPEC, longer), np.zeros((1, *longer.shape), np.float32)
    cut = second.mixed(start, start + 1, 0.5, (slice(0, 10), slice(0, 32)))[0].all(1)
    assert np.flatnonzero(cut).tolist() == [*range(10), *range(63, 73)]  # frames of 1 / 63 and 1.5 / 94 s


def test_teachers_get_waveform_changes_but_no_feature_changes(waveforms: Waveforms) -> None:
    same = replace(SPEC, preset="same")
    settings = Augmentation(mixup=Mixup(1), noise=Noise(1), gain_db=6.0, pad_p=1.0)
    for item in items(waveforms, settings, same):
        np.testing.assert_array_equal(item.teacher_features[0][0], item.features)
    for item in items(waveforms, replace(settings, freq_masks=Masks(1, lengths=(9, 9), fill="zero")), same):
        assert (
            ((item.teacher_features[0][0] != item.features).any(0).sum())
            <= 9
            < item.teacher_features[0][0].any(0).sum()
        )


def test_mixed_teacher_features_have_the_shares_of_the_targets(waveforms: Waveforms) -> None:
    alone = [item.teacher_features[0] for item in items(waveforms, Augmentation())]
    found = items(waveforms, Augmentation(mixup=Mixup(1, on="features", alpha=5.0)))
    assert any(np.count_nonzero(item.targets) == 2 for item in found)
    for item in found:
        expected = sum(share * alone[clip] for clip, share in enumerate(item.targets))
        np.testing.assert_allclose(item.teacher_features[0], expected, atol=tolerances.TEACHER_FEATURES_DB)


def test_cutmix_rectangle_covers_the_same_times_and_frequencies() -> None:
    """Bands by librosa's mel frequencies; 12 frames of 63 and bands 8 to 20 of 32 are cut from the other."""
    wide = replace(SPEC, n_mels=64, fmin_hz=0.0, segment_s=1.0)
    first = np.zeros((1, *wide.shape), np.float32)
    changed = OtherFrontEnd(SPEC, wide).mixed(first, first + 1, 0.5, (slice(20, 32), slice(8, 20)))[0]
    frames, bands = np.flatnonzero(changed.any(1)), np.flatnonzero(changed.any(0))
    assert changed[np.ix_(frames, bands)].all() and changed.sum() == frames.size * bands.size
    assert (frames.min(), frames.max()) == (20, 31)
    ours = librosa.mel_frequencies(34, fmin=100, fmax=8000)[1:-1]
    theirs = librosa.mel_frequencies(66, fmin=0, fmax=8000)[1:-1]
    step = np.diff(ours)
    assert abs(theirs[bands.min()] - ours[8]) <= step[8] and abs(theirs[bands.max()] - ours[19]) <= step[19]
    later = OtherFrontEnd(SPEC, replace(wide, segment_s=0.5)).mixed(
        np.zeros((3, 32, 64), np.float32), np.ones((3, 32, 64), np.float32), 0.5, (slice(0, 16), slice(0, 32))
    )
    assert [int(window.all(1).sum()) for window in later] == [16, 0, 0]  # a quarter of a second


@pytest.mark.parametrize("on", ["waveform", "features"])
def test_batches_hold_teacher_features_probabilities_and_embeddings(waveforms: Waveforms, on: str) -> None:
    settings = Augmentation(cutmix=CutMix(0.5), mixup=Mixup(0.5, on=on))

    def batches(workers: int) -> list:
        training = Training(batch_size=2, workers=workers)
        experiment = Experiment(seed=3, frontend=SPEC, augmentation=settings, training=training)
        eye = np.eye(N_CLIPS, dtype=np.float32)
        made = TrainingBatches(
            waveforms,
            eye,
            experiment,
            teacher_frontends=[OTHER],
            teacher_probabilities=1 - eye,
            teacher_embeddings=np.hstack([3 * eye - 2, eye]),
        )
        return list(made.epoch(1))

    for one, other in zip(batches(0), batches(2), strict=True):
        features, targets, clips, teacher_features, teacher_probabilities, teacher_embeddings = one
        assert features.shape == (2, *SPEC.shape, 1) and teacher_features.shape == (2, 2, *OTHER.shape, 1)
        assert targets.shape == teacher_probabilities.shape == (2, N_CLIPS) and clips.shape == (2,)
        torch.testing.assert_close(teacher_probabilities, 1 - targets)  # mixed in the same shares
        torch.testing.assert_close(teacher_embeddings, torch.hstack([3 * targets - 2, targets]))
        assert all(torch.equal(a, b) for a, b in zip(one, other, strict=True))
