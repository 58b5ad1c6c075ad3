"""Reference implementation of the front-ends with librosa, torch and plain loops.

It shares nothing with the package except the settings.
"""

import dataclasses
import math
from pathlib import Path

import numpy as np
import soundfile
import soxr
import torch
import uncompiled_librosa as librosa


def only_decibels(spec):
    """The front-end up to its logarithm or PCEN, and dB per unit of its output (PCEN: 1 dB is about 0.1)."""
    bare = dataclasses.replace(spec, normalize="none", keep_frames=0, resize=(0, 0))
    return bare, {"log": 10 / math.log(10), "pcen": 10.0}.get(spec.compression, 1.0)


def decibels(waveform, spec):
    """Band energies of one waveform in dB (or natural log, PCEN or power), [n_frames, n_mels], by librosa."""
    x = np.asarray(waveform, np.float64)
    if spec.preemphasis:
        x = librosa.effects.preemphasis(x, coef=spec.preemphasis, zi=[0.0])
    center = spec.pad_mode != "none"
    spectrum = librosa.stft(
        x,
        n_fft=spec.n_fft,
        hop_length=spec.hop_length,
        win_length=spec.win_length,
        center=center,
        pad_mode=spec.pad_mode if center else "constant",
    )
    power = np.abs(spectrum) ** 2
    if spec.stft_scale == "window_power":
        power /= (librosa.filters.get_window("hann", spec.n_fft) ** 2).sum()
    if spec.bands == "linear":
        first = math.floor(spec.n_fft * spec.fmin_hz / spec.sample_rate_hz)
        last = math.ceil(spec.n_fft * spec.fmax_hz / spec.sample_rate_hz)
        lines = torch.from_numpy(power[first:last].T.copy())[None]
        energies = torch.nn.functional.interpolate(lines, size=spec.n_mels, mode="nearest")[0].numpy()
    else:
        htk = spec.bands == "mel_htk"
        mel = librosa.filters.mel(
            sr=spec.sample_rate_hz,
            n_fft=spec.n_fft,
            n_mels=spec.n_mels,
            fmin=spec.fmin_hz,
            fmax=spec.fmax_hz,
            htk=htk,
            norm=None if htk else "slaney",
            dtype=np.float64,
        )
        energies = (mel @ power).T
    if spec.compression == "none":
        return energies
    if spec.compression == "pcen":
        return pcen(energies, spec)
    db = librosa.power_to_db(
        energies, ref=np.max if spec.ref == "max" else 1.0, amin=spec.amin, top_db=spec.top_db or None
    )
    return db if spec.compression == "db" else db * math.log(10) / 10


def pcen(energies, spec):
    """librosa's PCEN of [n_frames, n_mels]; the steady state of the first frame is reached by repeating that frame."""
    n_before = 0
    if spec.pcen_start == "first":
        n_before = math.ceil(60 * spec.pcen_time_constant_s * spec.sample_rate_hz / spec.hop_length)
        energies = np.concatenate([energies[:1]] * n_before + [energies])
    return librosa.pcen(
        energies * spec.pcen_scale,
        sr=spec.sample_rate_hz,
        hop_length=spec.hop_length,
        gain=spec.pcen_gain,
        bias=spec.pcen_bias,
        power=spec.pcen_power,
        time_constant=spec.pcen_time_constant_s,
        eps=spec.pcen_eps,
        axis=0,
    )[n_before:]


def features(waveform, spec):
    """Features of one waveform, [n_frames, n_mels]."""
    if spec.normalize_when == "clip":  # the clip alone, without the zeros behind it
        frames = 1 + len(waveform) // spec.hop_length
        waveform = np.trim_zeros(np.asarray(waveform), "b")
        shortest = round(spec.min_clip_s * spec.sample_rate_hz)
        waveform = np.pad(waveform, (0, max(0, shortest - len(waveform))))
        own = normalize(decibels(waveform, spec), spec)
        return fit(np.pad(own, ((0, max(0, frames - len(own))), (0, 0))), spec)
    x = decibels(waveform, spec)
    if spec.normalize_when == "first":
        return fit(normalize(x, spec), spec)
    return normalize(fit(x, spec), spec)


def normalize(x, spec):
    if spec.normalize == "min_max":
        return (x - x.min()) / (x.max() - x.min() + spec.normalize_eps) if x.max() > x.min() else x * 0
    if spec.normalize == "z_score":
        return (x - x.mean()) / x.std() if x.std() > max(spec.normalize_eps, 1e-9) else x
    if spec.normalize == "db_range":
        return np.clip((x - 20 + 100) / 100, 0, 1)
    return x


def fit(x, spec):
    if spec.keep_frames:
        short = spec.keep_frames - len(x)
        if spec.keep_from == "start":
            x = x[: spec.keep_frames] if short <= 0 else np.pad(x, ((0, short), (0, 0)))
        elif short <= 0:
            x = x[-short // 2 : -short // 2 + spec.keep_frames]
        else:
            x = np.pad(x, ((short // 2, short - short // 2), (0, 0)))
    if spec.resize == (0, 0):
        return x
    if spec.resize_method == "bilinear":
        image = torch.from_numpy(x)[None, None]
        return torch.nn.functional.interpolate(image, size=spec.resize, mode="bilinear", align_corners=False)[
            0, 0
        ].numpy()
    return lanczos5(lanczos5(x, spec.resize[0]).T, spec.resize[1]).T


def lanczos5(x, n_out):
    """Lanczos-5 resize along the first axis without antialiasing, one output at a time."""
    n_in, out = len(x), np.zeros((n_out, x.shape[1]))
    for i in range(n_out):
        center, total = (i + 0.5) * n_in / n_out, 0.0
        for j in range(max(0, math.ceil(center - 5.5)), min(n_in - 1, math.floor(center + 4.5)) + 1):
            d = j + 0.5 - center
            weight = 1.0 if abs(d) <= 1e-3 else np.sinc(d) * np.sinc(d / 5) if abs(d) <= 5 else 0.0
            out[i] += weight * x[j]
            total += weight
        out[i] /= total
    return out


def real_segments(data: Path, n: int, *, sample_rate_hz: int, duration_s: float) -> np.ndarray:
    """`n` segments of real recordings, float32 [n, n_samples], from files and positions spread over all of them."""
    files = sorted((data / "audio").iterdir())
    files = [files[i * len(files) // n] for i in range(n)]
    n_samples = round(duration_s * sample_rate_hz)
    out = np.zeros((n, n_samples), np.float32)
    for i, path in enumerate(files):
        with soundfile.SoundFile(path) as file:
            need = math.ceil(duration_s * file.samplerate)
            file.seek(int(max(0, file.frames - need) * (i % 5) / 4))
            x = file.read(need, dtype="float32", always_2d=True).mean(axis=1)
            x = x if file.samplerate == sample_rate_hz else soxr.resample(x, file.samplerate, sample_rate_hz)
        out[i, : len(x)] = x[:n_samples]
    return out
