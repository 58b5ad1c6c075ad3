"""The waveforms of a parity test: synthetic edge cases, then real segments.

Real segments come from a folder given by the user, else from the run's own recordings where they still exist, else from
the synthetic aviary. They overlap where the recordings are too short for the requested number. The ranges of int8 are
calibrated on other segments of the same recordings, so that no artifact is tested on its calibration data.
"""

import dataclasses
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from birdnet_fs import schema
from birdnet_fs.core.errors import UserError
from birdnet_fs.core.progress import say
from birdnet_fs.data.windows import WindowRule, pad_to
from birdnet_fs.runs.run import Run

MIN_HOP = 0.02  # of a segment: closer segments are almost the same
EDGE_NAMES = ("silence", "full_scale", "short", "sweep")  # the first rows of all parity inputs, in this order
Segments = tuple[list[np.ndarray], np.ndarray]  # waveforms [n_samples] each, targets [n, n_classes]


@dataclass(frozen=True)
class ParityInputs:
    """Waveforms on which an artifact and its run are compared.

    Attributes:
        waveforms: float32 [n, n_samples] in ±1; the first `len(EDGE_NAMES)` rows are synthetic.
        targets: Multi-hot float32 [n, n_classes], or None when no segment is labeled with a class of the run.
        source: Source of the real segments: "run", "folder" or "aviary".
        calibration: float32 [n_calibration, n_samples], real segments that are not in `waveforms`.
    """

    waveforms: np.ndarray
    targets: np.ndarray | None
    source: str
    calibration: np.ndarray | None = None


