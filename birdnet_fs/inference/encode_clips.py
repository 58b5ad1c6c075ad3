"""Embeddings of labeled clips by foreign encoders, computed once and kept.

The embeddings of a clip are kept in a file of their own under `kept_folder()`, under a name that depends on the
encoder (file and card), the windows, and the clip (path, size and modification time of its file, start and end). So
a second training, the folds of a cross-validation, and evaluation read them, and audio is not decoded again. Several
processes may write at the same time. The folder may be deleted at any time.
"""

import hashlib
import json
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import numpy as np

from birdnet_fs.audio.recording_end import past_end_message
from birdnet_fs.core.errors import UserError
from birdnet_fs.core.files import atomic_path
from birdnet_fs.core.progress import say, track
from birdnet_fs.core.text import escaped
from birdnet_fs.data.ledger import Ledger, LedgerRow
from birdnet_fs.data.manifest import Clip
from birdnet_fs.data.waveforms import read_clip
from birdnet_fs.data.windows import clip_rule
from birdnet_fs.inference.engine import WindowSpec

KEPT = "BIRDNET_FS_CACHE"  # environment variable with a folder; default: the user's folder for caches
_BATCH = 16  # windows per call of the encoder
_FORMAT = 1


class WindowFeatures(WindowSpec, Protocol):
    """Features that are computed of windows: the embeddings of encoders (`EncoderFeatures`), or other numbers."""

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of the features of a window."""
        ...

    @property
    def identity(self) -> str:
        """Hexadecimal text, of 16 characters or more, that changes when a feature does."""
        ...

    def features(self, waveforms: np.ndarray) -> np.ndarray:
        """Windows float32 [n, n_samples] -> features float32 [n, *input_shape]."""
        ...


@dataclass(frozen=True)
class ClipChange:
    """A change of clips before they are cut into windows, for augmented views.

    Attributes:
        key: Clip -> text that differs where the change does; part of what the embeddings are kept under.
        apply: Clip and waveform float32 [n_samples] -> changed waveform float32 [any length].
    """

    key: Callable[[Clip], str]
    apply: Callable[[Clip, np.ndarray], np.ndarray]


@dataclass(frozen=True, eq=False)
class EncodedClips:
    """The embeddings of clips.

    Attributes:
        clips: The clips that could be read, in order.
        features: float32 [n_windows, *input_shape], the windows of a clip in consecutive rows.
        n_windows: int [n_clips], windows of each clip.
        ledger: The status of every clip.
    """

    clips: tuple[Clip, ...]
    features: np.ndarray
    n_windows: np.ndarray
    ledger: Ledger

    @property
    def clip_of_window(self) -> np.ndarray:
        """Number of the clip of each window, int [n_windows]."""
        return np.repeat(np.arange(len(self.clips)), self.n_windows)


def kept_folder() -> Path:
    """The folder of kept embeddings: $BIRDNET_FS_CACHE, else birdnet_fs in $XDG_CACHE_HOME or ~/.cache."""
    given = os.environ.get(KEPT)
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "birdnet_fs"
    return (Path(given) if given else base) / "embeddings"


def encode_clips(
    features: WindowFeatures,
    clips: Sequence[Clip],
    title: str = "embedding clips",
    *,
    hop_s: float = 0.0,
    change: ClipChange | None = None,
) -> EncodedClips:
    """Embed the windows of clips, cut by `windows.clip_rule`; those that are kept are read.

    Args:
        features: The encoders, or what else gives features of windows.
        clips: Clips of any length. One that cannot be read is left out and listed in the ledger; one that ends past
            its recording is cut there.
        title: Title of the progress bar. Default: "embedding clips".
        hop_s: Seconds from one window of a clip to the next. Default: 0, half a window.
        change: Change of the waveform of each clip, before windows are cut. Default: None, waveforms as recorded.

    Returns:
        The embeddings.

    Raises:
        UserError: None of the clips could be read, or an encoder refuses a window.
    """
    ledger, kept, rows = Ledger(), list[Clip](), list[np.ndarray]()
    past_end: list[tuple[object, str]] = []
    n_new = 0
    for clip in track(clips, title, unit="clip"):
        file = _file(features, clip, hop_s, change.key(clip) if change else "")
        found = _read(file, clip, features)
        if found is None:
            found = _embedded(features, clip, hop_s, change)
            n_new += found.rows is not None
            if found.rows is not None and file is not None:
                _store(file, found)
        row = found.row
        ledger.add(row.path, row.status, row.reason, row.flags, row.duration_s, row.source)
        if found.rows is not None:
            kept.append(found.clip)
            rows.append(found.rows)
            if found.past_end:
                past_end.append((clip.source or clip.path, found.past_end))
    if clips and not kept:
        first = ledger.rows[0]
        raise UserError(f"None of the {len(clips)} clips could be read; the first, {first.path}: {first.reason}.")
    if past_end:
        say(past_end_message(past_end))
    if n_new:
        say(f"{n_new} of {len(clips)} clips were embedded and are kept in {escaped(kept_folder())}.")
    shape = (0, *features.input_shape)
    together = np.concatenate(rows) if rows else np.zeros(shape, np.float32)
    return EncodedClips(tuple(kept), together, np.array([len(each) for each in rows], np.int64), ledger)


@dataclass(frozen=True)
class _Encoded:
    """One clip: as read, its row of the ledger, where it was cut, and float32 [n_windows, ...] or None."""

    clip: Clip
    row: LedgerRow
    past_end: str
    rows: np.ndarray | None


def _embedded(features: WindowFeatures, clip: Clip, hop_s: float, change: ClipChange | None) -> _Encoded:
    found = read_clip(clip, features.sample_rate_hz)
    if found.waveform is None:
        return _Encoded(found.clip, found.row, "", None)
    waveform = change.apply(clip, found.waveform) if change else found.waveform
    windows = clip_rule(features.n_samples, features.sample_rate_hz, hop_s).cut(waveform)
    rows = np.concatenate([features.features(batch) for batch in _batches(windows)])
    return _Encoded(found.clip, found.row, found.past_end, rows)


def _batches(windows: np.ndarray) -> Iterator[np.ndarray]:
    for start in range(0, len(windows), _BATCH):
        yield windows[start : start + _BATCH]


def clip_identity(clip: Clip) -> list[object]:
    """Path, size, time of change, onset and offset of a clip; OSError is raised when its file cannot be looked at."""
    path = os.path.abspath(clip.path)
    about = os.stat(path)
    return [path, about.st_size, about.st_mtime_ns, clip.onset_s, clip.offset_s]


def _file(features: WindowFeatures, clip: Clip, hop_s: float, changed: str) -> Path | None:
    """File of the kept embeddings of a clip; None when its file cannot be looked at."""
    try:
        key = clip_identity(clip)
    except OSError:
        return None
    key += [features.sample_rate_hz, features.segment_s, hop_s, _FORMAT, *([changed] if changed else [])]
    text = json.dumps(key)
    name = hashlib.sha256(text.encode()).hexdigest()
    return kept_folder() / features.identity[:16] / name[:2] / f"{name[2:34]}.npz"


def _store(file: Path, found: _Encoded) -> None:
    """Write the embeddings of a clip; a folder that cannot be written to is no error, but nothing is kept then."""
    row = found.row
    about = json.dumps([found.clip.offset_s, row.status, row.reason, row.flags, row.duration_s, found.past_end])
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with atomic_path(file) as part, open(part, "wb") as out:
            np.savez(out, rows=np.asarray(found.rows), about=np.frombuffer(about.encode(), np.uint8))
    except OSError:
        return


def _read(file: Path | None, clip: Clip, features: WindowFeatures) -> _Encoded | None:
    """The kept embeddings of a clip; None where there are none, or the file is damaged."""
    if file is None or not file.is_file():
        return None
    try:
        with np.load(file, allow_pickle=False) as found:
            rows, about = found["rows"], json.loads(found["about"].tobytes())
        offset_s, status, reason, flags, duration_s, past_end = about
        row = LedgerRow(os.fspath(clip.path), status, reason, tuple(flags), float(duration_s), clip.source)
    except (OSError, ValueError, KeyError, TypeError, EOFError):
        return None
    if rows.dtype != np.float32 or rows.shape[1:] != features.input_shape or not len(rows):
        return None
    return _Encoded(replace(clip, offset_s=offset_s), row, past_end, rows)
