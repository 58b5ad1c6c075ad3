"""Features of recordings for mining: chroma (CENS or not), log-mel bands, or embeddings, at any frame rate.

CENS (Mueller, Kurth, Clausen 2005, "Audio matching via chroma-based statistical features", ISMIR) as librosa computes
it: energies of the twelve semitones, quantized and smoothed over 41 frames, which are 4.1 s at 10 frames a second. It
describes phrases; what is shorter than the smoothing, such as a syllable, cannot be found with it, and more frames a
second only shorten the smoothing in proportion. `chroma`, `logmel` and `shape` are not smoothed.

`shape` is the shape of the spectrum: log(1 + power / median power of the recording) of 80 mel bands, every frame scaled
to length 1. Loud and soft repetitions of a sound are equal in it, and frames of noise resemble no other frame, while in
log-mel features all frames at the floor are equal.
"""

import functools
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from birdnet_fs import schema
from birdnet_fs.core.errors import UserError, nearest
from birdnet_fs.frontend.in_numpy import log_mel

FEATURES = ("cens", "chroma", "logmel", "shape", "embedding")
SAMPLE_RATE_HZ = 32_000  # of all but embeddings, whose encoder has its own
CENS_STEP = 64  # a hop of the constant-Q transform is a multiple of it: it halves the rate for each of six octaves
BATCH = 32  # windows per call of an encoder
LOG_MEL = schema.FrontEnd(
    sample_rate_hz=SAMPLE_RATE_HZ,
    n_fft=1024,
    win_length=1024,
    n_mels=40,
    fmin_hz=500.0,
    fmax_hz=10_000.0,
    ref="max",
    top_db=50.0,  # what is further below the loudest band of the recording is background
    normalize="z_score",
)
SHAPE = schema.FrontEnd(
    sample_rate_hz=SAMPLE_RATE_HZ,
    n_fft=4096,  # 128 ms
    win_length=4096,
    n_mels=80,
    fmin_hz=500.0,
    fmax_hz=10_000.0,
    compression="none",
)


@dataclass(frozen=True)
class FeatureSettings:
    """Kind of the features and their frames.

    Attributes:
        name: One of FEATURES. Default: "cens".
        frames_per_s: Frames a second that are asked for, above 0; the hop is rounded to samples, that of CENS down to a
            multiple of 64. Default: 10.
        encoder: Foreign encoder, run or exported file, with `name="embedding"` only. Default: "".
        card: Card of a foreign encoder. Default: "", found by its content.
    """

    name: str = "cens"
    frames_per_s: float = 10.0
    encoder: str = ""
    card: str = ""


@dataclass(frozen=True, eq=False)
class FrameFeatures:
    """Features that can be computed.

    Attributes:
        settings: The settings as given.
        sample_rate_hz: Samples per second of the waveforms.
        hop: Samples from one frame to the next.
        identity: Text that changes when the features of an encoder do; "" for others.
        compute: Waveform float32 [n_samples] -> features [n_frames, width].
    """

    settings: FeatureSettings
    sample_rate_hz: int
    hop: int
    identity: str
    compute: Callable[[np.ndarray], np.ndarray]

    @property
    def frames_per_s(self) -> float:
        """Frames a second as computed."""
        return self.sample_rate_hz / self.hop


