"""What can be chosen: every setting with its unit, default and check.

Frozen dataclasses, standard library only. `config.py` says what we set, as differences from these
defaults; `plumbing.settings` reads `key=value` and JSON into them by their annotations.
"""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

from birdnet_fs.plumbing.errors import UserError
from birdnet_fs.plumbing.settings import from_dict


class OnCosines(NamedTuple):
    """What a loss on cosines multiplies them by and asks of them."""

    scale: float
    margin: float


ON_COSINES = {"arcface": OnCosines(30.0, 0.5), "circle": OnCosines(80.0, 0.4)}  # as torch_impl sets them


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
    split: Literal["folds", "table", "80/20", "70/15/15", "classes"] = "folds"
    # folds: one of n_folds is held out; table: split_column says train, val and test (or base, val and novel); else
    # drawn by groups: 80/20 train and held out, 70/15/15 train, validation and held out
    # classes: whole classes are drawn, 70/15/15 of them, for training in episodes
    split_column: str = "split"  # of split=table
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
    head: Literal["linear", "sed", "cosine", "prototypes"] = "linear"
    # sed: attention over time, with logits of every step; cosine: logits are logit_scale x cosine
    # prototypes: logits fall with the distance to a point for each class
    logit_scale: float = 0.0  # of cosine and prototypes; 0 = that of training.loss (30, circle 80), prototypes 1
    distance: Literal["euclidean", "cosine", "learnt"] = "euclidean"  # of head=prototypes; euclidean is squared
    unknown: bool = False  # of head=prototypes: the last class is "none of the others"; enrolment sets it
    weights: str = ""  # a run folder or published weights (.h5, .weights.h5, .keras, .pth) to start from; empty = none

    def __post_init__(self) -> None:
        _check(0 <= self.dropout < 1, "model.dropout must be in [0, 1)", self.dropout)
        _check(self.logit_scale >= 0, "model.logit_scale must be 0 (that of the loss) or more", self.logit_scale)


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
    feature_noise_p: float = 0.0  # chance of Gaussian noise on the features
    feature_noise: float = 0.01  # its standard deviation, in units of the features
    pad_p: float = 0.0  # chance of a segment that ends early and is silent from there, as at a recording's end

    def __post_init__(self) -> None:
        for name in ("noise_p", "mixup_p", "time_mask_max", "freq_mask_max", "feature_noise_p", "pad_p"):
            _check(0 <= getattr(self, name) <= 1, f"augmentation.{name} must be in [0, 1]", getattr(self, name))
        for name in ("gain_db", "eq_db", "time_masks", "freq_masks", "freq_shift", "feature_noise"):
            _check(getattr(self, name) >= 0, f"augmentation.{name} must be 0 or more", getattr(self, name))
        _check(self.mixup_alpha > 0, "augmentation.mixup_alpha must be above 0", self.mixup_alpha)
        low, high = self.noise_snr_db
        _check(low <= high, "augmentation.noise_snr_db must be [lowest, highest]", [low, high])


