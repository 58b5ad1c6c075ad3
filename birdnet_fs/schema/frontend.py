"""The front-end: parameters of the transform from waveform to log-mel features."""

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from birdnet_fs.core.settings import from_dict, to_dict
from birdnet_fs.schema.checks import check, check_largest

# field here -> key in an artifact's JSON; deployed readers rely on these keys and values
ARTIFACT_KEYS = {
    "normalize": "normalise",
    "normalize_when": "normalise_when",
    "normalize_eps": "normalise_eps",
}
ARTIFACT_SIDES = {"center": "centre"}  # values of keep_from

# Upper bounds, so that a stranger's front-end cannot take all memory or time; each is several times the largest use in
# the field, and each total limits what one segment takes.
LARGEST = {
    "segment_s": 3600.0,
    "min_clip_s": 3600.0,
    "preemphasis": 1.0,
    "n_fft": 131_072,  # bins of 0.25 Hz at 32 kHz
    "hop_length": 8_388_608,  # one frame in the longest segment
    "n_mels": 4096,
    "amin": 1e9,
    "top_db": 1000.0,
    "keep_frames": 1_048_576,
    "resize": 65_536,
    "normalize_eps": 1e9,
    "n_channels": 16,
    "pcen_bias": 1e9,
    "pcen_time_constant_s": 3600.0,
    "pcen_eps": 1e9,
}
MAX_SAMPLES = 2**23  # of a segment: 3 minutes at 48 kHz, 17 s at 500 kHz; 32 MB
MAX_STFT = 2**26  # frames x n_fft: half-overlapping frames of the longest segment take an eighth of it
MAX_FEATURES = 2**22  # frames x bands x channels, in every step: 16 MB, which networks multiply by a hundred
MAX_MATRIX = 2**24  # bands x bins of the filter bank, and the matrices that resize: 128 MB in float64
TINIEST = 1e-30  # of pcen_eps: float32 holds 1e-38