@functools.lru_cache(maxsize=4)  # a worker process asks for each recording
def open_features(settings: FeatureSettings, *, threads: int = 0) -> FrameFeatures:
    """Prepare the computation of features; UserErrors of `open_embedder` are passed on.

    Args:
        settings: Kind of the features and their frames.
        threads: CPU threads of an encoder. Default: 0, the runtime decides.

    Returns:
        The features.

    Raises:
        UserError: The name is unknown, the frames a second are out of range, librosa is missing, or an encoder is given
            without need or needed and not given.
    """
    name = settings.name
    if name not in FEATURES:
        raise UserError(f"--feature must be one of {', '.join(FEATURES)}. Received: {name!r}.{nearest(name, FEATURES)}")
    if bool(settings.encoder) != (name == "embedding"):
        raise UserError(
            "--feature embedding needs --encoder FILE (a foreign encoder, a run or an exported file), and no other "
            f"feature has one. Received: --feature {name}, --encoder {settings.encoder!r}"
        )
    if name == "embedding":
        return _embeddings(settings, threads)
    highest = SAMPLE_RATE_HZ / CENS_STEP
    if not 0.1 <= settings.frames_per_s <= highest:
        raise UserError(f"--cens-sr must be in 0.1..{highest:g} frames a second. Received: {settings.frames_per_s}")
    if name in ("logmel", "shape"):
        hop = round(SAMPLE_RATE_HZ / settings.frames_per_s)
        spec = replace(LOG_MEL if name == "logmel" else SHAPE, hop_length=hop)
        compute = _log_mel if name == "logmel" else _shape
        return FrameFeatures(settings, SAMPLE_RATE_HZ, hop, "", functools.partial(compute, spec=spec))
    _librosa_chroma(name)
    if name == "cens":
        hop = int(SAMPLE_RATE_HZ // (settings.frames_per_s * CENS_STEP)) * CENS_STEP
    else:
        hop = round(SAMPLE_RATE_HZ / settings.frames_per_s)
    return FrameFeatures(settings, SAMPLE_RATE_HZ, hop, "", functools.partial(_chroma, name=name, hop=hop))


def _log_mel(waveform: np.ndarray, spec: schema.FrontEnd) -> NDArray[np.float32]:
    return log_mel(waveform, spec)[0]


def _shape(waveform: np.ndarray, spec: schema.FrontEnd) -> NDArray[np.float32]:
    power = log_mel(waveform, spec)[0]
    features = np.log1p(power / max(float(np.median(power)), 1e-12))
    lengths = np.linalg.norm(features, axis=1, keepdims=True)
    return np.asarray(features / np.maximum(lengths, 1e-6), np.float32)


def _librosa_chroma(name: str) -> Callable[..., np.ndarray]:
    """Import a chroma function of librosa.

    Args:
        name: "cens" or "chroma".

    Returns:
        `librosa.feature.chroma_cens` or `chroma_stft`.

    Raises:
        UserError: librosa is not installed.
    """
    try:
        from librosa.feature import chroma_cens, chroma_stft
    except ImportError:
        raise UserError(
            f'--feature {name} needs librosa; install it with: pip install "birdnet_fs[motifs]", or choose shape.'
        ) from None
    found: Callable[..., np.ndarray] = chroma_cens if name == "cens" else chroma_stft
    return found


def _chroma(waveform: np.ndarray, name: str, hop: int) -> NDArray[np.float32]:
    import warnings

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="n_fft=|Trying to estimate")  # short or silent
        found = _librosa_chroma(name)(y=waveform, sr=SAMPLE_RATE_HZ, hop_length=hop)
    return np.ascontiguousarray(found.T, np.float32)


def _embeddings(settings: FeatureSettings, threads: int) -> FrameFeatures:
    """Embeddings of windows of the encoder's length; frame i is the window that begins at frame i."""
    from birdnet_fs.inference.embedder import open_embedder

    embedder = open_embedder(settings.encoder, settings.card, threads=threads)
    lowest = 1 / embedder.segment_s
    if not lowest <= settings.frames_per_s <= 100:
        raise UserError(
            f"--cens-sr must be in {lowest:g}..100 frames a second for windows of {embedder.segment_s:g} s, which "
            f"would leave gaps otherwise. Received: {settings.frames_per_s}"
        )
    hop = round(embedder.sample_rate_hz / settings.frames_per_s)

    def compute(waveform: np.ndarray) -> np.ndarray:
        if len(waveform) < embedder.n_samples:
            return np.zeros((0, embedder.width), np.float32)
        windows = np.lib.stride_tricks.sliding_window_view(waveform, embedder.n_samples)[::hop]
        found = np.concatenate(
            [embedder.embed(windows[at : at + BATCH].copy()) for at in range(0, len(windows), BATCH)]
        )
        found = found - found.mean(axis=0)
        return found / np.maximum(np.linalg.norm(found, axis=1, keepdims=True), 1e-9)

    return FrameFeatures(settings, embedder.sample_rate_hz, hop, embedder.identity, compute)


def frame_levels(waveform: np.ndarray, hop: int, n_frames: int) -> NDArray[np.float64]:
    """Root mean square of the waveform from each frame to the next.

    Args:
        waveform: float32 [n_samples].
        hop: Samples from one frame to the next.
        n_frames: Number of frames; the waveform is zero after its end.

    Returns:
        float64 [n_frames].
    """
    n_whole = min(n_frames, len(waveform) // hop)
    blocks = waveform[: n_whole * hop].reshape(n_whole, hop)
    power = np.zeros(n_frames)
    power[:n_whole] = np.einsum("ij,ij->i", blocks, blocks, dtype=np.float64)
    if n_whole < n_frames:
        rest = waveform[n_whole * hop : (n_whole + 1) * hop].astype(np.float64)
        power[n_whole] = rest @ rest
    return np.sqrt(power / hop)