@dataclass(frozen=True)
class Training:
    """How the network learns."""

    epochs: int = 30
    batch_size: int = 32
    loss: Literal["auto", "bce", "ce", "arcface", "circle"] = "auto"
    # auto: bce (sigmoid cross-entropy) with data.multi_label, else ce (softmax); arcface, circle: for head=cosine
    margin: float = 0.0  # of arcface (radians) and circle; 0 = the loss's own (arcface 0.5, circle 0.4)
    learning_rate: float = 1e-3
    weight_decay: float = 1e-4  # AdamW, decoupled
    warmup_epochs: float = 1.0  # linear, then what schedule says
    schedule: Literal["cosine", "step", "constant"] = "cosine"
    # cosine: half a cosine down to min_learning_rate; step: times step_factor after every step_epochs
    min_learning_rate: float = 0.0  # of schedule=cosine
    step_epochs: int = 10  # of schedule=step; this and step_factor as in few-shot V1 (systems.md A)
    step_factor: float = 0.65
    clip_norm: float = 1.0  # global norm of the gradient; 0 = off
    label_smoothing: float = 0.0
    freeze_blocks: int = 0  # blocks from the input on that keep the weights they start with; -1 = all but the head
    layer_decay: float = 1.0  # learning rate of a block / that of the next; the head's is learning_rate; 1 = all alike
    ema: float = 0.0  # decay of the weight average that is kept, per step; 0 = off
    precision: Literal["auto", "float32", "bfloat16", "float16"] = "auto"  # auto: bfloat16 on a GPU, else float32
    device: Literal["auto", "cpu", "cuda"] = "auto"
    keep: Literal["last", "best"] = "last"  # best needs validation clips: val_macro_auroc, with episodes val_acc
    patience: int = 0  # epochs without a better val_macro_auroc (or val_acc) after which it stops; 0 = never
    views: int = 1  # random crops of every clip in one epoch
    threads: int = 0  # of torch on the CPU; 0 = as torch decides
    workers: int = 0  # processes that prepare batches; 0 = in this one

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size", "views", "step_epochs"):
            _check(getattr(self, name) >= 1, f"training.{name} must be 1 or more", getattr(self, name))
        for name in ("weight_decay", "warmup_epochs", "clip_norm", "threads", "workers", "patience"):
            _check(getattr(self, name) >= 0, f"training.{name} must be 0 or more", getattr(self, name))
        _check(self.learning_rate > 0, "training.learning_rate must be above 0", self.learning_rate)
        _check(
            0 <= self.min_learning_rate <= self.learning_rate,
            f"training.min_learning_rate must be in [0, {self.learning_rate:g}] (training.learning_rate)",
            self.min_learning_rate,
        )
        _check(0 < self.step_factor <= 1, "training.step_factor must be in (0, 1]", self.step_factor)
        _check(0 <= self.label_smoothing < 1, "training.label_smoothing must be in [0, 1)", self.label_smoothing)
        _check(0 <= self.margin < 1, "training.margin must be in [0, 1); 0 is the loss's own", self.margin)
        _check(0 <= self.ema < 1, "training.ema must be in [0, 1)", self.ema)
        _check(self.freeze_blocks >= -1, "training.freeze_blocks must be -1 (all) or more", self.freeze_blocks)
        _check(0 < self.layer_decay <= 1, "training.layer_decay must be in (0, 1]", self.layer_decay)


