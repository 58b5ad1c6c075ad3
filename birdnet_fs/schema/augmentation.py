"""Data augmentation: random changes to training segments and their features."""

from dataclasses import dataclass
from typing import Literal

from birdnet_fs.schema.checks import check, values

# upper bounds of absolute values by the last part of the key; above, a segment is silence or noise only, or the work
# of a step has no bound
LARGEST = {
    "rate": 20.0,  # of a stretch
    "pitch": 20.0,
    "time": 20.0,
    "alpha": 1e6,
    "snr_db": 300.0,  # float32 holds about 150 dB
    "exponent": 20.0,
    "low_pass_hz": 1e6,
    "high_pass_hz": 1e6,
    "db_per_octave": 240.0,  # order 40
    "amplitude_db": 300.0,
    "n": 1000,  # masks
    "lengths": 1_048_576,
    "deviation": 1e6,
    "gain": 1e6,
    "bias": 1e6,
    "eq_db": 300.0,
    "gain_db": 300.0,
    "freq_shift": 4096,
}
SMALLEST_FACTOR = 0.05  # of speed, frequency and duration: a part of twenty segments becomes one


@dataclass(frozen=True)
class Shift:
    """Time shift of the segment."""

    p: float = 0.0  # probability, 0..1
    longest: float = 0.5  # largest shift in either direction as a fraction of the segment, 0..1
    fill: Literal["wrap", "silence"] = "wrap"  # wrap: circular shift; silence: the gap is filled with zeros


@dataclass(frozen=True)
class Stretch:
    """Time stretch at constant pitch: a longer or shorter part of the clip becomes the segment."""

    p: float = 0.0  # probability, 0..1
    rate: tuple[float, float] = (0.8, 1.25)  # lowest and highest factor of the speed, above 0; above 1 is faster


@dataclass(frozen=True)
class Pitch:
    """Pitch shift at constant speed."""

    p: float = 0.0  # probability, 0..1
    semitones: float = 2.0  # largest shift in either direction, 0..24; uniform


@dataclass(frozen=True)
class Mixup:
    """Mixup: a segment is mixed with another one; the mixing weight of the first is drawn from Beta(alpha, alpha)."""

    p: float = 0.0  # probability, 0..1
    alpha: float = 0.4  # parameter of the Beta distribution, above 0
    on: Literal["waveform", "features"] = "waveform"
    # waveform: the weight is a fraction of the power, 0.5 or more for the first segment; features: weighted mean
    labels: Literal["auto", "union", "shares"] = "auto"
    # union: the labels of both segments; shares: both, multiplied by their weights
    # auto: union with data.multi_label, else shares
    per: Literal["segment", "batch"] = "segment"  # one random draw per segment, or one for all segments of a batch


@dataclass(frozen=True)
class CutMix:
    """CutMix: a rectangle of the features comes from another segment; the labels are weighted by area."""

    p: float = 0.0  # probability, 0..1
    alpha: float = 1.0  # the fraction of the area that is kept is drawn from Beta(alpha, alpha); above 0
    shape: Literal["box", "time"] = "box"  # box: a rectangle in time and frequency; time: all bands of some frames


@dataclass(frozen=True)
class Noise:
    """Background noise: excerpts of the recordings of data.background, or synthetic noise without such recordings."""

    p: float = 0.0  # probability, 0..1
    snr_db: tuple[float, float] = (0.0, 20.0)  # lowest and highest signal-to-noise ratio, dB; uniform
    exponent: tuple[float, float] = (0.0, 0.0)  # lowest and highest k of synthetic noise with power ~ frequency ** -k
    # 0 white, 1 pink, 2 brown, -1 blue


@dataclass(frozen=True)
class Filters:
    """Butterworth low-pass and high-pass filters; both together are a band-pass."""

    low_pass_p: float = 0.0  # probability of the low-pass, 0..1
    low_pass_hz: tuple[float, float] = (4000.0, 12_000.0)  # lowest and highest cutoff (-3 dB), Hz; log-uniform
    high_pass_p: float = 0.0  # probability of the high-pass, 0..1
    high_pass_hz: tuple[float, float] = (100.0, 2000.0)  # lowest and highest cutoff (-3 dB), Hz; log-uniform
    db_per_octave: float = 12.0  # slope, above 0; 6 dB per octave is order 1


@dataclass(frozen=True)
class AnimalSpot:
    """The augmentation chain of ANIMAL-SPOT on the power spectrogram: amplitude, pitch, time, bands, noise."""

    p: float = 0.0  # probability, 0..1; ANIMAL-SPOT uses 1
    amplitude_db: tuple[int, int] = (-6, 2)  # lowest and highest gain, whole dB
    pitch: tuple[float, float] = (0.5, 1.5)  # lowest and highest factor of all frequencies; log-uniform
    time: tuple[float, float] = (0.5, 2.0)  # lowest and highest factor of the duration; log-uniform
    snr_db: tuple[int, int] = (-3, 11)  # lowest and highest signal-to-noise ratio, whole dB; needs data.background


@dataclass(frozen=True)
class Warp:
    """Time and frequency warp: one point of an axis is moved and its two sides are stretched; the ends are fixed."""

    p: float = 0.0  # probability, 0..1
    time: float = 0.1  # largest shift as a fraction of the frames, 0 (off) to below 0.5
    freq: float = 0.0  # largest shift as a fraction of the bands, 0 (off) to below 0.5


