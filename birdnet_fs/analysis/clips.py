"""Clips of detections with a margin, at the sample rate of the recording, as mono WAV of 16 bits."""

import hashlib
from pathlib import Path

import soundfile

from birdnet_fs.audio.read import read_audio
from birdnet_fs.audio.source import open_source
from birdnet_fs.core.files import atomic_path

_LONGEST = 80  # characters of a name of a class or recording in the name of a file


def file_name(name: str) -> str:
    """A name of a class or recording as part of the name of a file; different names give different ones.

    >>> file_name("Turdus merula_Blackbird"), file_name("a/b")
    ('Turdus merula_Blackbird', 'a_b-c14cddc0')
    """
    kept = "".join(c if c.isalnum() or c in "-_. ()'" else "_" for c in name).strip(". ")[:_LONGEST]
    if kept == name:
        return kept
    return f"{kept}-{hashlib.sha256(name.encode('utf-8', 'surrogateescape')).hexdigest()[:8]}"


def write_clip(recording: Path, clip: Path, start_s: float, end_s: float, margin_s: float) -> float:
    """Cut a part of a recording.

    Args:
        recording: The recording.
        clip: The WAV file; its folder is created.
        start_s: Start of the detection in seconds.
        end_s: End of the detection in seconds.
        margin_s: Seconds before and after it, less where the recording begins or ends.

    Returns:
        Seconds of the recording at which the clip begins. AudioError is raised when the part cannot be read.
    """
    with open_source(recording) as source:
        rate = source.sample_rate_hz
    onset_s = max(0.0, start_s - margin_s)
    audio = read_audio(recording, sample_rate_hz=rate, onset_s=onset_s, duration_s=end_s + margin_s - onset_s)
    with atomic_path(clip) as part:
        soundfile.write(part, audio.waveform.clip(-1, 1), rate, subtype="PCM_16", format="WAV")
    return onset_s
