"""Random changes to training segments."""

from dataclasses import dataclass
from typing import Literal

from birdnet_fs.schema.checks import check, values


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
    eq_db: float = 0.0  # random smooth equalizer, +- dB; 0 = off
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
        for key, value in values(self, "augmentation."):
            name = key.rpartition(".")[2]
            if isinstance(value, tuple):
                check(value[0] <= value[1], f"{key} must be [lowest, highest]", list(value))
                if name in ("rate", "pitch", "time") or name.endswith("_hz"):
                    check(value[0] > 0, f"{key} must be above 0", list(value))
            elif name in ("p", "longest", "time", "freq") or name.endswith("_p"):
                check(0 <= value <= 1, f"{key} must be in [0, 1]", value)
            elif name in ("alpha", "db_per_octave"):
                check(value > 0, f"{key} must be above 0", value)
            elif not isinstance(value, str):
                check(value >= 0, f"{key} must be 0 or more", value)
        for name in ("time", "freq"):
            lengths = getattr(self, f"{name}_masks").lengths
            check(lengths[0] >= 0, f"augmentation.{name}_masks.lengths must be 0 or more", list(lengths))
            warp = getattr(self.warp, name)
            check(warp < 0.5, f"augmentation.warp.{name} must be below 0.5", warp)
        check(self.pitch.semitones <= 24, "augmentation.pitch.semitones must be 24 or less", self.pitch.semitones)
        low, high = self.filters.low_pass_hz[0], self.filters.high_pass_hz[1]
        check(
            not (self.filters.low_pass_p and self.filters.high_pass_p) or high < low,
            "augmentation.filters.high_pass_hz must lie below low_pass_hz, or nothing is left between",
            [list(self.filters.high_pass_hz), list(self.filters.low_pass_hz)],
        )
        check(
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
