"""What can be chosen: every setting with its unit, default and check.

Frozen dataclasses, standard library only. `config.py` says what we set, as differences from these
defaults; `plumbing.settings` reads `key=value` and JSON into them by their annotations.
"""

import dataclasses
from collections.abc import Iterator, Mapping
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


def _values(group: Any, prefix: str) -> Iterator[tuple[str, Any]]:
    """Every value below a group with its dotted key."""
    for f in dataclasses.fields(group):
        value = getattr(group, f.name)
        if dataclasses.is_dataclass(value):
            yield from _values(value, f"{prefix}{f.name}.")
        else:
            yield prefix + f.name, value


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
    compression: Literal["db", "log", "pcen", "none"] = "db"  # 10 log10, natural log, energy over its own mean, none
    amin: float = 1e-10  # power floor before the logarithm (db, log)
    ref: Literal["one", "max"] = "one"  # 0 dB is 1.0, or the segment's own maximum (db, log)
    top_db: float = 80.0  # dB below the segment's maximum that are kept; 0 = no limit (db, log)
    # pcen: (E / (eps + M) ** gain + bias) ** power - bias ** power, with E = scale * energy of a band and its running
    # mean M[t] = (1 - b) * M[t - 1] + b * E[t]; formula and defaults are librosa.pcen's, see frontend/pcen.py
    pcen_gain: float = 0.98  # 0 = M is not used, 1 = loudness is gone
    pcen_bias: float = 2.0  # the smaller, the more faint sounds count
    pcen_power: float = 0.5  # the smaller, the stronger the compression; 0 = log(1 + E / (eps + M) ** gain)
    pcen_time_constant_s: float = 0.4  # of M, which gives b
    pcen_eps: float = 1e-6  # in units of E: a band far below it gives 0
    pcen_scale: float = 2.0**31  # librosa's advice for waveforms in +-1, as its defaults are for integers
    pcen_start: Literal["one", "first"] = "one"  # M before the first frame: 1.0 (librosa), or E of the first frame
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
        self._check_pcen()
        _check(
            self.n_samples >= self.min_samples,
            f"frontend.segment_s must be {self.min_samples / self.sample_rate_hz:g} s or more (one frame)",
            self.segment_s,
        )

    def _check_pcen(self) -> None:
        default = {f.name: f.default for f in dataclasses.fields(self)}
        if self.compression != "pcen":
            for name in (name for name in default if name.startswith("pcen_")):
                _check(
                    getattr(self, name) == default[name],
                    f"frontend.{name} needs frontend.compression=pcen and is {default[name]!r} with {self.compression}",
                    getattr(self, name),
                )
            return
        for name, allowed in (("amin", ()), ("ref", ()), ("top_db", (0,))):
            _check(
                getattr(self, name) in (default[name], *allowed),
                f"frontend.{name} is of a logarithm and must be {default[name]!r} with frontend.compression=pcen",
                getattr(self, name),
            )
        _check(
            self.normalise != "db_range",
            "frontend.normalise=db_range is of dB; set none, min_max or z_score with frontend.compression=pcen",
            self.normalise,
        )
        for name in ("pcen_bias", "pcen_time_constant_s", "pcen_eps"):
            _check(getattr(self, name) > 0, f"frontend.{name} must be above 0", getattr(self, name))
        for name in ("pcen_gain", "pcen_power"):
            _check(0 <= getattr(self, name) <= 2, f"frontend.{name} must be in [0, 2]", getattr(self, name))
        _check(0 < self.pcen_scale <= 2.0**64, "frontend.pcen_scale must be above 0, up to 2 ** 64", self.pcen_scale)
        _check(
            self.pcen_eps**-self.pcen_gain <= 1e15,
            "frontend.pcen_eps ** -pcen_gain must be 1e15 or less in float32; set a larger frontend.pcen_eps",
            self.pcen_eps,
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
    secondary: Literal["label", "soft", "mask", "ignore"] = "label"  # what training makes of secondary labels,
    # with multi_label: a label like the first; one of secondary_target; not known, so that neither answer costs; none
    secondary_target: float = 0.5
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
        _check(0 < self.secondary_target <= 1, "data.secondary_target must be in (0, 1]", self.secondary_target)
        _check(
            self.secondary == "label" or self.multi_label,
            f"data.secondary={self.secondary} needs data.multi_label=true (else secondary labels are left out)",
            self.multi_label,
        )
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
    channels: tuple[int, ...] = ()  # of the blocks of prototypical/*, as [128,256,512,1024]; () = those of the variant
    block_dropout: float = 0.1  # of prototypical/v2: of whole maps in a block, and in front of the embedding
    weights: str = ""  # a run folder or published weights (.h5, .weights.h5, .keras, .pth) to start from; empty = none

    def __post_init__(self) -> None:
        _check(0 <= self.dropout < 1, "model.dropout must be in [0, 1)", self.dropout)
        _check(self.logit_scale >= 0, "model.logit_scale must be 0 (that of the loss) or more", self.logit_scale)
        _check(
            not self.channels or self.name.partition("/")[0] == "prototypical",
            f"model.channels is for model.name=prototypical/...; {self.name} has its sizes in its variants",
            list(self.channels),
        )
        _check(0 <= self.block_dropout < 1, "model.block_dropout must be in [0, 1)", self.block_dropout)
        _check(
            self.block_dropout == 0.1 or (self.name + "/v2").startswith("prototypical/v2"),
            f"model.block_dropout is for model.name=prototypical/v2...; {self.name} has model.dropout",
            self.block_dropout,
        )


@dataclass(frozen=True)
class Shift:
    """The segment moved in time."""

    p: float = 0.0  # chance
    longest: float = 0.5  # share of the segment that it moves by at most, forwards or backwards
    fill: Literal["wrap", "silence"] = "wrap"  # what leaves at one end comes in at the other, or silence does


@dataclass(frozen=True)
class Stretch:
    """Faster or slower at the same pitch: a longer or shorter part of the clip becomes the segment."""

    p: float = 0.0  # chance
    rate: tuple[float, float] = (0.8, 1.25)  # lowest and highest; above 1 is faster


@dataclass(frozen=True)
class Pitch:
    """Higher or lower at the same speed."""

    p: float = 0.0  # chance
    semitones: float = 2.0  # +- uniform


@dataclass(frozen=True)
class Mixup:
    """Another segment under this one."""

    p: float = 0.0  # chance
    alpha: float = 0.4  # the share of the first is of Beta(alpha, alpha)
    on: Literal["waveform", "features"] = "waveform"
    # waveform: shares of the power, the first one's share is .5 or more; features: the weighted mean
    labels: Literal["auto", "union", "shares"] = "auto"  # auto: the union with data.multi_label, else shares
    per: Literal["segment", "batch"] = "segment"  # who has a share (and the chance) of its own


@dataclass(frozen=True)
class CutMix:
    """A rectangle of the features from another segment; the labels are shared by area."""

    p: float = 0.0  # chance
    alpha: float = 1.0  # the area that stays is of Beta(alpha, alpha)
    shape: Literal["box", "time"] = "box"  # time: all bands of some frames


@dataclass(frozen=True)
class Noise:
    """Noise in the background: parts of data.background's recordings, or made where there are none."""

    p: float = 0.0  # chance
    snr_db: tuple[float, float] = (0.0, 20.0)  # lowest and highest level of the segment over the noise
    exponent: tuple[float, float] = (0.0, 0.0)  # of made noise, whose power falls with frequency ** exponent
    # 0 white, 1 pink, 2 brown, -1 blue


@dataclass(frozen=True)
class Filters:
    """Butterworth filters; both at a time are a band-pass."""

    low_pass_p: float = 0.0  # chance
    low_pass_hz: tuple[float, float] = (4000.0, 12_000.0)  # lowest and highest cut-off (-3 dB), uniform in octaves
    high_pass_p: float = 0.0  # chance
    high_pass_hz: tuple[float, float] = (100.0, 2000.0)
    db_per_octave: float = 12.0  # 6 is a filter of order 1


@dataclass(frozen=True)
class AnimalSpot:
    """The chain of ANIMAL-SPOT on the power spectrogram: amplitude, pitch, time, bands, noise."""

    p: float = 0.0  # chance; ANIMAL-SPOT's is 1
    amplitude_db: tuple[int, int] = (-6, 2)  # whole dB
    pitch: tuple[float, float] = (0.5, 1.5)  # factor of all frequencies, uniform in octaves
    time: tuple[float, float] = (0.5, 2.0)  # factor of the duration, uniform in octaves
    snr_db: tuple[int, int] = (-3, 11)  # whole dB over background noise, when there are background recordings


@dataclass(frozen=True)
class Warp:
    """A point of the features moved, what lies beside it stretched and compressed; the ends stay."""

    p: float = 0.0  # chance
    time: float = 0.1  # share of the frames a point moves by at most; 0 = off
    freq: float = 0.0  # share of the bands


@dataclass(frozen=True)
class Masks:
    """Stretches of frames, or of bands, that are wiped out."""

    n: int = 0  # of them; 0 = off
    longest: float = 0.15  # share of the axis: lengths are uniform from 0 to it
    lengths: tuple[int, int] = (0, 0)  # shortest and longest in frames or bands; [0, 0] = as `longest` says
    fewer: bool = False  # the number is drawn too, from 1 to n
    p: float = 1.0  # chance that there are any
    fill: Literal["mean", "zero"] = "mean"  # the segment's mean, or 0
    per: Literal["segment", "batch"] = "segment"  # batch: the same masks for all of a batch


@dataclass(frozen=True)
class FeatureNoise:
    """Gaussian noise on the features."""

    p: float = 0.0  # chance
    deviation: float = 0.01  # in units of the features


@dataclass(frozen=True)
class Levels:
    """Contrast and brightness: features * gain + bias, in 0..1 where the front-end's are (min_max, db_range)."""

    p: float = 0.0  # chance
    gain: tuple[float, float] = (0.8, 1.2)
    bias: tuple[float, float] = (-0.1, 0.1)  # in units of the features


@dataclass(frozen=True)
class Augmentation:
    """Random changes to training segments in the order of this list, all off as they stand; papers: batches/.

    Each is drawn from (seed, epoch, index). `birdnet-fs show augment` shows what they do.
    """

    crop: Literal["random", "active"] = "random"  # "active" prefers the loud parts of a clip
    stretch: Stretch = Stretch()
    pitch: Pitch = Pitch()
    mixup: Mixup = Mixup()  # on=features comes after masks and levels
    shift: Shift = Shift()
    noise: Noise = Noise()
    filters: Filters = Filters()
    eq_db: float = 0.0  # random smooth equaliser, +- dB; 0 = off
    gain_db: float = 0.0  # louder or quieter, +- dB; 0 = off
    pad_p: float = 0.0  # chance of a segment that ends early and is silent from there, as at a recording's end
    animal_spot: AnimalSpot = AnimalSpot()
    features_p: float = 1.0  # chance that a segment's features are changed at all, by what follows up to levels
    freq_shift: int = 0  # +- bands; 0 = off
    warp: Warp = Warp()
    time_masks: Masks = Masks()
    freq_masks: Masks = Masks()
    feature_noise: FeatureNoise = FeatureNoise()
    levels: Levels = Levels()
    cutmix: CutMix = CutMix()

    def __post_init__(self) -> None:
        for key, value in _values(self, "augmentation."):
            name = key.rpartition(".")[2]
            if isinstance(value, tuple):
                _check(value[0] <= value[1], f"{key} must be [lowest, highest]", list(value))
                if name in ("rate", "pitch", "time") or name.endswith("_hz"):
                    _check(value[0] > 0, f"{key} must be above 0", list(value))
            elif name in ("p", "longest", "time", "freq") or name.endswith("_p"):
                _check(0 <= value <= 1, f"{key} must be in [0, 1]", value)
            elif name in ("alpha", "db_per_octave"):
                _check(value > 0, f"{key} must be above 0", value)
            elif not isinstance(value, str):
                _check(value >= 0, f"{key} must be 0 or more", value)
        for name in ("time", "freq"):
            lengths = getattr(self, f"{name}_masks").lengths
            _check(lengths[0] >= 0, f"augmentation.{name}_masks.lengths must be 0 or more", list(lengths))
            warp = getattr(self.warp, name)
            _check(warp < 0.5, f"augmentation.warp.{name} must be below 0.5", warp)
        _check(self.pitch.semitones <= 24, "augmentation.pitch.semitones must be 24 or less", self.pitch.semitones)
        low, high = self.filters.low_pass_hz[0], self.filters.high_pass_hz[1]
        _check(
            not (self.filters.low_pass_p and self.filters.high_pass_p) or high < low,
            "augmentation.filters.high_pass_hz must lie below low_pass_hz, or nothing is left between",
            [list(self.filters.high_pass_hz), list(self.filters.low_pass_hz)],
        )
        _check(
            not (self.animal_spot.p and (self.stretch.p or self.pitch.p)),
            "augmentation.animal_spot changes time and pitch by itself; set augmentation.stretch.p=0 and pitch.p=0",
            [self.stretch.p, self.pitch.p],
        )

    @property
    def mixes(self) -> str:
        """The setting that gives an item several clips' labels; "" when none does."""
        return next((f"augmentation.{name}.p" for name in ("mixup", "cutmix") if getattr(self, name).p), "")

    @property
    def uses_background(self) -> bool:
        """Whether background recordings are heard, where there are any."""
        return bool(self.noise.p or self.animal_spot.p)


@dataclass(frozen=True)
class Training:
    """How the network learns."""

    epochs: int = 30
    batch_size: int = 32
    loss: Literal["auto", "bce", "ce", "focal", "asymmetric", "soft_auc", "arcface", "circle"] = "auto"
    # auto: bce (sigmoid cross-entropy) with data.multi_label, else ce (softmax); focal: either kind
    # asymmetric, soft_auc: with data.multi_label; arcface, circle: for head=cosine
    focal_gamma: float = 2.0  # of focal: how little what is told well counts
    frame_loss: float = 0.0  # of head=sed: share of the loss that the loudest frame's logits have
    class_weights: Literal["none", "inverse", "sqrt_inverse", "effective"] = "none"  # of the loss
    sampling: Literal["all", "inverse", "sqrt_inverse", "effective"] = "all"
    # all: every clip `views` times an epoch; else as many are drawn, with replacement, rare classes more often
    rare_boost: float = 1.0  # what the weight of a class with under 5 % of the clips is multiplied by, in both
    at_least: int = 0  # clips of a class in an epoch: those of a smaller class come again (oversampling); 0 = as it is
    at_most: int = 0  # of a larger class this many are drawn anew every epoch (undersampling); 0 = all
    margin: float = 0.0  # of arcface (radians) and circle; 0 = the loss's own (arcface 0.5, circle 0.4)
    learning_rate: float = 1e-3
    weight_decay: float = 1e-4  # of kernels; decoupled with adamw, else added to the gradient
    optimizer: Literal["adamw", "adam", "sgd"] = "adamw"
    beta1: float = 0.9  # of adamw and adam; of sgd the momentum (Nesterov)
    beta2: float = 0.999  # of adamw and adam
    amsgrad: bool = False  # of adamw and adam
    accumulate: int = 1  # batches whose gradients make one step
    warmup_epochs: float = 1.0  # linear, then what schedule says
    schedule: Literal["cosine", "step", "constant", "onecycle", "plateau"] = "cosine"
    # cosine: half a cosine down to min_learning_rate; step: times step_factor after every step_epochs
    # onecycle: from a tenth up to learning_rate in 30 % of the steps, down to a thousandth; no warm-up of its own
    # plateau: times plateau_factor when what chooses the best epoch has not risen by .001 for plateau_patience epochs
    plateau_factor: float = 0.5
    plateau_patience: int = 4
    min_learning_rate: float = 0.0  # of schedule=cosine
    step_epochs: int = 10  # of schedule=step; this and step_factor as in few-shot V1 (systems.md A)
    step_factor: float = 0.65
    clip_norm: float = 1.0  # global norm of the gradient; 0 = off
    label_smoothing: float = 0.0
    freeze_blocks: int = 0  # blocks from the input on that keep the weights they start with; -1 = all but the head
    layer_decay: float = 1.0  # learning rate of a block / that of the next; the head's is learning_rate; 1 = all alike
    unfreeze_epoch: int = 0  # finished epochs after which the frozen blocks learn too; 0 = never
    ema: float = 0.0  # decay of the weight average that is kept, per step; 0 = off
    swa_epochs: int = 0  # last epochs whose mean weights are kept; 0 = off
    precision: Literal["auto", "float32", "bfloat16", "float16"] = "auto"  # auto: bfloat16 on a GPU, else float32
    device: Literal["auto", "cpu", "cuda"] = "auto"
    keep: Literal["last", "best"] = "last"  # best needs validation clips: val_macro_auroc, with episodes val_acc
    patience: int = 0  # epochs without a better val_macro_auroc (or val_acc) after which it stops; 0 = never
    checkpoints: int = 0  # of the best epochs kept as run folders in checkpoints/, and the last; 0 = none at all
    # without validation clips only the last
    track: Literal["none", "tensorboard", "mlflow", "both"] = "none"  # where metrics go besides history.csv
    views: int = 1  # random crops of every clip in one epoch
    threads: int = 0  # of torch on the CPU; 0 = as torch decides
    workers: int = 0  # processes that prepare batches; 0 = in this one

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size", "views", "step_epochs", "accumulate"):
            _check(getattr(self, name) >= 1, f"training.{name} must be 1 or more", getattr(self, name))
        for name in ("weight_decay", "warmup_epochs", "clip_norm", "threads", "workers", "patience", "checkpoints"):
            _check(getattr(self, name) >= 0, f"training.{name} must be 0 or more", getattr(self, name))
        _check(self.learning_rate > 0, "training.learning_rate must be above 0", self.learning_rate)
        _check(
            0 <= self.min_learning_rate <= self.learning_rate,
            f"training.min_learning_rate must be in [0, {self.learning_rate:g}] (training.learning_rate)",
            self.min_learning_rate,
        )
        _check(0 < self.step_factor <= 1, "training.step_factor must be in (0, 1]", self.step_factor)
        _check(0 < self.plateau_factor < 1, "training.plateau_factor must be between 0 and 1", self.plateau_factor)
        for name in ("beta1", "beta2"):
            _check(0 <= getattr(self, name) < 1, f"training.{name} must be in [0, 1)", getattr(self, name))
        _check(
            not self.amsgrad or self.optimizer != "sgd",
            "training.amsgrad needs training.optimizer=adamw or adam",
            self.optimizer,
        )
        _check(
            not self.unfreeze_epoch or bool(self.freeze_blocks),
            "training.unfreeze_epoch needs training.freeze_blocks",
            self.unfreeze_epoch,
        )
        _check(
            not (self.swa_epochs and self.ema),
            "training.swa_epochs and training.ema are two averages of the weights; set one of them to 0",
            (self.swa_epochs, self.ema),
        )
        _check(
            not (self.swa_epochs and self.keep == "best"),
            "training.swa_epochs averages the last epochs; use training.keep=last",
            self.keep,
        )
        _check(self.focal_gamma >= 1, "training.focal_gamma must be 1 or more", self.focal_gamma)
        _check(0 <= self.frame_loss <= 1, "training.frame_loss must be in [0, 1]", self.frame_loss)
        _check(self.rare_boost >= 1, "training.rare_boost must be 1 (none) or more", self.rare_boost)
        for name in ("at_least", "at_most"):
            _check(getattr(self, name) >= 0, f"training.{name} must be 0 (off) or more clips", getattr(self, name))
        _check(
            not self.at_most or self.at_least <= self.at_most,
            f"training.at_least must not be above at_most ({self.at_most})",
            self.at_least,
        )
        _check(
            self.sampling == "all" or not (self.at_least or self.at_most),
            "training.sampling draws clips by the weight of their class already; set training.at_least=0 and "
            "training.at_most=0, or training.sampling=all",
            self.sampling,
        )
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
            (self.training.keep != "best" and not self.training.patience and self.training.schedule != "plateau")
            or self.data.val_fraction > 0
            or self.data.split in ("table", "70/15/15", "classes"),
            "training.keep=best, patience and schedule=plateau need validation clips: set data.val_fraction (for "
            "example 0.2) or data.split=70/15/15",
            self.data.val_fraction,
        )
        self._check_loss()
        self._check_augmentation()
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
            not self.augmentation.mixes,
            f"Episodes need one class a clip, not a mixture; set {self.augmentation.mixes}=0",
            self.augmentation.mixes,
        )
        t = self.training
        _check(
            t.class_weights == "none" and t.sampling == "all" and not (t.at_least or t.at_most or t.frame_loss),
            "An episode has as many clips of every class; set training.class_weights=none, sampling=all, at_least=0, "
            "at_most=0 and frame_loss=0",
            (t.class_weights, t.sampling, t.at_least, t.at_most, t.frame_loss),
        )
        _check(
            not (self.episodes.n_val or self.episodes.n_test) or self.data.split in ("classes", "table"),
            "Episodes are validated and tested on classes that are not trained on; set data.split=classes or table, or "
            "episodes.n_val=0 and episodes.n_test=0",
            self.data.split,
        )
        _check(
            self.episodes.n_val > 0 or (t.keep != "best" and not t.patience and t.schedule != "plateau"),
            "training.keep=best, patience and schedule=plateau need validation episodes: set episodes.n_val (for "
            "example 200)",
            self.episodes.n_val,
        )
        _check(
            self.training.freeze_blocks >= 0 or self.model.distance == "learnt",
            f"training.freeze_blocks=-1 leaves nothing to learn in episodes with model.distance={self.model.distance}",
            self.training.freeze_blocks,
        )

    def _check_augmentation(self) -> None:
        chosen, spec = self.augmentation, self.frontend
        for name, size in zip(("time", "freq"), spec.shape, strict=True):
            masks = getattr(chosen, f"{name}_masks")
            _check(
                masks.lengths[1] <= size,
                f"augmentation.{name}_masks.lengths must be {size} or less, the {name} axis of the features",
                list(masks.lengths),
            )
        for name in ("low_pass", "high_pass"):
            on, (_, high) = getattr(chosen.filters, f"{name}_p"), getattr(chosen.filters, f"{name}_hz")
            _check(
                not on or high <= spec.sample_rate_hz / 2,
                f"augmentation.filters.{name}_hz must be {spec.sample_rate_hz / 2:g} Hz (half of the rate) or less",
                high,
            )
        _check(
            chosen.noise.exponent == (0.0, 0.0) or not self.data.background,
            "augmentation.noise.exponent is of made noise, and data.background gives recorded noise; set one of them",
            list(chosen.noise.exponent),
        )

    def _check_loss(self) -> None:
        loss, one_label = self.training.loss, not self.data.multi_label
        if loss in ("bce", "asymmetric", "soft_auc"):
            _check(not one_label, f"training.loss={loss} needs data.multi_label=true", self.data.multi_label)
        elif loss not in ("auto", "focal"):
            _check(one_label, f"training.loss={loss} needs data.multi_label=false", self.data.multi_label)
        _check(
            not self.training.frame_loss or self.model.head == "sed",
            "training.frame_loss needs model.head=sed",
            self.model.head,
        )
        weighted = self.training.class_weights != "none"
        if loss in ON_COSINES:
            _check(not weighted, f"training.loss={loss} takes no class_weights; use sampling", loss)
            _check(self.model.head == "cosine", f"training.loss={loss} needs model.head=cosine", self.model.head)
            _check(
                not self.augmentation.mixes,
                f"training.loss={loss} needs one class a clip, not a mixture; set {self.augmentation.mixes}=0",
                self.augmentation.mixes,
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
