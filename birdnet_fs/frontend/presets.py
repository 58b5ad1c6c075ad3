"""Table of front-ends, one row each, every number with its source.

A row is a complete `schema.FrontEnd`; an experiment overrides single settings as in
`frontend=panns frontend.segment_s=10`.
"""

from birdnet_fs.core.errors import UserError, nearest
from birdnet_fs.schema import FrontEnd

_ROWS = (
    # This package's own, for the small networks: the bands of birdclef2025 without a resize.
    FrontEnd(preset="cnn_32k", normalize="min_max"),
    # This package's own, for programs that pass 144,000 samples (48 kHz, 3 s; the `birdnet` package,
    # BirdNET-Analyzer). It is not BirdNET's front-end. 10 ms hop, 96 bands with at least one bin of n_fft
    # 1024 each. 14 kHz, because resampled 32 kHz recordings fade out above, and a float32 DFT is inaccurate
    # in bands 80 dB lower.
    FrontEnd(
        preset="birdnet_3s_48k",
        sample_rate_hz=48_000,
        segment_s=3.0,
        n_fft=1024,
        win_length=1024,
        hop_length=480,
        n_mels=96,
        fmin_hz=150.0,
        fmax_hz=14_000.0,
        normalize="min_max",
    ),
    # BirdCLEF 2025 project plan and its repository: librosa mel, power_to_db, min-max, then bilinear to
    # 256 x 256. (There the axes are (frequency, time); here they are (time, frequency).)
    FrontEnd(
        preset="birdclef2025",
        segment_s=5.0,
        n_fft=1024,
        win_length=1024,
        hop_length=512,
        n_mels=128,
        fmin_hz=50.0,
        fmax_hz=14_000.0,
        normalize="min_max",
        normalize_when="first",
        resize=(256, 256),
        resize_method="bilinear",
    ),
    # Project Echo, Engine/echo_engine: the window is n_fft (its JSON has 500, the code overwrites it),
    # the first 1200 of 1201 frames, tf.image.resize(LANCZOS5, antialias=False), three channels.
    FrontEnd(
        preset="echo_engine",
        sample_rate_hz=48_000,
        segment_s=5.0,
        n_fft=2048,
        win_length=2048,
        hop_length=200,
        n_mels=260,
        fmin_hz=20.0,
        fmax_hz=13_000.0,
        keep_frames=1200,
        resize=(260, 260),
        resize_method="lanczos5",
        normalize="min_max",
        normalize_eps=1e-7,
        n_channels=3,
    ),
    # Project Echo, benchmarking pipeline: as echo_engine with hop = int(5 * 48000 / 260) and no frame cut.
    # Networks of another input side: n_mels = side, resize = [side, side] (224, 299).
    FrontEnd(
        preset="echo_benchmark",
        sample_rate_hz=48_000,
        segment_s=5.0,
        n_fft=2048,
        win_length=2048,
        hop_length=923,
        n_mels=260,
        fmin_hz=20.0,
        fmax_hz=13_000.0,
        resize=(260, 260),
        resize_method="lanczos5",
        normalize="min_max",
        normalize_eps=1e-7,
        n_channels=3,
    ),
    # Project Echo, torch_impl/dataset.py: 0 dB is the segment's own maximum, no resize.
    FrontEnd(
        preset="torch_impl",
        sample_rate_hz=48_000,
        segment_s=5.0,
        n_fft=2048,
        win_length=2048,
        hop_length=923,
        n_mels=260,
        fmin_hz=20.0,
        fmax_hz=13_000.0,
        ref="max",
        normalize="min_max",
        normalize_eps=1e-6,
    ),
    # Project Echo, the TFLite engine and edge client (efficientnetv2): librosa's defaults (n_fft 2048), 0 dB is the
    # segment's own maximum, (x - mean) / (std + 1e-6). Rates and bands are from its preprocess_config.json.
    FrontEnd(
        preset="echo_edge",
        segment_s=5.0,
        n_fft=2048,
        win_length=2048,
        hop_length=512,
        n_mels=128,
        fmin_hz=20.0,
        fmax_hz=16_000.0,
        ref="max",
        normalize="z_score",
        normalize_eps=1e-6,
    ),
    # PANNs (Kong et al. 2020, audioset_tagging_cnn): reflect padding, dB with no limit below the maximum.
    # The networks take any length; AudioSet's clips are 10 s.
    FrontEnd(
        preset="panns",
        segment_s=5.0,
        n_fft=1024,
        win_length=1024,
        hop_length=320,
        pad_mode="reflect",
        n_mels=64,
        fmin_hz=50.0,
        fmax_hz=14_000.0,
        top_db=0.0,
    ),
    # ANIMAL-SPOT (Bergler et al. 2022) with a fork's n_fft 1024 and hop 172: pre-emphasis, no padding of the
    # waveform, linear bins 11..232 resized to 256 by nearest neighbor, (dB + 80) / 100, zero frames on both sides
    # up to 256.
    FrontEnd(
        preset="animal_spot",
        sample_rate_hz=44_100,
        segment_s=1.0,
        preemphasis=0.98,
        n_fft=1024,
        win_length=1024,
        hop_length=172,
        pad_mode="none",
        stft_scale="window_power",
        bands="linear",
        n_mels=256,
        fmin_hz=500.0,
        fmax_hz=10_000.0,
        top_db=0.0,
        normalize="db_range",
        normalize_when="first",
        keep_frames=256,
        keep_from="center",
    ),
    # Few-shot ProtoNet: z-score over the frames of the clip (of 0.2 s at least), zeros behind up to 512 frames, whose
    # length is segment_s. The original's `+ 2e-16` before the floor of 1e-10 changes nothing by more than 1e-5 dB and
    # is omitted.
    FrontEnd(
        preset="fewshot",
        sample_rate_hz=22_050,
        segment_s=511 * 256 / 22_050,
        n_fft=1024,
        win_length=1024,
        hop_length=256,
        n_mels=128,
        fmin_hz=50.0,
        fmax_hz=11_025.0,
        normalize="z_score",
        normalize_when="clip",
        min_clip_s=0.2,
        normalize_eps=1e-8,
        keep_frames=512,
    ),
    # Few-shot ProtoNet with PCEN: librosa's defaults on the same mel power. The original uses scale 1, where librosa's
    # initial mean is far above any sound and decays for seconds; here the scale is the one that librosa recommends.
    FrontEnd(
        preset="fewshot_pcen",
        sample_rate_hz=22_050,
        segment_s=511 * 256 / 22_050,
        n_fft=1024,
        win_length=1024,
        hop_length=256,
        n_mels=128,
        fmin_hz=50.0,
        fmax_hz=11_025.0,
        compression="pcen",
        normalize="z_score",
        normalize_when="clip",
        min_clip_s=0.2,
        normalize_eps=1e-8,
        keep_frames=512,
    ),
    # BirdCLEF 2022 TileNet v2/v3 (nnAudio's MelSpectrogram: Slaney, reflect). The original uses linear power,
    # which gave NaN: here the default is the logarithm, and frontend.compression=none is the original.
    # v4 is the same; v5 and v6: frontend.n_mels=128 frontend.hop_length=1227.
    FrontEnd(
        preset="tilenet",
        segment_s=5.0,
        n_fft=4096,
        win_length=4096,
        hop_length=2474,
        pad_mode="reflect",
        n_mels=64,
        fmin_hz=0.0,
        fmax_hz=16_000.0,
        compression="log",
        top_db=0.0,
    ),
)

PRESETS: dict[str, FrontEnd] = {row.preset: row for row in _ROWS}


def preset(name: str) -> FrontEnd:
    """Front-end by name.

    Args:
        name: A key of `PRESETS`.

    Returns:
        The front-end.

    Raises:
        UserError: There is no preset of this name; the message lists the presets and the nearest name.

    >>> preset("birdclef2025").shape
    (256, 256)
    >>> preset("birdnet_3s_48k").n_samples
    144000
    """
    if name not in PRESETS:
        raise UserError(f"Front-end must be one of {', '.join(PRESETS)}. Received: {name!r}.{nearest(name, PRESETS)}")
    return PRESETS[name]
