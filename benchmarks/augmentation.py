"""Augmentation: ms for one segment, step by step and as a whole, ours and audiomentations in turn, one process.

Run: python benchmarks/augmentation.py [repeats]. A segment is 5 s at 32 kHz. CPU time of one thread, best of the
repeats; ratio above 1 = we are faster. The peer is left out where it is not installed; as its range excludes the soxr
we use, install it with `pip install --no-deps audiomentations numpy-minmax numpy-rms python-stretch`.

Filters of the peer are recursive and ours act on the whole spectrum; with its own noise the peer draws from numpy's
global generator, ours from one keyed on the item.
"""

import functools
import sys
import time
import types
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np

from birdnet_fs.batches.augment.features import augment_features
from birdnet_fs.batches.augment.item_random import ItemKey, ItemRandom
from birdnet_fs.batches.augment.pipeline import AugmentationPipeline
from birdnet_fs.batches.augment.stretch_pitch import stretch_and_shift
from birdnet_fs.batches.augment.waveform import Partner, augment_waveform
from birdnet_fs.frontend import preset
from birdnet_fs.frontend.in_numpy import log_mel
from birdnet_fs.schema import (
    AnimalSpot,
    Augmentation,
    Experiment,
    FeatureNoise,
    Filters,
    Levels,
    Masks,
    Mixup,
    Noise,
    Pitch,
    Shift,
    Stretch,
    Warp,
)

RATE, SECONDS = 32_000, 5
SPEC = preset("cnn_32k")
WAVEFORM = {
    "mixup": (Augmentation(mixup=Mixup(1)), None),
    "shift": (Augmentation(shift=Shift(1)), lambda a: a.Shift(p=1, fade_duration=0)),
    "white noise": (Augmentation(noise=Noise(1)), lambda a: a.AddGaussianSNR(p=1)),
    "colored noise": (
        Augmentation(noise=Noise(1, exponent=(0, 2))),
        lambda a: a.AddColorNoise(p=1, min_f_decay=-6, max_f_decay=0),
    ),
    "low-pass": (Augmentation(filters=Filters(low_pass_p=1)), lambda a: a.LowPassFilter(p=1)),
    "band-pass": (Augmentation(filters=Filters(low_pass_p=1, high_pass_p=1)), lambda a: a.BandPassFilter(p=1)),
    "equalizer": (Augmentation(eq_db=6), lambda a: a.SevenBandParametricEQ(p=1)),
    "gain": (Augmentation(gain_db=6), lambda a: a.Gain(p=1)),
}
FEATURES = {
    "bands shifted": Augmentation(freq_shift=2),
    "warp": Augmentation(warp=Warp(1, freq=0.1)),
    "masks": Augmentation(time_masks=Masks(2), freq_masks=Masks(2)),
    "noise": Augmentation(feature_noise=FeatureNoise(1)),
    "levels": Augmentation(levels=Levels(1)),
}
EVERYTHING = Augmentation(
    crop="active",
    mixup=Mixup(0.5, alpha=1),
    noise=Noise(0.5),
    eq_db=6,
    freq_shift=2,
    time_masks=Masks(2),
    freq_masks=Masks(2),
)
CHAINS = {
    "crop and log-mel": Augmentation(),
    "active crop": Augmentation(crop="active"),
    "EVERYTHING of experiments/songs.py": EVERYTHING,
    "the same, pitch and stretch at .2": replace(EVERYTHING, stretch=Stretch(0.2), pitch=Pitch(0.2)),
    "mixup of features": Augmentation(mixup=Mixup(1, on="features")),
    "ANIMAL-SPOT's chain": Augmentation(animal_spot=AnimalSpot(1)),
}


class Clips(list):
    """Waveforms with names, as `Waveforms` has them."""

    clips = [types.SimpleNamespace(path=Path("clip"))] * 8


def main(repeats: int = 15) -> None:
    """Print one line for each step: our ms, the peer's, the ratio."""
    try:
        import audiomentations
    except ImportError:
        audiomentations = None
        print("audiomentations is not installed; our side alone")
    rng = np.random.default_rng(0)
    clips = Clips(rng.normal(0, 0.1, (8, 12 * RATE)).astype(np.float32))
    segment, other = clips[0][: SECONDS * RATE].copy(), clips[1][: SECONDS * RATE].copy()
    print(f"{'a segment of 5 s':36} {'ours ms':>8} {'peer ms':>8} {'ratio':>6}")
    for name, (settings, peer) in WAVEFORM.items():
        _line(name, lambda s=settings: _waveform(segment, other, s), _of(audiomentations, peer, segment), repeats)
    steps = {"stretch": (1.25, 0.0, lambda a: a.TimeStretch(1.25, 1.25, leave_length_unchanged=False, p=1))}
    steps["pitch shift"] = (1.0, 3.0, lambda a: a.PitchShift(3, 3, p=1))
    for name, (rate, semitones, peer) in steps.items():
        longer = np.resize(clips[0], round(rate * len(segment)))
        ours = functools.partial(stretch_and_shift, longer, len(segment), semitones, RATE)
        _line(name, ours, _of(audiomentations, peer, longer), repeats)
    features = log_mel(segment, SPEC)[0]
    for name, settings in FEATURES.items():
        _line(f"features: {name}", lambda s=settings: augment_features(features, s, _draws()), None, repeats)
    print()
    for name, settings in CHAINS.items():
        experiment = Experiment(frontend=SPEC, augmentation=settings)
        chain = AugmentationPipeline(clips, np.eye(8, dtype=np.float32), experiment, clips[4:])  # type: ignore[arg-type]
        _line(f"item: {name}", lambda c=chain: [c.item(ItemKey(0, i, i % 8, 0)) for i in range(20)], None, repeats, 20)


def _of(module, peer: Callable | None, waveform: np.ndarray) -> Callable | None:
    if module is None or peer is None:
        return None
    made = peer(module)
    return lambda: made(waveform, sample_rate=RATE)


def _draws() -> ItemRandom:
    return ItemRandom(0, ItemKey(0, 0, 0, 0))


def _waveform(segment: np.ndarray, other: np.ndarray, settings: Augmentation) -> None:
    targets = np.array([1, 0], np.float32)
    augment_waveform(
        segment,
        targets,
        settings,
        _draws(),
        sample_rate_hz=RATE,
        multi_label=False,
        partner=lambda n: Partner(other, targets, "other"),
    )


def _line(name: str, ours: Callable, peer: Callable | None, repeats: int, n: int = 1) -> None:
    best = [float("inf")] * 2
    for _ in range(repeats):
        for side, call in enumerate((ours, peer)):
            if call is not None:
                start = time.process_time()
                call()
                best[side] = min(best[side], time.process_time() - start)
    theirs = "" if peer is None else f"{best[1] * 1e3:8.2f} {best[1] / best[0]:6.1f}"
    print(f"{name:36} {best[0] * 1e3 / n:8.2f} {theirs}", flush=True)


if __name__ == "__main__":
    main(*(int(argument) for argument in sys.argv[1:]))