@dataclass(frozen=True)
class Episodes:
    """Few-shot training: a step is an episode, n_way classes with n_shot clips each to learn from, n_query to tell."""

    n_way: int = 10
    n_shot: int = 5
    n_query: int = 5
    n_train: int = 2000  # in one epoch
    n_val: int = 200  # after every epoch, on classes that are not trained on
    n_test: int = 200  # at the end, on classes of their own
    same_recording: bool = False  # support and query may be parts of one recording (measures the recording too)
    # a class with fewer clips than n_shot + n_query then gives several parts of a clip

    def __post_init__(self) -> None:
        _check(self.n_way >= 2, "episodes.n_way must be 2 or more", self.n_way)
        for name in ("n_shot", "n_query", "n_train"):
            _check(getattr(self, name) >= 1, f"episodes.{name} must be 1 or more", getattr(self, name))
        for name in ("n_val", "n_test"):
            _check(getattr(self, name) >= 0, f"episodes.{name} must be 0 (none) or more", getattr(self, name))


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
    episodes: Episodes | None = None  # few-shot training in episodes; needs model.head=prototypes
    pretrain: "Experiment | None" = None  # trained first; its weights start this one (the head's if classes agree)
    debug: bool = False  # 1000 segments, 2 epochs, 20 episodes

    def __post_init__(self) -> None:
        _check(0 <= self.seed < 2**32, "seed must be in 0..4294967295", self.seed)
        _check(
            (self.training.keep != "best" and not self.training.patience)
            or self.data.val_fraction > 0
            or self.data.split in ("table", "70/15/15", "classes"),
            "training.keep=best and training.patience need validation clips: set data.val_fraction (for example 0.2) "
            "or data.split=70/15/15",
            self.data.val_fraction,
        )
        self._check_loss()
        self._check_episodes()
        _check(
            not (self.pretrain and self.model.weights),
            "An experiment starts from model.weights or from its pretrain part; set pretrain=none, or "
            "pretrain.model.weights instead",
            self.model.weights,
        )
        _check(
            self.training.freeze_blocks == 0 or bool(self.pretrain or self.model.weights),
            "training.freeze_blocks would keep random weights; set model.weights or pretrain",
            self.training.freeze_blocks,
        )

    @property
    def logit_scale(self) -> float:
        """What the network multiplies its cosines or distances by; 1 for a head without them."""
        if self.model.head == "prototypes":
            return self.model.logit_scale or 1.0
        if self.model.head != "cosine":
            return 1.0
        return self.model.logit_scale or ON_COSINES.get(self.training.loss, ON_COSINES["arcface"]).scale

    def _check_episodes(self) -> None:
        if self.episodes is None:
            _check(
                self.data.split != "classes",
                "data.split=classes holds out whole classes, which only training in episodes can be scored on; use an "
                "experiment with episodes, or another data.split",
                self.data.split,
            )
            return
        _check(self.model.head == "prototypes", "Episodes need model.head=prototypes", self.model.head)
        _check(not self.data.multi_label, "Episodes need data.multi_label=false", self.data.multi_label)
        _check(
            self.augmentation.mixup_p == 0,
            "Episodes need one class a clip, not a mixture; set augmentation.mixup_p=0",
            self.augmentation.mixup_p,
        )
        _check(
            not (self.episodes.n_val or self.episodes.n_test) or self.data.split in ("classes", "table"),
            "Episodes are validated and tested on classes that are not trained on; set data.split=classes or table, or "
            "episodes.n_val=0 and episodes.n_test=0",
            self.data.split,
        )
        _check(
            self.episodes.n_val > 0 or (self.training.keep != "best" and not self.training.patience),
            "training.keep=best and training.patience need validation episodes: set episodes.n_val (for example 200)",
            self.episodes.n_val,
        )
        _check(
            self.training.freeze_blocks >= 0 or self.model.distance == "learnt",
            f"training.freeze_blocks=-1 leaves nothing to learn in episodes with model.distance={self.model.distance}",
            self.training.freeze_blocks,
        )

    def _check_loss(self) -> None:
        loss, one_label = self.training.loss, not self.data.multi_label
        if loss == "bce":
            _check(not one_label, "training.loss=bce needs data.multi_label=true", self.data.multi_label)
        elif loss != "auto":
            _check(one_label, f"training.loss={loss} needs data.multi_label=false", self.data.multi_label)
        if loss in ON_COSINES:
            _check(self.model.head == "cosine", f"training.loss={loss} needs model.head=cosine", self.model.head)
            _check(
                self.augmentation.mixup_p == 0,
                f"training.loss={loss} needs one class a clip, not a mixture; set augmentation.mixup_p=0",
                self.augmentation.mixup_p,
            )


def debugged(experiment: Experiment) -> Experiment:
    """The same experiment as a quick sanity check when `debug` is set: 1000 segments, 2 epochs, 20 episodes."""
    if not experiment.debug:
        return experiment
    return dataclasses.replace(
        experiment,
        data=dataclasses.replace(experiment.data, limit=experiment.data.limit or 1000),
        training=dataclasses.replace(experiment.training, epochs=min(2, experiment.training.epochs)),
        episodes=experiment.episodes and _few(experiment.episodes),
        pretrain=experiment.pretrain and debugged(dataclasses.replace(experiment.pretrain, debug=True)),
    )


def _few(episodes: Episodes) -> Episodes:
    return dataclasses.replace(
        episodes, **{name: min(20, getattr(episodes, name)) for name in ("n_train", "n_val", "n_test")}
    )
