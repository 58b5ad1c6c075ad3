"""Segments: fixed-length model inputs cut from clips or recordings, with their labels and multi-hot targets.

The rule of cutting is that of windows.py. A segment with fewer samples than a window is padded with zeros on the
right when it is read.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from birdnet_fs.audio.read import AudioError
from birdnet_fs.core.errors import UserError, nearest
from birdnet_fs.core.progress import say
from birdnet_fs.core.text import escaped
from birdnet_fs.data.manifest import Clip, Manifest
from birdnet_fs.data.windows import WindowRule, n_samples_of, recording_rule

TOUCH_S = 1e-6  # times in tables are rounded; an overlap below this does not count


@dataclass(frozen=True)
class Segment:
    """One model input: its place in a recording and its labels."""

    clip_index: int  # index into manifest.clips of the (first) clip that it belongs to
    path: Path
    onset_s: float  # in the recording
    duration_s: float  # seconds to read; less than segment_s at the end of a clip (pad with zeros on the right)
    labels: tuple[str, ...]
    group: str
    fold: int | None
    split: str
    unknown: tuple[str, ...] = ()  # classes that may be present or absent


def cut_segments(
    manifest: Manifest, *, segment_s: float, segment_hop_s: float, min_overlap_s: float, sample_rate_hz: int
) -> list[Segment]:
    """Cut clips into segments.

    Clips are cut one by one, and every segment has the labels of its clip. If the manifest holds timed events
    (`manifest.events`), whole recordings are cut instead, and an event labels every segment that it overlaps by
    `min_overlap_s` (or completely, when the event is shorter than that).

    Args:
        manifest: Clips; files that cannot be read are set to quarantined in its ledger.
        segment_s: Length of a segment in seconds, above 0.
        segment_hop_s: Seconds from one segment to the next; 0 = `segment_s`.
        min_overlap_s: Overlap in seconds from which an event labels a segment, 0 or more.
        sample_rate_hz: Rate that the segments are read at; they start at whole samples.

    Returns:
        Segments in the order of the clips (or recordings) and their times.

    Raises:
        UserError: No segment can be cut, or `segment_s` or `segment_hop_s` is out of range.
    """
    rule = recording_rule(segment_s, sample_rate_hz, segment_hop_s)
    segments: list[Segment] = []
    if manifest.events:
        by_path: dict[Path, list[int]] = {}
        for index, clip in enumerate(manifest.clips):
            by_path.setdefault(clip.path, []).append(index)
        for path, indices in by_path.items():
            length = _length(manifest, path)
            if length is not None:
                segments += _cut_recording(manifest.clips, indices, length, rule, min_overlap_s)
    else:
        for index, clip in enumerate(manifest.clips):
            end = clip.offset_s if clip.offset_s is not None else _length(manifest, clip.path)
            if end is None:
                continue
            for onset, duration in _places(max(0.0, end - clip.onset_s), rule):
                segments.append(_segment(clip, index, clip.onset_s + onset, duration, clip.labels, clip.unknown))
    if not segments:
        raise UserError(f"No segment can be cut from {len(manifest.clips)} clips. {manifest.ledger.summary()}")
    return segments


def _length(manifest: Manifest, path: Path) -> float | None:
    try:
        return manifest.recording_s(path)
    except AudioError as error:
        manifest.ledger.quarantine(path, error.reason)
        say(f"{escaped(path)} is left out: {error.reason}")
        return None


def _places(length_s: float, rule: WindowRule) -> Iterator[tuple[float, float]]:
    """(onset, duration) of the windows of `length_s` seconds."""
    for window in rule.windows(n_samples_of(length_s, rule.sample_rate_hz)):
        start, end = rule.span_s(window, length_s)
        yield start, end - start


def _cut_recording(
    clips: Sequence[Clip], indices: list[int], length: float, rule: WindowRule, min_overlap_s: float
) -> list[Segment]:
    """Segments of a whole recording, labeled by its events."""
    indices = sorted(indices, key=lambda i: clips[i].onset_s)
    onsets = np.array([clips[i].onset_s for i in indices])
    offsets = np.array([length if (end := clips[i].offset_s) is None else end for i in indices])
    wanted = np.maximum(np.minimum(min_overlap_s, offsets - onsets), TOUCH_S) - TOUCH_S / 2
    found = []
    for onset, duration in _places(length, rule):
        shared = np.minimum(offsets, onset + duration) - np.maximum(onsets, onset)
        inside = [indices[i] for i in np.flatnonzero(shared >= wanted)]
        labels = tuple(dict.fromkeys(label for i in inside for label in clips[i].labels))
        unknown = tuple(dict.fromkeys(name for i in inside for name in clips[i].unknown if name not in labels))
        first = inside[0] if inside else indices[0]
        found.append(_segment(clips[first], first, onset, duration, labels, unknown))
    return found


def _segment(
    clip: Clip, index: int, onset: float, duration: float, labels: tuple[str, ...], unknown: tuple[str, ...]
) -> Segment:
    return Segment(index, clip.path, onset, duration, labels, clip.group, clip.fold, clip.split, unknown)


def segment_targets(segments: Sequence[Segment], classes: Sequence[str]) -> np.ndarray:
    """Multi-hot targets of segments.

    Args:
        segments: Segments with their labels.
        classes: Names of the columns.

    Returns:
        float32 [n_segments, n_classes], 1 for the labels of a segment, else 0.

    Raises:
        UserError: A label is not one of the classes.
    """
    place = {name: i for i, name in enumerate(classes)}
    hot = np.zeros((len(segments), len(classes)), np.float32)
    for row, segment in enumerate(segments):
        for label in segment.labels:
            if label not in place:
                hint = nearest(label, classes)
                raise UserError(f"Label {label!r} of {escaped(segment.path)} is not one of the classes.{hint}")
            hot[row, place[label]] = 1
    return hot
