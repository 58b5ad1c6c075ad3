"""Batches and scores from a cache equal those computed on the fly to the last bit, for every augmentation."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from cached_clips import RATE, cache_in, write_recordings

from birdnet_fs.batches.augment.crop import center
from birdnet_fs.batches.cache import features as cached_features
from birdnet_fs.batches.cache.features import ClipFeatures
from birdnet_fs.batches.cache.store import StoreFile
from birdnet_fs.batches.cache.waveforms import CachedWaveforms
from birdnet_fs.batches.loader import TrainingBatches
from birdnet_fs.core.errors import UserError
from birdnet_fs.core.settings import override
from birdnet_fs.data.manifest import Clip
from birdnet_fs.data.waveforms import Waveforms
from birdnet_fs.data.windows import clip_rule, pad_to
from birdnet_fs.frontend.in_numpy import log_mel
from birdnet_fs.schema import Experiment, FrontEnd

SPEC = FrontEnd(segment_s=0.5, n_mels=16, sample_rate_hz=RATE, n_fft=512, win_length=512, hop_length=256, fmax_hz=8000)
WAVEFORM = {  # every change of the waveform
    "crop": "crop=active",
    "center": "crop=center",
    "stretch": "stretch.p=1",
    "pitch": "pitch.p=1",
    "mixup": "mixup.p=1",
    "shift": "shift.p=1",
    "noise": "noise.p=1",
    "low_pass": "filters.low_pass_p=1 augmentation.filters.low_pass_hz=[3000,7000]",
    "high_pass": "filters.high_pass_p=1",
    "eq": "eq_db=6",
    "gain": "gain_db=6",
    "pad": "pad_p=1",
    "animal_spot": "animal_spot.p=1",
}
FEATURES = {  # every change of the features
    "none": "features_p=1",
    "features_p": "features_p=0.5 augmentation.freq_shift=2",
    "freq_shift": "freq_shift=2",
    "warp": "warp.p=1 augmentation.warp.freq=0.1",
    "time_masks": "time_masks.n=2",
    "freq_masks": "freq_masks.n=2 augmentation.freq_masks.per=batch",
    "feature_noise": "feature_noise.p=1",
    "levels": "levels.p=1",
    "cutmix": "cutmix.p=1",
    "mixup": "mixup.p=1 augmentation.mixup.on=features",
}


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> list[Clip]:
    return write_recordings(tmp_path_factory.mktemp("clips") / "recordings")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


def experiment(*settings: str) -> Experiment:
    own = [text if text.startswith(("training", "data")) else f"augmentation.{text}" for text in settings]
    base = dataclasses.replace(Experiment(), frontend=SPEC)
    return override(base, ["training.batch_size=4", *(part for setting in own for part in setting.split())])


def batches(waveforms: Waveforms, chosen: Experiment) -> list[list[torch.Tensor]]:
    targets = np.eye(len(waveforms), dtype=np.float32)
    kept = ClipFeatures(waveforms, SPEC) if chosen.training.cache == "features" else None
    made = TrainingBatches(waveforms, targets, chosen, noises=waveforms, kept=kept)
    return [[part.clone() for part in batch] for epoch in (0, 1) for batch in made.epoch(epoch)]


def assert_same(one: list[list[torch.Tensor]], two: list[list[torch.Tensor]]) -> None:
    assert len(one) == len(two) > 2
    for first, second in zip(one, two, strict=True):
        assert all(torch.equal(a, b) and a.dtype == b.dtype for a, b in zip(first, second, strict=True))


@pytest.mark.parametrize("setting", [*WAVEFORM.values(), *FEATURES.values()], ids=lambda text: text.split()[0])
def test_batches_of_cached_waveforms_equal_those_of_decoded_ones(clips: list[Clip], place: Path, setting: str) -> None:
    chosen = experiment(setting)
    fly = Waveforms(clips, RATE, memory_bytes=0)
    assert_same(batches(CachedWaveforms(clips, RATE, cache_in(place)), chosen), batches(fly, chosen))


@pytest.mark.parametrize("setting", FEATURES.values(), ids=lambda text: text.split()[0])
def test_batches_of_cached_features_equal_those_of_decoded_clips(clips: list[Clip], place: Path, setting: str) -> None:
    plain = experiment("crop=center", setting)
    kept = experiment("crop=center", setting, "training.cache=features data.cache=x")
    fly = Waveforms(clips, RATE, memory_bytes=0)
    assert_same(batches(CachedWaveforms(clips, RATE, cache_in(place)), kept), batches(fly, plain))


def test_kept_features_of_short_clips_are_those_of_the_clip_and_zeros(clips: list[Clip], place: Path) -> None:
    spec = dataclasses.replace(SPEC, segment_s=8.0, normalize="z_score", normalize_when="clip")
    cached = CachedWaveforms(clips, RATE, cache_in(place))
    for waveform, found in zip(cached, ClipFeatures(cached, spec), strict=True):
        assert len(waveform) < spec.n_samples
        np.testing.assert_array_equal(found, log_mel(pad_to(waveform, spec.n_samples), spec))


def test_batches_are_equal_with_workers(clips: list[Clip], place: Path) -> None:
    both = WAVEFORM["noise"], FEATURES["cutmix"]
    cached = CachedWaveforms(clips, RATE, cache_in(place))
    fly = batches(Waveforms(clips, RATE), experiment(*both))
    assert_same(batches(cached, experiment(*both, "training.workers=2")), fly)
    kept = ("crop=center", FEATURES["cutmix"], "training.cache=features data.cache=x")
    fly = batches(Waveforms(clips, RATE), experiment(*kept[:2]))
    assert_same(batches(cached, experiment(*kept, "training.workers=2")), fly)


@pytest.mark.parametrize("setting", WAVEFORM.values(), ids=lambda text: text.split()[0])
def test_changes_of_the_waveform_are_refused_by_name(setting: str) -> None:
    kept = "training.cache=features data.cache=x"
    if setting == "crop=center":
        experiment(setting, kept)
        return
    others = () if setting.startswith("crop") else ("crop=center",)
    wanted = {"crop=active": "crop=center", "mixup.p=1": "mixup.on=features"}
    name = wanted.get(setting, setting.split()[0].split("=")[0] + "=0")
    with pytest.raises(UserError, match=f"it needs augmentation.{name.replace('.', '[.]')}. Received"):
        experiment(setting, *others, kept)


def test_every_setting_of_augmentation_is_tried() -> None:
    tried = {setting.split("=")[0].split(".")[0] for setting in (*WAVEFORM.values(), *FEATURES.values())}
    assert tried == {field.name for field in dataclasses.fields(Experiment().augmentation)}


def test_features_need_a_folder() -> None:
    with pytest.raises(UserError, match=r"it needs data\.cache=FOLDER"):
        experiment("crop=center", "training.cache=features")


def test_windows_are_those_of_validation(clips: list[Clip], place: Path) -> None:
    rule = clip_rule(SPEC.n_samples, RATE)
    cached = CachedWaveforms(clips, RATE, cache_in(place))
    for _ in range(2):
        found = ClipFeatures(cached, SPEC, rule)
        for i, waveform in enumerate(Waveforms(clips, RATE)):
            np.testing.assert_array_equal(found[i], log_mel(rule.cut(waveform), SPEC))


def test_features_are_computed_once_for_each_front_end(
    clips: list[Clip], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[FrontEnd] = []
    monkeypatch.setattr(cached_features, "log_mel", lambda rows, spec: calls.append(spec) or log_mel(rows, spec))
    cached = CachedWaveforms(clips[:3], RATE, cache_in(tmp_path))

    def n_computed(spec: FrontEnd) -> int:
        calls.clear()
        kept = ClipFeatures(cached, spec)
        assert [kept[i].shape for i in range(len(kept))] == [(1, *spec.shape)] * len(cached)
        return len(calls)

    assert [n_computed(SPEC), n_computed(SPEC), n_computed(dataclasses.replace(SPEC, preset="named"))] == [2, 0, 0]
    changes = ({"n_mels": 8}, {"fmin_hz": 60.0}, {"top_db": 70.0}, {"normalize": "min_max"}, {"segment_s": 0.4})
    for change in changes:
        assert n_computed(dataclasses.replace(SPEC, **change)) == 2
    monkeypatch.setattr(cached_features, "frontend_version", lambda: "another")
    assert n_computed(SPEC) == 2


def test_damaged_features_are_computed(clips: list[Clip], tmp_path: Path) -> None:
    cached = CachedWaveforms(clips, RATE, cache_in(tmp_path))
    wanted = [np.array(rows) for rows in ClipFeatures(cached, SPEC)]
    (path,) = (path for path in cache_in(tmp_path).stores() if "features" in path.name)
    data = bytearray(path.read_bytes())
    for entry in StoreFile(path).entries.values():
        data[entry.start] ^= 1
    path.write_bytes(data)
    for found, one in zip(ClipFeatures(cached, SPEC), wanted, strict=True):
        np.testing.assert_array_equal(found, one)
    assert not path.exists()


def test_center_is_the_middle() -> None:
    waveform = np.arange(1, 8, dtype=np.float32)
    assert center(waveform, 3).tolist() == [3, 4, 5] and center(waveform, 7).tolist() == waveform.tolist()
    assert center(waveform, 11).tolist() == [0, 0, *waveform, 0, 0]
    assert center(waveform, 10).tolist() == [0, *waveform, 0, 0]
    assert center(waveform, 3).base is None
