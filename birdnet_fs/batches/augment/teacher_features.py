"""What other front-ends make of a training segment: teachers hear the very waveform that the student hears.

A segment is resampled to the other front-end's rate (above the Nyquist frequency of the lower one nothing is left).
A longer one is cut into windows as clips are when they are scored (`windows.clip_rule`). A shorter one is heard again
and again until the other's segment is full: silence would be no part of the sound and change what segments are
normalized by.
"""

import dataclasses

import numpy as np
import soxr

from birdnet_fs.data.windows import clip_rule
from birdnet_fs.frontend.definition import define
from birdnet_fs.frontend.in_numpy import log_mel
from birdnet_fs.schema import FrontEnd


def same_features(one: FrontEnd, other: FrontEnd) -> bool:
    """Whether two front-ends make the same of a segment, whatever they are called."""
    return dataclasses.replace(one, preset="") == dataclasses.replace(other, preset="")


class OtherFrontEnd:
    """Another front-end on the segments of a first one.

    Args:
        spec: The first front-end, whose segments are heard.
        own: The other one.
    """

    def __init__(self, spec: FrontEnd, own: FrontEnd) -> None:
        self.spec, self.own = spec, own
        self._rule = clip_rule(own.n_samples, own.sample_rate_hz)
        n_frames, _ = own.shape
        starts = [window.start for window in self._rule.windows(self._n_samples())]
        onsets_s = np.array(starts) / own.sample_rate_hz
        middles_s = onsets_s[:, None] + (np.arange(n_frames) + 0.5) / n_frames * own.segment_s
        place = (middles_s % spec.segment_s / spec.segment_s * spec.shape[0]).astype(int)
        # in the features of the first: the frame that lies where each of ours does, and the band
        self._frames = np.minimum(place, spec.shape[0] - 1)
        self._bands = np.rint(np.interp(_centers_hz(own), _centers_hz(spec), np.arange(spec.shape[1]))).astype(int)

    def _n_samples(self) -> int:
        return round(self.spec.n_samples * self.own.sample_rate_hz / self.spec.sample_rate_hz)

    def features(self, waveform: np.ndarray) -> np.ndarray:
        """What it makes of a segment.

        Args:
            waveform: float32 [spec.n_samples].

        Returns:
            float32 [n_windows, n_frames, n_mels], as many windows for every segment.
        """
        rates = self.spec.sample_rate_hz, self.own.sample_rate_hz
        if rates[0] != rates[1]:
            waveform = soxr.resample(waveform, *rates, quality="HQ")
            waveform = np.pad(waveform, (0, max(0, self._n_samples() - len(waveform))))[: self._n_samples()]
        if len(waveform) < self.own.n_samples:
            waveform = np.resize(waveform, self.own.n_samples)
        return log_mel(self._rule.cut(waveform), self.own)

    def mixed(
        self, first: np.ndarray, second: np.ndarray, share: float, rectangle: tuple[slice, slice] | None
    ) -> np.ndarray:
        """Two segments' features mixed as those of the first front-end were.

        Args:
            first: [n_windows, n_frames, n_mels].
            second: The same of the other segment.
            share: Of the first, in their weighted mean.
            rectangle: Frames and bands of the first front-end's features that are the second's alone instead: ours at
                those times and frequencies are.
        """
        if rectangle is None:
            return np.float32(share) * first + np.float32(1 - share) * second
        frames, bands = rectangle
        times = (self._frames >= frames.start) & (self._frames < frames.stop)
        pitches = (self._bands >= bands.start) & (self._bands < bands.stop)
        return np.where(times[:, :, None] & pitches, second, first)


def _centers_hz(spec: FrontEnd) -> np.ndarray:
    """The frequency of each band of the features, the mean over the bins that it adds."""
    definition = define(spec, spec.n_samples)
    bins_hz = np.arange(definition.bands.shape[1]) * spec.sample_rate_hz / spec.n_fft
    weight = np.maximum(definition.bands.sum(1), np.finfo(float).tiny)
    centers = definition.bands @ bins_hz / weight
    centers = centers if definition.resize_bands is None else definition.resize_bands @ centers
    return np.maximum.accumulate(centers)  # a band that holds no bin has none, and Lanczos overshoots