def make_parity_inputs(
    run: Run, *, audio: Path | None = None, n_segments: int = 1000, n_calibration: int = 0
) -> ParityInputs:
    """Collect the waveforms of a parity test.

    Args:
        run: The run; its settings name its recordings.
        audio: Folder of recordings to use instead of those of the run. Default: none.
        n_segments: Real segments, spread evenly over the recordings; 2 or more. Default: 1000.
        n_calibration: Further real segments between those, for calibration. Default: 0.

    Returns:
        The waveforms with targets where known.

    Raises:
        UserError: `n_segments` is too small, or `audio` holds no readable recording.
    """
    if n_segments < 2:
        raise UserError(f"n_segments must be 2 or more, since one segment shows no differences. Received: {n_segments}")
    data = run.experiment.data
    n = n_segments + n_calibration
    if audio is not None:
        source, found = "folder", _from_folder(audio, run, n)
        if found is None:
            raise UserError(f"Recordings were expected in --audio {audio}; none there can be read.")
    else:
        source, found = "run", _from_data(data, run, n) if _is_there(data) else None
        if found is None:
            say("The recordings of the run were not found; parity is tested on the synthetic aviary (or give --audio).")
            source, found = "aviary", _from_aviary(run, n)
    rows, targets = found
    apart = np.zeros(len(rows), bool)
    apart[np.linspace(0, len(rows) - 1, min(n_calibration, len(rows) // 2)).round().astype(int)] = True
    calibration = np.stack([rows[i] for i in np.flatnonzero(apart)]) if apart.any() else None
    made = edge_waveforms(run.frontend.n_samples, run.frontend.sample_rate_hz)
    waveforms = np.stack([*made, *(rows[i] for i in np.flatnonzero(~apart))])
    if not targets.any():
        return ParityInputs(waveforms, None, source, calibration)
    nothing = np.zeros((len(made), targets.shape[1]), np.float32)
    return ParityInputs(waveforms, np.concatenate([nothing, targets[~apart]]), source, calibration)


def edge_waveforms(n_samples: int, sample_rate_hz: int) -> np.ndarray:
    """The synthetic waveforms, float32 [len(EDGE_NAMES), n_samples], multiples of 1 / 32768.

    Silence; noise clipped at full scale; a tone that ends after a fifth and is zero-padded; a sweep through all
    frequencies over faint noise. They are the same for every run, so they can be distributed with an artifact.
    """
    random = np.random.default_rng(0)  # the same noise in every version: deployed files hold it and its outputs
    time_s = np.arange(n_samples) / sample_rate_hz
    duration_s = n_samples / sample_rate_hz
    noise = random.standard_normal((2, n_samples))
    tone = 0.3 * np.sin(2 * np.pi * 0.1 * sample_rate_hz * time_s) * (time_s < duration_s / 5)
    sweep = 0.5 * np.sin(2 * np.pi * 0.25 * sample_rate_hz * time_s**2 / duration_s) + 0.001 * noise[1]
    rows = np.stack([np.zeros(n_samples), np.clip(2 * noise[0], -1, 1), tone, sweep])
    return (np.clip(np.round(rows * 32768), -32768, 32767) / 32768).astype(np.float32)


def _is_there(data: schema.Data) -> bool:
    root = Path(data.root)
    return root.is_dir() and (not data.table or (root / data.table).exists())


def _from_data(data: schema.Data, run: Run, n_segments: int) -> Segments | None:
    """Labeled segments; None when not one can be read."""
    from birdnet_fs.audio.read import AudioError, read_audio
    from birdnet_fs.data.manifest import read_manifest
    from birdnet_fs.data.segments import cut_segments, segment_targets

    spec = run.frontend
    try:
        manifest = read_manifest(data)
    except UserError as error:
        say(f"The recordings of the run can no longer be listed: {error}")
        return None
    hop_s = data.segment_hop_s or spec.segment_s
    while True:
        segments = cut_segments(
            manifest,
            segment_s=spec.segment_s,
            segment_hop_s=hop_s,
            min_overlap_s=data.min_overlap_s,
            sample_rate_hz=spec.sample_rate_hz,
        )
        known = [s for s in segments if set(s.labels) & set(run.classes)] or list(segments)
        hop_s *= max(0.9 * len(known) / n_segments, 0.1)
        if len(known) >= n_segments or hop_s < MIN_HOP * spec.segment_s:
            break
    rows, kept = [], []
    for segment in _spread(known, n_segments):
        # a clip alone where its padding matters, else whole segments, as a device reads them
        duration_s = segment.duration_s if spec.normalize_when == "clip" else spec.segment_s
        try:
            audio = read_audio(
                segment.path, sample_rate_hz=spec.sample_rate_hz, onset_s=segment.onset_s, duration_s=duration_s
            )
        except AudioError:
            continue
        rows.append(pad_to(audio.waveform, spec.n_samples))
        kept.append(dataclasses.replace(segment, labels=tuple(name for name in segment.labels if name in run.classes)))
    return (rows, segment_targets(kept, run.classes)) if len(rows) > 1 else None


def _from_folder(folder: Path, run: Run, n_segments: int) -> Segments | None:
    from birdnet_fs.audio.find import find_audio
    from birdnet_fs.audio.read import AudioError, read_audio

    spec = run.frontend
    if not Path(folder).is_dir():
        raise UserError(f"--audio must be a folder of recordings. Received: {folder}")
    files = find_audio(folder).paths
    rows: list[np.ndarray] = []
    each = -(-n_segments // max(1, min(len(files), n_segments)))
    for path in _spread(files, n_segments):
        try:
            audio = read_audio(path, sample_rate_hz=spec.sample_rate_hz, duration_s=each * spec.segment_s)
        except AudioError:
            continue
        closest = max(1, round(MIN_HOP * spec.n_samples))
        hop = min(max(closest, (len(audio.waveform) - spec.n_samples) // each), spec.n_samples)
        windows = WindowRule(spec.n_samples, hop, spec.sample_rate_hz).windows(len(audio.waveform))
        rows += [pad_to(audio.waveform[start:], spec.n_samples) for start, _ in windows[:each]]
    rows = rows[:n_segments]
    return (rows, np.zeros((len(rows), len(run.classes)), np.float32)) if len(rows) > 1 else None


def _from_aviary(run: Run, n_segments: int) -> Segments:
    from birdnet_fs.data.synthetic.aviary import make_aviary

    with tempfile.TemporaryDirectory() as folder:
        root = make_aviary(
            Path(folder) / "aviary", n_species=4, clips_per_species=6, n_soundscapes=1, soundscape_s=30.0
        )
        found = _from_folder(Path(root), run, n_segments)
    if found is None:
        raise RuntimeError("the synthetic aviary holds no readable recording")
    return found


def _spread(items: Sequence, n: int) -> list:
    """At most `n` items, evenly spaced."""
    return [items[i] for i in np.unique(np.linspace(0, len(items) - 1, n).round().astype(int))] if items else []
