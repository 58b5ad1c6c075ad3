"""Recordings of all kinds as clips, a cache for them, and comparison with waveforms decoded on the fly.

As a script, reads all clips from one cache and prints what differs from the decoded ones; it may be killed at any time.
"""

import os
import sys
from pathlib import Path

import numpy as np
import soundfile

from birdnet_fs.batches.cache.folder import CacheFolder
from birdnet_fs.batches.cache.waveforms import CachedWaveforms
from birdnet_fs.data.manifest import Clip
from birdnet_fs.data.waveforms import Waveforms

RATE = 16_000
GB = 1_000_000_000


def write_recordings(folder: Path, seed: int = 0) -> list[Clip]:
    """Write recordings of several formats and rates, broken and silent ones among them, and return their clips."""
    rng = np.random.default_rng(seed)
    folder.mkdir(parents=True, exist_ok=True)

    def noise(seconds: float, rate: int = RATE, n_channels: int = 1) -> np.ndarray:
        return rng.uniform(-0.5, 0.5, (round(seconds * rate), n_channels))

    soundfile.write(folder / "pcm16.wav", noise(2), RATE, subtype="PCM_16")
    soundfile.write(folder / "pcm8.wav", noise(1), RATE, subtype="PCM_U8")
    soundfile.write(folder / "pcm24.wav", noise(1), RATE, subtype="PCM_24")
    soundfile.write(folder / "float.wav", noise(1), RATE, subtype="FLOAT")
    soundfile.write(folder / "other_rate.wav", noise(1, 22_050), 22_050, subtype="PCM_16")
    soundfile.write(folder / "stereo.wav", noise(1, n_channels=2), RATE, subtype="PCM_16")
    soundfile.write(folder / "a.flac", noise(1), RATE, subtype="PCM_16")
    soundfile.write(folder / "b.ogg", noise(1.5), RATE)
    soundfile.write(folder / "silent.wav", np.zeros(RATE), RATE, subtype="PCM_16")
    soundfile.write(folder / "loudest.wav", np.array([-32768, 32767] * 500, np.int16), RATE, subtype="PCM_16")
    data = (folder / "pcm16.wav").read_bytes()
    (folder / "truncated.wav").write_bytes(data[: len(data) // 2])
    (folder / "broken.wav").write_bytes(b"no audio at all")
    (folder / "empty.wav").write_bytes(b"")
    clips = [Clip(path, labels=(path.stem,), source=f"row {i}") for i, path in enumerate(sorted(folder.iterdir()))]
    clips += [
        Clip(folder / "pcm16.wav", 0.25, 0.75, labels=("x",)),
        Clip(folder / "b.ogg", 1.0, 9.0, labels=("past its end",)),
        Clip(folder / "b.ogg", 5.0, 9.0, labels=("beyond its end",)),
        Clip(folder / "missing.wav", labels=("missing",)),
        Clip(folder / "pcm16.wav", labels=("twice",)),
    ]
    return clips


def cache_in(folder: Path, limit_bytes: int = GB) -> CacheFolder:
    """The cache of the tests."""
    return CacheFolder(folder, limit_bytes)


def differences(found: Waveforms, wanted: Waveforms) -> list[str]:
    """What differs between two sequences of waveforms, to the last bit; [] when nothing does."""
    names = [name for name in ("clips", "durations_s") if getattr(found, name) != getattr(wanted, name)]
    names += ["ledger"] * (found.ledger.rows != wanted.ledger.rows)
    if len(found) != len(wanted):
        return [*names, "length"]
    for i in range(len(wanted)):
        one, two = found[i], wanted[i]
        if one.dtype != np.float32 or one.shape != two.shape or not np.array_equal(one.view("i4"), two.view("i4")):
            names.append(f"clip {i}")
    return names


if __name__ == "__main__":
    recordings, place, start = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
    own = [Clip(path) for path in sorted(recordings.iterdir())]
    own = own[start:] + own[:start]  # every process begins with another recording
    while True:
        print("read", differences(CachedWaveforms(own, RATE, cache_in(place)), Waveforms(own, RATE)), flush=True)
        if os.environ.get("ONCE"):
            break