@dataclass(frozen=True)
class FrontEnd:
    """Transform from waveform to log-mel features, in the order of the fields (published systems: frontend/presets.py).

    The waveform is float32 in +-1 at `sample_rate_hz`; the features are [n_frames, n_mels], time first.
    Every reduction (maximum, mean, ...) is over one segment, never over a batch.
    """

    preset: str = "custom"  # name of the preset that these values come from
    sample_rate_hz: int = 32_000  # Hz, 1000 to 1,000,000
    segment_s: float = 5.0  # length of the input, seconds; longer is cropped, shorter is zero-padded on the right
    preemphasis: float = 0.0  # y[t] = x[t] - preemphasis * x[t-1], first sample unchanged; 0 = off
    n_fft: int = 1024  # length of the FFT, samples; even, 16 or more
    win_length: int = 1024  # length of the periodic Hann window, samples, 1 to n_fft; centered in n_fft
    hop_length: int = 512  # distance of STFT frames, samples, 1 or more
    pad_mode: Literal["constant", "reflect", "none"] = "constant"  # n_fft // 2 samples at both ends; none: no padding
    stft_scale: Literal["none", "window_power"] = "none"  # window_power: divided by sqrt(sum(window ** 2))
    bands: Literal["mel_slaney", "mel_htk", "linear", "spectrum"] = "mel_slaney"  # filter bank on the power spectrum
    # mel_slaney: Slaney scale and area norm (librosa); mel_htk: HTK scale, triangles of height 1
    # linear: the nearest FFT bin for each of n_mels equally spaced frequencies from fmin_hz to fmax_hz
    # spectrum: no filter bank, all n_fft / 2 + 1 bins; for networks with a filter bank of their own
    n_mels: int = 128  # number of bands, 1 or more
    fmin_hz: float = 50.0  # lower edge of the lowest band, Hz, 0 or more
    fmax_hz: float = 14_000.0  # upper edge of the highest band, Hz, up to sample_rate_hz / 2
    compression: Literal["db", "log", "pcen", "none"] = "db"  # db: 10 log10; log: natural logarithm; pcen: see below
    amin: float = 1e-10  # floor of the power before the logarithm, above 0 (db, log)
    ref: Literal["one", "max"] = "one"  # power at 0 dB: 1.0, or the maximum of the segment (db, log)
    top_db: float = 80.0  # floor relative to the maximum of the segment, dB; 0 = no floor (db, log)
    # pcen: (E / (eps + M) ** gain + bias) ** power - bias ** power, with E = scale * energy of a band and its running
    # mean M[t] = (1 - b) * M[t - 1] + b * E[t]; formula and defaults are those of librosa.pcen, see frontend/pcen.py
    pcen_gain: float = 0.98  # strength of the gain control, 0 (M is not used) to 2; 1 = the level is removed
    pcen_bias: float = 2.0  # above 0; smaller values amplify faint sounds more
    pcen_power: float = 0.5  # 0 to 2; smaller values compress more; 0 = log(1 + E / (eps + M) ** gain)
    pcen_time_constant_s: float = 0.4  # time constant of M, seconds, above 0; determines b
    pcen_eps: float = 1e-6  # above 0, in units of E; bands far below it give 0
    pcen_scale: float = 2.0**31  # above 0, up to 2 ** 64; 2 ** 31 is librosa's advice for waveforms in +-1
    pcen_start: Literal["one", "first"] = "one"  # M before the first frame: 1.0 (librosa), or E of the first frame
    normalize_when: Literal["last", "first", "clip"] = "last"  # last: after keep_frames and resize; first: before them
    # clip: before them, over the frames of the clip alone (ref and top_db too): samples at the end of a segment that
    # are exactly 0 are padding, and the normalized features behind the clip are 0
    min_clip_s: float = 0.0  # shortest clip, seconds: a shorter one counts with zeros up to it (normalize_when=clip)
    keep_frames: int = 0  # number of frames to crop or zero-pad to; 0 = all
    keep_from: Literal["start", "center"] = "start"  # start: crop and pad at the end; center: on both sides
    resize: tuple[int, int] = (0, 0)  # (n_frames, n_mels) after resizing; (0, 0) = no resizing
    resize_method: Literal["bilinear", "lanczos5"] = "bilinear"  # half-pixel centers, no antialiasing
    normalize: Literal["none", "min_max", "z_score", "db_range"] = "none"  # per segment
    # min_max: (x - min) / (max - min + normalize_eps); a constant segment gives 0
    # z_score: (x - mean) / std; unchanged when std <= normalize_eps
    # db_range: clip((x + 80) / 100, 0, 1)
    normalize_eps: float = 0.0  # see normalize
    n_channels: int = 1  # number of copies of the features in the network input, 1 or more

    def __post_init__(self) -> None:
        check(
            1000 <= self.sample_rate_hz <= 1_000_000,
            "frontend.sample_rate_hz must be in 1000..1000000",
            self.sample_rate_hz,
        )
        check_largest(self, "frontend.", LARGEST)
        check(self.segment_s > 0, "frontend.segment_s must be above 0 s", self.segment_s)
        check(self.n_fft >= 16, "frontend.n_fft must be 16 or more samples", self.n_fft)
        check(self.n_fft % 2 == 0, "frontend.n_fft must be even", self.n_fft)
        check(
            0 < self.win_length <= self.n_fft,
            f"frontend.win_length must be in 1..n_fft ({self.n_fft}) samples",
            self.win_length,
        )
        check(self.hop_length > 0, "frontend.hop_length must be 1 or more samples", self.hop_length)
        check(
            0 <= self.fmin_hz < self.fmax_hz <= self.sample_rate_hz / 2,
            "frontend.fmin_hz < fmax_hz <= sample_rate_hz / 2 "
            f"({self.sample_rate_hz / 2:g} Hz) must hold; set frontend.fmin_hz or frontend.fmax_hz",
            (self.fmin_hz, self.fmax_hz),
        )
        check(self.n_mels >= 1, "frontend.n_mels must be 1 or more", self.n_mels)
        check(self.amin > 0, "frontend.amin must be above 0", self.amin)
        check(self.normalize_eps >= 0, "frontend.normalize_eps must be 0 or more", self.normalize_eps)
        check(self.top_db >= 0, "frontend.top_db must be 0 (no limit) or more dB", self.top_db)
        check(self.keep_frames >= 0, "frontend.keep_frames must be 0 (all) or more", self.keep_frames)
        check(
            self.resize == (0, 0) or min(self.resize) > 0,
            "frontend.resize must be [n_frames, n_mels], both above 0, or [0, 0]",
            self.resize,
        )
        check(self.n_channels >= 1, "frontend.n_channels must be 1 or more", self.n_channels)
        whole = (self.n_fft // 2 + 1, 0.0, self.sample_rate_hz / 2)
        check(
            self.bands != "spectrum" or (self.n_mels, self.fmin_hz, self.fmax_hz) == whole,
            "frontend.bands=spectrum has all FFT bins: frontend.n_mels, fmin_hz and fmax_hz must be "
            f"{whole[0]}, 0 and {whole[2]:g}",
            (self.n_mels, self.fmin_hz, self.fmax_hz),
        )
        self._check_pcen()
        self._check_clip()
        check(
            self.n_samples >= self.min_samples,
            f"frontend.segment_s must be {self.min_samples / self.sample_rate_hz:g} s or more "
            f"({'min_clip_s' if self.min_clip_s else 'one frame'})",
            self.segment_s,
        )
        self._check_totals()

    def _check_totals(self) -> None:
        """Refuse a front-end of which one segment takes too much, before anything of its size is made."""
        n_samples, n_frames = self.n_samples, self.n_frames_stft
        check(
            n_samples <= MAX_SAMPLES,
            f"frontend.segment_s must be {MAX_SAMPLES / self.sample_rate_hz:g} s or less ({MAX_SAMPLES} samples)",
            self.segment_s,
        )
        check(
            n_frames * self.n_fft <= MAX_STFT,
            f"frontend.n_fft times the STFT frames of a segment must be {MAX_STFT} or less; set a longer "
            "frontend.hop_length or a shorter frontend.segment_s",
            f"{self.n_fft} x {n_frames}",
        )
        kept = self.keep_frames or n_frames
        sizes = ((n_frames, self.n_mels), (kept, self.n_mels), (*self.shape, self.n_channels))
        for size in sizes:
            check(
                math.prod(size) <= MAX_FEATURES,
                f"The features of a segment must be {MAX_FEATURES} numbers or fewer; set fewer frontend.n_mels or "
                "n_channels, a longer hop_length, or smaller keep_frames and resize",
                " x ".join(map(str, size)),
            )
        matrices = [(self.n_mels, self.n_fft // 2 + 1)]
        if self.resize != (0, 0):
            matrices += [(kept, self.resize[0]), (self.n_mels, self.resize[1])]
        for rows, columns in matrices:
            check(
                rows * columns <= MAX_MATRIX,
                f"The matrices of the front-end must have {MAX_MATRIX} numbers or fewer (frontend.n_mels x (n_fft / 2 "
                "+ 1), and frames or bands before x after frontend.resize)",
                f"{rows} x {columns}",
            )

    def _check_pcen(self) -> None:
        default = {f.name: f.default for f in dataclasses.fields(self)}
        if self.compression != "pcen":
            for name in (name for name in default if name.startswith("pcen_")):
                check(
                    getattr(self, name) == default[name],
                    f"frontend.{name} needs frontend.compression=pcen; it must be {default[name]!r} with "
                    f"{self.compression}",
                    getattr(self, name),
                )
            return
        for name, allowed in (("amin", ()), ("ref", ()), ("top_db", (0,))):
            check(
                getattr(self, name) in (default[name], *allowed),
                f"frontend.{name} is for a logarithm and must be {default[name]!r} with frontend.compression=pcen",
                getattr(self, name),
            )
        check(
            self.normalize != "db_range",
            "frontend.normalize=db_range is for dB; set none, min_max or z_score with frontend.compression=pcen",
            self.normalize,
        )
        for name in ("pcen_bias", "pcen_time_constant_s", "pcen_eps"):
            check(getattr(self, name) > 0, f"frontend.{name} must be above 0", getattr(self, name))
        check(self.pcen_eps >= TINIEST, f"frontend.pcen_eps must be {TINIEST:g} or more", self.pcen_eps)
        for name in ("pcen_gain", "pcen_power"):
            check(0 <= getattr(self, name) <= 2, f"frontend.{name} must be in [0, 2]", getattr(self, name))
        check(0 < self.pcen_scale <= 2.0**64, "frontend.pcen_scale must be above 0, up to 2 ** 64", self.pcen_scale)
        check(
            self.pcen_eps**-self.pcen_gain <= 1e15,
            "frontend.pcen_eps ** -pcen_gain must be 1e15 or less in float32; set a larger frontend.pcen_eps",
            self.pcen_eps,
        )

    def _check_clip(self) -> None:
        """Refuse settings for which the features of a padded clip are not those of the clip with zeros behind."""
        if self.normalize_when != "clip":
            check(self.min_clip_s == 0, "frontend.min_clip_s needs frontend.normalize_when=clip", self.min_clip_s)
            return
        check(self.min_clip_s >= 0, "frontend.min_clip_s must be 0 or more seconds", self.min_clip_s)
        for name, allowed in (
            ("normalize", ("z_score", "min_max", "none")),
            ("pad_mode", ("constant",)),
            ("keep_from", ("start",)),
            ("preemphasis", (0,)),
        ):
            value = getattr(self, name)
            words = " or ".join(map(str, allowed))
            check(value in allowed, f"frontend.{name} must be {words} with frontend.normalize_when=clip", value)

    def to_artifact(self) -> dict[str, Any]:
        """Convert to plain JSON values under the keys of an artifact's JSON."""
        plain = {ARTIFACT_KEYS.get(name, name): value for name, value in to_dict(self).items()}
        if self.normalize_when != "clip":  # readers of earlier artifacts do not have this key
            del plain["min_clip_s"]
        return {**plain, "keep_from": ARTIFACT_SIDES.get(self.keep_from, self.keep_from)}

    @classmethod
    def from_artifact(cls, value: Mapping[str, Any]) -> "FrontEnd":
        """Create a front-end from an artifact's JSON; an unknown key or a value of the wrong type raises UserError.

        Args:
            value: Output of `to_artifact`; missing keys have their defaults.

        Returns:
            The front-end.
        """
        names = {old: new for new, old in ARTIFACT_KEYS.items()}
        sides = {old: new for new, old in ARTIFACT_SIDES.items()}
        plain = {names.get(key, key): v for key, v in value.items()}
        if "keep_from" in plain:
            plain["keep_from"] = sides.get(plain["keep_from"], plain["keep_from"])
        return from_dict(cls, plain, "frontend.")

    @property
    def n_samples(self) -> int:
        """Samples in one segment."""
        return round(self.segment_s * self.sample_rate_hz)

    @property
    def min_samples(self) -> int:
        """Samples of the shortest waveform: one that yields a frame and lasts `min_clip_s`."""
        one_frame = {"none": self.n_fft, "reflect": self.n_fft // 2 + 1, "constant": 1}[self.pad_mode]
        return max(one_frame, round(self.min_clip_s * self.sample_rate_hz))

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
