"""What can be chosen: every setting with its unit, default and check.

Frozen dataclasses, standard library only. `config.py` says what we set, as differences from these
defaults; `plumbing.settings` reads `key=value` and JSON into them by their annotations.
"""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from birdnet_fs.plumbing.errors import UserError
from birdnet_fs.plumbing.settings import from_dict


def _check(holds: bool, what: str, received: object) -> None:
    if not holds:
        raise UserError(f"{what}. Received: {received!r}")


@dataclass(frozen=True)
class FrontEnd:
    """Waveform -> log-mel features, step by step in this order (numbers of each system: frontend/presets.py).

    The waveform is float32 in +-1 at `sample_rate_hz`; the features are [n_frames, n_mels], time first.
    Every reduction (maximum, mean, ...) is over one segment, never over a batch.
    """

    preset: str = "custom"  # name of the preset these numbers came from
    sample_rate_hz: int = 32_000
    segment_s: float = 5.0  # model input length; longer is cropped, shorter is zero-padded on the right
    preemphasis: float = 0.0  # y[t] = x[t] - preemphasis * x[t-1], first sample kept; 0 = off
    n_fft: int = 1024
    win_length: int = 1024  # samples; Hann, periodic, centred in n_fft
    hop_length: int = 512  # samples
    pad_mode: Literal["constant", "reflect", "none"] = "constant"  # at both ends, n_fft // 2; "none" = not centred
    stft_scale: Literal["none", "window_power"] = "none"  # "window_power" divides by sqrt(sum(window ** 2))
    bands: Literal["mel_slaney", "mel_htk", "linear"] = "mel_slaney"  # of the power spectrum
    # mel_slaney: Slaney scale and area norm (librosa); mel_htk: HTK scale, triangles of height 1
    # linear: the bins from fmin_hz to fmax_hz, the nearest one for each of n_mels bands
    n_mels: int = 128
    fmin_hz: float = 50.0
    fmax_hz: float = 14_000.0
    compression: Literal["db", "log", "none"] = "db"  # 10 log10, natural log, none
    amin: float = 1e-10  # power floor before the logarithm
    ref: Literal["one", "max"] = "one"  # 0 dB is 1.0, or the segment's own maximum
    top_db: float = 80.0  # dB below the segment's maximum that are kept; 0 = no limit
    normalise_when: Literal["last", "first"] = "last"  # after keep_frames and resize, or before them
    keep_frames: int = 0  # frames kept (fewer are padded with zeros); 0 = all
    keep_from: Literal["start", "centre"] = "start"  # "centre" crops and pads on both sides
    resize: tuple[int, int] = (0, 0)  # (n_frames, n_mels) after resizing; (0, 0) = as they are
    resize_method: Literal["bilinear", "lanczos5"] = "bilinear"  # half-pixel centres, no antialias
    normalise: Literal["none", "min_max", "z_score", "db_range"] = "none"
    # min_max: (x - min) / (max - min + normalise_eps), per segment; a constant segment gives 0
    # z_score: (x - mean) / std, per segment, left as is when std <= normalise_eps
    # db_range: clip((x + 80) / 100, 0, 1)
    normalise_eps: float = 0.0
    n_channels: int = 1  # copies of the features the network is given

    def __post_init__(self) -> None:
        _check(
            1000 <= self.sample_rate_hz <= 1_000_000,
            "frontend.sample_rate_hz must be in 1000..1000000",
            self.sample_rate_hz,
        )
        _check(self.segment_s > 0, "frontend.segment_s must be above 0 s", self.segment_s)
        _check(self.n_fft >= 16, "frontend.n_fft must be 16 or more samples", self.n_fft)
        _check(self.n_fft % 2 == 0, "frontend.n_fft must be even", self.n_fft)
        _check(
            0 < self.win_length <= self.n_fft,
            f"frontend.win_length must be in 1..n_fft ({self.n_fft}) samples",
            self.win_length,
        )
        _check(self.hop_length > 0, "frontend.hop_length must be 1 or more samples", self.hop_length)
        _check(
            0 <= self.fmin_hz < self.fmax_hz <= self.sample_rate_hz / 2,
            "frontend.fmin_hz < fmax_hz <= sample_rate_hz / 2 "
            f"({self.sample_rate_hz / 2:g} Hz) must hold; set frontend.fmin_hz or frontend.fmax_hz",
            (self.fmin_hz, self.fmax_hz),
        )
        _check(self.n_mels >= 1, "frontend.n_mels must be 1 or more", self.n_mels)
        _check(self.amin > 0, "frontend.amin must be above 0", self.amin)
        _check(self.top_db >= 0, "frontend.top_db must be 0 (no limit) or more dB", self.top_db)
        _check(self.keep_frames >= 0, "frontend.keep_frames must be 0 (all) or more", self.keep_frames)
        _check(
            self.resize == (0, 0) or min(self.resize) > 0,
            "frontend.resize must be [n_frames, n_mels], both above 0, or [0, 0]",
            self.resize,
        )
        _check(self.n_channels >= 1, "frontend.n_channels must be 1 or more", self.n_channels)
        _check(
            self.n_samples >= self.min_samples,
            f"frontend.segment_s must be {self.min_samples / self.sample_rate_hz:g} s or more (one frame)",
            self.segment_s,
        )

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> "FrontEnd":
        """The front-end that `to_dict` gave as `value`; unknown keys and wrong types are refused."""
        return from_dict(cls, value, "frontend.")

    @property
    def n_samples(self) -> int:
        """Samples in one segment."""
        return round(self.segment_s * self.sample_rate_hz)

    @property
    def min_samples(self) -> int:
        """Samples of the shortest waveform that gives a frame."""
        return {"none": self.n_fft, "reflect": self.n_fft // 2 + 1, "constant": 1}[self.pad_mode]

    @property
    def n_frames_stft(self) -> int:
        """STFT frames in one segment, before `keep_frames` and `resize`."""
        return self.n_frames_of(self.n_samples)

    def n_frames_of(self, n_samples: int) -> int:
        """STFT frames of a waveform of `n_samples`."""
        if self.pad_mode == "none":
            return 1 + (n_samples - self.n_fft) // self.hop_length
        return 1 + n_samples // self.hop_length

    @property
    def shape(self) -> tuple[int, int]:
        """(n_frames, n_mels) of the features of one segment."""
        if self.resize != (0, 0):
            return self.resize
        return (self.keep_frames or self.n_frames_stft, self.n_mels)


@dataclass(frozen=True)
class Data:
    """Where the recordings and their labels are, and how they become segments and splits."""

    root: str = "."  # folder every path in the table is relative to
    table: str = ""  # CSV inside root; empty = look at the folder itself
    layout: Literal["auto", "manifest", "folders", "csv", "raven", "birdclef", "dcase", "animal_spot", "audacity"] = (
        "auto"
    )
    audio: str = ""  # folder inside root that holds the audio, when the table does not say
    where: str = ""  # rows to use: "set=birds10" or "set=xc171,role=base|val|novel"
    background: str = ""  # rows used as background noise in training, same syntax; never labelled
    label_column: str = "label"
    group_column: str = "group"  # segments of one group never sit on both sides of a split
    split: Literal["folds", "table", "80/20", "70/15/15"] = "folds"
    # folds: one of n_folds is held out; table: the split column says train, val and test; else drawn by groups:
    # 80/20 train and held out, 70/15/15 train, validation and held out
    fold_column: str = "fold"  # folds of the table, used when it has them; else n_folds are drawn
    multi_label: bool = False  # sigmoid and any number of labels, else softmax and one
    segment_hop_s: float = 0.0  # between windows of recordings with timed events; 0 = segment_s
    min_overlap_s: float = 0.1  # an event labels a segment when they share at least this much
    n_folds: int = 5  # to draw
    fold: int = 0  # held-out fold of `train`; -1 trains on everything
    val_fraction: float = 0.0  # of the training groups of a fold, for keep="best" and the curves; 0 = none
    limit: int = 0  # use at most this many segments; 0 = all (debug uses 1000)

    def __post_init__(self) -> None:
        _check(self.n_folds >= 2, "data.n_folds must be 2 or more", self.n_folds)
        _check(self.fold >= -1, "data.fold must be -1 (none held out) or the number of a fold", self.fold)
        _check(self.limit >= 0, "data.limit must be 0 (all) or more", self.limit)
        _check(0 <= self.val_fraction < 1, "data.val_fraction must be in [0, 1)", self.val_fraction)
        _check(self.segment_hop_s >= 0, "data.segment_hop_s must be 0 or more seconds", self.segment_hop_s)


@dataclass(frozen=True)
class Model:
    """The network."""

    name: str = "cnn/small"  # family or family/variant; `birdnet-fs models` lists them
    dropout: float = 0.2  # before the last layer

    def __post_init__(self) -> None:
        _check(0 <= self.dropout < 1, "model.dropout must be in [0, 1)", self.dropout)


@dataclass(frozen=True)
class Augmentation:
    """Random changes to training segments; every one is drawn from (seed, epoch, index). 0 = off."""

    crop: Literal["random", "active"] = "random"  # "active" prefers the loud parts of a clip
    gain_db: float = 0.0  # +- uniform
    noise_p: float = 0.0  # chance of adding background or white noise
    noise_snr_db: tuple[float, float] = (0.0, 20.0)
    eq_db: float = 0.0  # random smooth equaliser over the bands, +- dB
    mixup_p: float = 0.0  # chance of adding another segment's power
    mixup_alpha: float = 0.4  # of Beta(alpha, alpha)
    time_masks: int = 0
    time_mask_max: float = 0.15  # share of the frames
    freq_masks: int = 0
    freq_mask_max: float = 0.15  # share of the bands
    freq_shift: int = 0  # +- bands

    def __post_init__(self) -> None:
        for name in ("noise_p", "mixup_p", "time_mask_max", "freq_mask_max"):
            _check(0 <= getattr(self, name) <= 1, f"augmentation.{name} must be in [0, 1]", getattr(self, name))
        for name in ("gain_db", "eq_db", "time_masks", "freq_masks", "freq_shift"):
            _check(getattr(self, name) >= 0, f"augmentation.{name} must be 0 or more", getattr(self, name))
        _check(self.mixup_alpha > 0, "augmentation.mixup_alpha must be above 0", self.mixup_alpha)
        low, high = self.noise_snr_db
        _check(low <= high, "augmentation.noise_snr_db must be [lowest, highest]", [low, high])


@dataclass(frozen=True)
class Training:
    """How the network learns."""

    epochs: int = 30
    batch_size: int = 32
    learning_rate: float = 1e-3
    weight_decay: float = 1e-4  # AdamW, decoupled
    warmup_epochs: float = 1.0  # linear, then cosine to zero
    clip_norm: float = 1.0  # global norm of the gradient; 0 = off
    label_smoothing: float = 0.0
    ema: float = 0.0  # decay of the weight average that is kept, per step; 0 = off
    precision: Literal["auto", "float32", "bfloat16", "float16"] = "auto"  # auto: bfloat16 on a GPU, else float32
    device: Literal["auto", "cpu", "cuda"] = "auto"
    keep: Literal["last", "best"] = "last"  # best needs data.val_fraction and goes by val macro_auroc
    views: int = 1  # random crops of every clip in one epoch
    threads: int = 0  # of torch on the CPU; 0 = as torch decides
    workers: int = 0  # processes that prepare batches; 0 = in this one

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size", "views"):
            _check(getattr(self, name) >= 1, f"training.{name} must be 1 or more", getattr(self, name))
        for name in ("weight_decay", "warmup_epochs", "clip_norm", "threads", "workers"):
            _check(getattr(self, name) >= 0, f"training.{name} must be 0 or more", getattr(self, name))
        _check(self.learning_rate > 0, "training.learning_rate must be above 0", self.learning_rate)
        _check(0 <= self.label_smoothing < 1, "training.label_smoothing must be in [0, 1)", self.label_smoothing)
        _check(0 <= self.ema < 1, "training.ema must be in [0, 1)", self.ema)


@dataclass(frozen=True)
class Experiment:
    """One training run from recordings to scores."""

    name: str = "experiment"
    seed: int = 42
    data: Data = field(default_factory=Data)
    frontend: FrontEnd = field(default_factory=FrontEnd)
    model: Model = field(default_factory=Model)
    augmentation: Augmentation = field(default_factory=Augmentation)
    training: Training = field(default_factory=Training)
    pretrain: "Experiment | None" = None  # trained first; its weights start this one (all but the last layer)
    debug: bool = False  # 1000 segments, 2 epochs

    def __post_init__(self) -> None:
        _check(0 <= self.seed < 2**32, "seed must be in 0..4294967295", self.seed)
        _check(
            self.training.keep != "best" or self.data.val_fraction > 0 or self.data.split in ("table", "70/15/15"),
            "training.keep=best needs validation clips: set data.val_fraction (for example 0.2) or data.split=70/15/15",
            self.data.val_fraction,
        )


def debugged(experiment: Experiment) -> Experiment:
    """The same experiment as a quick sanity check when `debug` is set: 1000 segments, 2 epochs."""
    if not experiment.debug:
        return experiment
    return dataclasses.replace(
        experiment,
        data=dataclasses.replace(experiment.data, limit=experiment.data.limit or 1000),
        training=dataclasses.replace(experiment.training, epochs=min(2, experiment.training.epochs)),
        pretrain=experiment.pretrain and debugged(dataclasses.replace(experiment.pretrain, debug=True)),
    )
