"""Features of a training segment from the front-ends of teachers, which get the same waveform as the student.

A segment is resampled to the sample rate of the teacher's front-end (frequencies above the lower Nyquist frequency are
lost). A segment longer than the teacher's is cut into windows by the rule for scoring clips (`windows.clip_rule`). A
shorter one is repeated until the teacher's segment is full: padding with silence would change its normalization.
"""

import dataclasses

import numpy as np
import soxr

from birdnet_fs.data.windows import clip_rule
from birdnet_fs.frontend.definition import define
from birdnet_fs.frontend.in_numpy import log_mel
from birdnet_fs.schema import FrontEnd


def same_features(one: FrontEnd, other: FrontEnd) -> bool:
    """Whether two front-ends compute the same features, whatever the names of their presets."""
    return dataclasses.replace(one, preset="") == dataclasses.replace(other, preset="")


class OtherFrontEnd:
    """Computes a teacher's features of the segments of the student's front-end.

    Args:
        student: Front-end of the student, which defines the segments.
        teacher: Front-end of the teacher.
    """

    def __init__(self, student: FrontEnd, teacher: FrontEnd) -> None:
        self.student, self.teacher = student, teacher
        self._rule = clip_rule(teacher.n_samples, teacher.sample_rate_hz)
        n_frames, _ = teacher.shape
        starts = [window.start for window in self._rule.windows(self._n_samples())]
        onsets_s = np.array(starts) / teacher.sample_rate_hz
        middles_s = onsets_s[:, None] + (np.arange(n_frames) + 0.5) / n_frames * teacher.segment_s
        place = (middles_s % student.segment_s / student.segment_s * student.shape[0]).astype(int)
        # the student's frame and band at the time and frequency of each of the teacher's
        self._frames = np.minimum(place, student.shape[0] - 1)
        bands = np.interp(_centers_hz(teacher), _centers_hz(student), np.arange(student.shape[1]))
        self._bands = np.rint(bands).astype(int)

    def _n_samples(self) -> int:
        """Length of the student's segment at the teacher's sample rate."""
        return round(self.student.n_samples * self.teacher.sample_rate_hz / self.student.sample_rate_hz)

    def features(self, waveform: np.ndarray) -> np.ndarray:
        """Teacher features of one segment.

        Args:
            waveform: float32 [student.n_samples], at the student's sample rate.

        Returns:
            float32 [n_windows, n_frames, n_mels]; n_windows is the same for every segment.
        """
        rates = self.student.sample_rate_hz, self.teacher.sample_rate_hz
        if rates[0] != rates[1]:
            waveform = soxr.resample(waveform, *rates, quality="HQ")
            waveform = np.pad(waveform, (0, max(0, self._n_samples() - len(waveform))))[: self._n_samples()]
        if len(waveform) < self.teacher.n_samples:
            waveform = np.resize(waveform, self.teacher.n_samples)  # np.resize repeats the array
        return log_mel(self._rule.cut(waveform), self.teacher)

    def mixed(
        self, first: np.ndarray, second: np.ndarray, share: float, rectangle: tuple[slice, slice] | None
    ) -> np.ndarray:
        """Mix the teacher features of two segments as the student's features were mixed.

        Args:
            first: float32 [n_windows, n_frames, n_mels], teacher features of the first segment.
            second: float32 [n_windows, n_frames, n_mels], those of the second.
            share: Weight of the first in the mean, in 0..1; unused with a rectangle.
            rectangle: Frames and bands of the student's features that were replaced by the second segment's (CutMix):
                teacher features at the same times and frequencies are replaced. None: weighted mean.

        Returns:
            float32 [n_windows, n_frames, n_mels].
        """
        if rectangle is None:
            return np.float32(share) * first + np.float32(1 - share) * second
        frames, bands = rectangle
        times = (self._frames >= frames.start) & (self._frames < frames.stop)
        pitches = (self._bands >= bands.start) & (self._bands < bands.stop)
        return np.where(times[:, :, None] & pitches, second, first)


def _centers_hz(spec: FrontEnd) -> np.ndarray:
    """Center frequency of each band of the features, the weighted mean over the FFT bins that it sums."""
    definition = define(spec, spec.n_samples)
    bins_hz = np.arange(definition.bands.shape[1]) * spec.sample_rate_hz / spec.n_fft
    weight = np.maximum(definition.bands.sum(1), np.finfo(float).tiny)
    centers = definition.bands @ bins_hz / weight
    centers = centers if definition.resize_bands is None else definition.resize_bands @ centers
    return np.maximum.accumulate(centers)  # bands without any bin have no center, and Lanczos overshoots