@dataclass(frozen=True)
class Masks:
    """SpecAugment masks: intervals of consecutive frames, or of bands, are overwritten."""

    n: int = 0  # number of masks; 0 = off
    longest: float = 0.15  # largest length as a fraction of the axis, 0..1; lengths are uniform from 0
    lengths: tuple[int, int] = (0, 0)  # shortest and longest mask, frames or bands; [0, 0] = use `longest`
    fewer: bool = False  # draw the number of masks too, from 1 to n
    p: float = 1.0  # probability of any mask, 0..1
    fill: Literal["mean", "zero"] = "mean"  # value under a mask: the mean of the segment, or 0
    per: Literal["segment", "batch"] = "segment"  # masks drawn for each segment, or once for all segments of a batch


@dataclass(frozen=True)
class FeatureNoise:
    """Gaussian noise on the features."""

    p: float = 0.0  # probability, 0..1
    deviation: float = 0.01  # standard deviation in units of the features, 0 or more


@dataclass(frozen=True)
class Levels:
    """Contrast and brightness: features * gain + bias, clipped to 0..1 for normalization min_max and db_range."""

    p: float = 0.0  # probability, 0..1
    gain: tuple[float, float] = (0.8, 1.2)  # lowest and highest factor; uniform
    bias: tuple[float, float] = (-0.1, 0.1)  # lowest and highest offset in units of the features; uniform


@dataclass(frozen=True)
class Augmentation:
    """Random changes to training segments, applied in the order of the fields; all are off by default.

    The random numbers depend on (seed, epoch, index) only. The papers are cited in batches/augment/.
    `birdnet-fs show augment` shows examples.
    """

    crop: Literal["random", "active", "center"] = "random"  # place of the segment in its clip
    # active: loud parts of a clip are drawn more often; center: always the middle
    stretch: Stretch = Stretch()
    pitch: Pitch = Pitch()
    mixup: Mixup = Mixup()  # with on=features it is applied after masks and levels
    shift: Shift = Shift()
    noise: Noise = Noise()
    filters: Filters = Filters()
    eq_db: float = 0.0  # random smooth equalizer: largest gain or attenuation, dB; 0 = off
    gain_db: float = 0.0  # random gain: largest change of the level in either direction, dB; 0 = off
    pad_p: float = 0.0  # probability of zeros from a random time to the end, as in the last window of a recording
    animal_spot: AnimalSpot = AnimalSpot()
    features_p: float = 1.0  # probability that any change from freq_shift to levels is applied to a segment, 0..1
    freq_shift: int = 0  # largest shift along frequency in either direction, bands; 0 = off
    warp: Warp = Warp()
    time_masks: Masks = Masks()
    freq_masks: Masks = Masks()
    feature_noise: FeatureNoise = FeatureNoise()
    levels: Levels = Levels()
    cutmix: CutMix = CutMix()

    def __post_init__(self) -> None:
        for key, value in values(self, "augmentation."):
            name = key.rpartition(".")[2]
            numbers = value if isinstance(value, tuple) else (value,)
            if name in LARGEST:
                fits = all(abs(number) <= LARGEST[name] for number in numbers)
                check(fits, f"{key} must be {LARGEST[name]:g} or less", value)
            if isinstance(value, tuple):
                check(value[0] <= value[1], f"{key} must be [lowest, highest]", list(value))
                if name in ("rate", "pitch", "time") or name.endswith("_hz"):
                    check(value[0] > 0, f"{key} must be above 0", list(value))
                if name in ("rate", "pitch", "time"):
                    check(value[0] >= SMALLEST_FACTOR, f"{key} must be {SMALLEST_FACTOR:g} or more", list(value))
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
            "augmentation.filters.high_pass_hz must be below low_pass_hz, or no frequency passes both filters",
            [list(self.filters.high_pass_hz), list(self.filters.low_pass_hz)],
        )
        check(
            not (self.animal_spot.p and (self.stretch.p or self.pitch.p)),
            "augmentation.animal_spot changes time and pitch by itself; set augmentation.stretch.p=0 and pitch.p=0",
            [self.stretch.p, self.pitch.p],
        )

    @property
    def mixes(self) -> str:
        """Key of the first active setting that mixes several clips in one item; "" when none is active."""
        return next((f"augmentation.{name}.p" for name in ("mixup", "cutmix") if getattr(self, name).p), "")

    @property
    def waveform_changes(self) -> tuple[str, ...]:
        """Settings that must be made for the waveform of a segment to be the same in every epoch, as "noise.p=0"."""
        off = ["stretch.p", "pitch.p", "shift.p", "noise.p", "filters.low_pass_p", "filters.high_pass_p"]
        off += ["eq_db", "gain_db", "pad_p", "animal_spot.p"]
        active = dict(values(self, ""))
        found = [f"augmentation.{key}=0" for key in off if active[key]]
        if self.mixup.p and self.mixup.on == "waveform":
            found.insert(0, "augmentation.mixup.on=features")
        return ("augmentation.crop=center", *found) if self.crop != "center" else tuple(found)

    @property
    def uses_background(self) -> bool:
        """Whether background recordings are used when data.background is set."""
        return bool(self.noise.p or self.animal_spot.p)
