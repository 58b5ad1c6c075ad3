"""Small audio files of every format that libsndfile writes, and seeded mutations of their bytes."""

import io
from dataclasses import dataclass
from typing import Any

import numpy as np
import soundfile as sf

RATE = 16_000
N_SAMPLES = 9_600
LONGER = {"OGG": 100_000, "FLAC": 24_000, "MP3": 24_000}  # samples of containers that have pages and frames
NOT_WRITTEN = ("RAW", "SD2", "XI")  # without a header, with a second file beside it, and as XI that cannot be read back
NOT_READ = {"DWVW_12", "DWVW_16", "DWVW_24"}  # libsndfile cannot read back what it wrote
STATES_LENGTH = (  # containers that state the length or the end of their samples
    "WAV",
    "WAVEX",
    "RF64",
    "AIFF",
    "AU",
    "W64",
    "CAF",
    "FLAC",
    "OGG",
    "MP3",
    "NIST",
    "VOC",
    "SVX",
    "AVR",
    "WVE",
    "MAT4",
    "MAT5",
    "MPC2K",
    "SDS",
    "HTK",
)
NOT_STATED = ("PAF", "PVF", "IRCAM", "MP3_BARE")  # MP3_BARE: without Xing or VBRI header
BLOCK = {
    "FLAC": 4096,
    "VORBIS": 8192,
    "OPUS": 2880,
    "MPEG_LAYER_III": 2 * 1152,
    "ALAC": 4096,
    "ADPCM": 2048,
    "GSM610": 640,
}
BLOCK |= {"G72": 480, "SDS": 60}  # samples of one block of a codec or container; 1 for others


@dataclass(frozen=True)
class Seed:
    """An intact file."""

    container: str  # libsndfile's name, or MP3_BARE
    subtype: str
    raw: bytes
    rate: int  # as stored; some containers round it
    n_samples: int  # per channel
    block: int  # samples that decode together

    @property
    def name(self) -> str:
        return f"{self.container.lower()}-{self.subtype.lower()}"

    @property
    def states_length(self) -> bool:
        return self.container in STATES_LENGTH


def signal(n: int) -> np.ndarray:
    """A tone over noise, float32 [n]."""
    t = np.arange(n) / RATE
    noise = np.random.default_rng(0).standard_normal(n)
    return (0.3 * np.sin(2 * np.pi * 2000 * t) + 0.05 * noise).astype(np.float32)


def encoded(container: str, subtype: str, **options: Any) -> bytes:
    """The signal in one format."""
    file = io.BytesIO()
    with sf.SoundFile(file, "w", RATE, 1, format=container, subtype=subtype, **options) as out:
        out.write(signal(LONGER.get(container, N_SAMPLES)))
    return file.getvalue()


def without_info_frame(raw: bytes) -> bytes:
    """An MP3 file of libsndfile without its first frame, which holds the Xing or Info header."""
    return raw[raw.index(raw[:2], 4) :]


def make_seeds() -> list[Seed]:
    """Every container and subtype that libsndfile writes and reads; Ogg, FLAC and MP3 with several bit rates."""
    found = []
    for container in sf.available_formats():
        for subtype in sf.available_subtypes(container):
            if container in NOT_WRITTEN or subtype in NOT_READ:
                continue
            variants: list[dict[str, Any]] = [{}]
            if container in ("OGG", "FLAC"):
                variants = [{"compression_level": level} for level in (0.0, 0.4, 0.7, 1.0)]
            if container == "MP3":
                modes = ("CONSTANT", "AVERAGE", "VARIABLE")
                variants = [{"bitrate_mode": mode, "compression_level": 0.5} for mode in modes]
            for variant in variants:
                try:
                    raw = encoded(container, subtype, **variant)
                except sf.LibsndfileError:
                    continue  # listed, but not written
                found.append((container, subtype, raw))
                if container == "MP3":
                    found.append(("MP3_BARE", subtype, without_info_frame(raw)))
    seeds = []
    for container, subtype, raw in found:
        names = (container, subtype)
        block = next((n for part, n in BLOCK.items() if any(part in name for name in names)), 1)
        n_samples = LONGER.get(container.removesuffix("_BARE"), N_SAMPLES)
        with sf.SoundFile(io.BytesIO(raw)) as stored:
            seeds.append(Seed(container, subtype, raw, stored.samplerate, n_samples, block))
    return seeds


ID3 = b"ID3\4\0\0" + bytes([0, 0, 3, 0]) + bytes(384)
ID3V1 = b"TAG" + b"x" * 125
APE = b"APETAGEX" + (2000).to_bytes(4, "little") + (64).to_bytes(4, "little") + (1).to_bytes(4, "little") + bytes(12)
KINDS = ("cut", "cut", "cut", "flip", "zeros", "header", "insert", "delete", "join", "tag", "several")


def mutate(raw: bytes, rng: np.random.Generator, other: bytes) -> tuple[str, bytes]:
    """One seeded mutation: its kind and the new bytes.

    Args:
        raw: Bytes of an intact file.
        rng: Source of randomness.
        other: Bytes of a second file, of the same format, to join.
    """
    kind = str(rng.choice(KINDS))
    if kind == "several":
        for _ in range(int(rng.integers(2, 5))):
            raw = _mutated(str(rng.choice(KINDS[:-1])), raw, rng, other)
        return kind, raw
    return kind, _mutated(kind, raw, rng, other)


def _mutated(kind: str, raw: bytes, rng: np.random.Generator, other: bytes) -> bytes:
    data = bytearray(raw)
    at = int(rng.integers(0, max(1, len(data))))
    n = int(rng.choice([1, 2, 4, 8, 300, 3000]))
    match kind:
        case "cut":
            return raw[: max(1, at)]
        case "flip":
            for place in rng.integers(0, max(1, len(data)), int(rng.integers(1, 9))):
                if len(data):
                    data[int(place)] ^= 1 << int(rng.integers(0, 8))
        case "zeros":
            data[at : at + n] = bytes(len(data[at : at + n]))
        case "header":
            place = int(rng.integers(0, max(1, min(len(data), 200))))
            value = [rng.bytes(4), b"\xff" * 4, bytes(4), b"\x7f\xff\xff\xff", b"\xff\xff\xff\x7f"][
                int(rng.integers(0, 5))
            ]
            data[place : place + 4] = value
        case "insert":
            data[at:at] = rng.bytes(n)
        case "delete":
            del data[at : at + n]
        case "join":
            return raw + other
        case "tag":
            return [ID3 + raw, raw + ID3V1, raw + APE][int(rng.integers(0, 3))]
    return bytes(data)
