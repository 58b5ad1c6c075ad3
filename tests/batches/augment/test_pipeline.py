"""The whole pipeline: reproducible items, no change when nothing is set, and descriptions of every change."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import soundfile

from birdnet_fs.batches.augment.item_random import ItemKey
from birdnet_fs.batches.augment.pipeline import AugmentationPipeline
from birdnet_fs.core.random_streams import Stream, generator
from birdnet_fs.data.manifest import Clip
from birdnet_fs.data.waveforms import Waveforms
from birdnet_fs.frontend.in_numpy import log_mel
from birdnet_fs.schema import (
    AnimalSpot,
    Augmentation,
    CutMix,
    Data,
    Experiment,
    FeatureNoise,
    Filters,
    FrontEnd,
    Levels,
    Masks,
    Mixup,
    Noise,
    Pitch,
    Shift,
    Stretch,
    Warp,
)

RATE = 16_000
SPEC = FrontEnd(segment_s=0.5, n_mels=16, sample_rate_hz=RATE, n_fft=512, win_length=512, hop_length=256, fmax_hz=8000)
REST = {
    "crop": "active",
    "mixup": Mixup(1, on="features"),
    "shift": Shift(1),
    "noise": Noise(1),
    "filters": Filters(low_pass_p=1, low_pass_hz=(4000, 7000), high_pass_p=1),
    "eq_db": 6.0,
    "gain_db": 6.0,
    "pad_p": 1.0,
    "freq_shift": 2,
    "warp": Warp(1, freq=0.1),
    "time_masks": Masks(2),
    "freq_masks": Masks(2, per="batch"),
    "feature_noise": FeatureNoise(1),
    "levels": Levels(1),
    "cutmix": CutMix(1),
}
EVERYTHING = {
    "waveform": Augmentation(stretch=Stretch(1), pitch=Pitch(1), **REST),
    "animal_spot": Augmentation(animal_spot=AnimalSpot(1), **REST),
}
N_CLIPS = 4


@pytest.fixture(scope="module")
def waveforms(tmp_path_factory: pytest.TempPathFactory) -> Waveforms:
    folder = tmp_path_factory.mktemp("clips")
    rng = np.random.default_rng(0)
    for i in range(N_CLIPS):
        soundfile.write(folder / f"{i}.wav", rng.normal(0, 0.1, 2 * RATE), RATE)
    return Waveforms([Clip(path=folder / f"{i}.wav", labels=(str(i),)) for i in range(N_CLIPS)], RATE)


def make_pipeline(
    waveforms: Waveforms, settings: Augmentation, *, seed: int = 3, multi_label: bool = False
) -> AugmentationPipeline:
    experiment = Experiment(seed=seed, frontend=SPEC, augmentation=settings, data=Data(multi_label=multi_label))
    noise = np.random.default_rng(9).normal(0, 0.1, 3 * RATE).astype(np.float32)
    return AugmentationPipeline(waveforms, np.eye(N_CLIPS, dtype=np.float32), experiment, [noise])


def test_no_augmentation_is_a_crop_through_the_front_end(waveforms: Waveforms) -> None:
    for place in range(8):
        item = make_pipeline(waveforms, Augmentation()).item(ItemKey(0, place, place % N_CLIPS, 0))
        rng = generator(3, Stream.AUGMENTATION, 0, place)
        waveform = waveforms[place % N_CLIPS]
        onset = rng.integers(0, len(waveform) - SPEC.n_samples + 1)
        segment = waveform[onset : onset + SPEC.n_samples]
        np.testing.assert_array_equal(item.features, log_mel(segment, SPEC)[0])
        np.testing.assert_array_equal(item.crop, segment)
        np.testing.assert_array_equal(item.targets, np.eye(N_CLIPS)[place % N_CLIPS])
        assert item.changes == ()


def test_short_clips_keep_their_length_where_the_front_end_normalizes_clips(tmp_path: Path) -> None:
    """Changes of the waveform end with the clip, so that the zeros behind it stay padding."""
    rng, lengths = np.random.default_rng(1), (300, 3_000, RATE // 2, 2 * RATE)
    for i, n_samples in enumerate(lengths):
        soundfile.write(tmp_path / f"{i}.wav", rng.normal(0, 0.1, n_samples), RATE)
    clips = Waveforms([Clip(path=tmp_path / f"{i}.wav", labels=(str(i),)) for i in range(N_CLIPS)], RATE)
    spec = dataclasses.replace(SPEC, normalize="z_score", normalize_when="clip", min_clip_s=0.1)
    targets, noise = np.eye(N_CLIPS, dtype=np.float32), [rng.normal(0, 0.1, RATE).astype(np.float32)]
    plain = AugmentationPipeline(clips, targets, Experiment(frontend=spec), noise)
    for clip, n_samples in enumerate(lengths[:3]):
        segment = np.zeros(spec.n_samples, np.float32)
        segment[:n_samples] = clips[clip]
        for place in range(3):
            np.testing.assert_array_equal(plain.item(ItemKey(0, place, clip, 0)).features, log_mel(segment, spec)[0])
    for crop in ("random", "center"):
        changes = Augmentation(
            crop=crop, mixup=Mixup(1), shift=Shift(1), noise=Noise(1), filters=REST["filters"], eq_db=6, gain_db=6
        )
        changed = AugmentationPipeline(clips, targets, Experiment(frontend=spec, augmentation=changes), noise)
        for clip, n_samples in enumerate(lengths):
            found = changed.item(ItemKey(0, clip, clip, 0)).features
            n_own = 1 + min(max(n_samples, RATE // 10), spec.n_samples) // spec.hop_length
            assert not found[n_own:].any() and abs(found[:n_own].std() - 1) < 1e-3
    faster = Augmentation(stretch=Stretch(1, rate=(2.0, 2.0)))
    found = AugmentationPipeline(clips, targets, Experiment(frontend=spec, augmentation=faster)).item(
        ItemKey(0, 0, 1, 0)
    )
    assert found.features[6].any() and not found.features[7:].any()  # 1,500 samples at the shortest of 1,600


@pytest.mark.parametrize("kind", EVERYTHING)
def test_items_depend_only_on_seed_and_key(waveforms: Waveforms, kind: str) -> None:
    keys = [ItemKey(1, place, place % N_CLIPS, place // 2) for place in range(6)]
    forwards = make_pipeline(waveforms, EVERYTHING[kind])
    there = [forwards.item(key) for key in keys]
    backwards = make_pipeline(waveforms, EVERYTHING[kind])
    back = [backwards.item(key) for key in keys[::-1]][::-1]
    for one, other in zip(there, back, strict=True):
        np.testing.assert_array_equal(one.features, other.features)
        np.testing.assert_array_equal(one.targets, other.targets)
        assert one.changes == other.changes
        assert one.features.shape == SPEC.shape and np.isfinite(one.features).all()
        assert one.targets.sum() == pytest.approx(1)
    for changed in (ItemKey(2, 0, 0, 0), ItemKey(1, 1, 0, 0)):
        assert np.abs(forwards.item(changed).features - there[0].features).max() > 0.1
    other_seed = make_pipeline(waveforms, EVERYTHING[kind], seed=4).item(keys[0])
    assert np.abs(other_seed.features - there[0].features).max() > 0.1
    assert forwards.item(ItemKey(1, 0, 0, 5)).changes != there[0].changes  # draws shared by the batch


@pytest.mark.parametrize("kind", EVERYTHING)
def test_every_change_is_described(waveforms: Waveforms, kind: str) -> None:
    described = "; ".join(make_pipeline(waveforms, EVERYTHING[kind]).item(ItemKey(0, 0, 0, 0)).changes)
    own = {
        "waveform": ["times as fast", "semitones"],
        "animal_spot": ["frequencies x", "duration x", "dB SNR (frequencies"],
    }[kind]
    shared = [
        "s in time", "dB SNR", "low-pass at", "high-pass at", "equalizer", "silent from", "bands; ", "frames warped",
        "bands warped", "masked", "on the features", "features x", ".wav (", "cut from",
    ]  # fmt: skip
    assert [words for words in own + shared if words not in described] == []


@pytest.mark.parametrize("rate", [0.5, 1.0, 2.0])
def test_stretch_crops_more_of_the_clip(waveforms: Waveforms, rate: float) -> None:
    item = make_pipeline(waveforms, Augmentation(stretch=Stretch(1, rate=(rate, rate)))).item(ItemKey(0, 0, 0, 0))
    assert len(item.crop) == rate * SPEC.n_samples
    spot = Augmentation(animal_spot=AnimalSpot(1, time=(rate, rate)))
    assert len(make_pipeline(waveforms, spot).item(ItemKey(0, 0, 0, 0)).crop) == SPEC.n_samples / rate


def test_partners_are_augmented_too(waveforms: Waveforms) -> None:
    """The features of a partner have their own masks, and the description names them."""
    masks = Masks(1, lengths=(4, 4), fill="zero")
    settings = Augmentation(freq_masks=masks, mixup=Mixup(1, on="features"))
    item = make_pipeline(waveforms, settings).item(ItemKey(0, 3, 0, 0))
    assert len(item.changes) == 2 and item.changes[0].startswith("bands ") and ".wav (bands " in item.changes[1]


def test_multi_label_targets_of_cutmix_are_shares_and_of_mixup_the_union(waveforms: Waveforms) -> None:
    settings = Augmentation(mixup=Mixup(1))
    found = [make_pipeline(waveforms, settings, multi_label=True).item(ItemKey(0, p, 0, 0)).targets for p in range(20)]
    assert {tuple(sorted(t)) for t in found} == {(0, 0, 0, 1), (0, 0, 1, 1)}
    cut = [
        make_pipeline(waveforms, Augmentation(cutmix=CutMix(1)), multi_label=True).item(ItemKey(0, p, 0, 0))
        for p in range(20)
    ]
    assert all(item.targets.sum() == pytest.approx(1) for item in cut)


def test_activity_is_computed_once_per_clip(waveforms: Waveforms, monkeypatch: pytest.MonkeyPatch) -> None:
    from birdnet_fs.batches.augment import pipeline

    calls = []
    original = pipeline.cumulative_activity
    monkeypatch.setattr(pipeline, "cumulative_activity", lambda *a: calls.append(a) or original(*a))
    active = make_pipeline(waveforms, Augmentation(crop="active"))
    for place in range(3 * N_CLIPS):
        active.item(ItemKey(0, place, place % N_CLIPS, 0))
    assert len(calls) == N_CLIPS


def test_clips_shorter_than_a_segment_give_finite_features(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "short.wav", np.random.default_rng(0).normal(0, 0.1, 3000), RATE)
    short = Waveforms([Clip(path=tmp_path / "short.wav", labels=("0",))] * N_CLIPS, RATE)
    for settings in EVERYTHING.values():
        for place in range(5):
            assert np.isfinite(make_pipeline(short, settings).item(ItemKey(0, place, 0, 0)).features).all()
