"""docs/recordings.md: damage is detected, or is not, as it says, and its flags are those of the reader."""

import io
import re
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf

from birdnet_fs.audio import read as audio

GUIDE = (Path(__file__).parents[1] / "docs" / "recordings.md").read_text(encoding="utf-8")
RATE = 16_000


@pytest.fixture(scope="module")
def waveform() -> np.ndarray:
    noise = np.random.default_rng(0).standard_normal(8 * RATE)
    return (0.3 * np.sin(2 * np.pi * 2000 * np.arange(8 * RATE) / RATE) + 0.05 * noise).astype(np.float32)


@pytest.mark.parametrize(
    ("kind", "damage", "status"),
    [
        ("wav", "zeros", "ok"),
        ("aiff", "zeros", "ok"),
        ("flac", "zeros", "partial"),
        ("ogg", "zeros", "partial"),
        ("mp3", "zeros", "partial"),  # frames are lost, and their number is stated
        ("mp3", "bit", "ok"),
        ("flac", "bit", "partial"),
        ("ogg", "bit", "partial"),
        ("wav", "cut", "partial"),
        ("mp3", "cut", "partial"),
    ],
)
def test_damage_is_detected_as_the_guide_says(
    kind: str, damage: str, status: str, waveform: np.ndarray, tmp_path: Path
) -> None:
    file = io.BytesIO()
    sf.write(file, waveform, RATE, format=kind.upper())
    raw = bytearray(file.getvalue())
    middle = len(raw) // 2
    if damage == "zeros":
        raw[middle : middle + 400] = bytes(400)
    elif damage == "bit":
        raw[middle] ^= 0x10
    else:
        del raw[middle:]
    path = tmp_path / f"x.{kind}"
    path.write_bytes(raw)
    assert audio.read_audio(path, sample_rate_hz=RATE).status == status


def test_guide_lists_every_flag_of_the_reader() -> None:
    described = re.search(r"Flags:\s(.*?)\.\n\n", audio.read_audio.__doc__ or "", re.DOTALL)
    assert described is not None
    names = re.sub(r"\([^)]*\)|=N", "", described[1]).split(",")
    flags = {name.strip() for name in names}
    assert len(flags) >= 11
    table = GUIDE[GUIDE.index("| flag |") : GUIDE.index("## What cannot")]
    listed = {
        name for row in re.findall(r"^\| (`.*?`) \|", table, re.MULTILINE) for name in re.findall(r"`(\w+)`", row)
    }
    assert listed == flags
