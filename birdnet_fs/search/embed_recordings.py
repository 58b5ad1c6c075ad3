"""Embed recordings into a store: streamed, resumable, every recording with its outcome.

A recording is decoded in a thread of its own while windows of an earlier one are embedded. Recordings that are in the
store already are not embedded again while their size and modification time are the same, or their size and the hashes
of their first and last part, so that a file that was copied or touched is the same recording.
"""

import contextlib
import queue
import threading
import time
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from birdnet_fs.analysis.inputs import find_recordings
from birdnet_fs.analysis.resume import Content
from birdnet_fs.audio import read as audio
from birdnet_fs.core.errors import UserError
from birdnet_fs.core.progress import say
from birdnet_fs.core.text import count, escaped
from birdnet_fs.data.ledger import Ledger
from birdnet_fs.data.windows import Window, WindowRule, batched, overlap_rule
from birdnet_fs.inference.embedder import WindowEmbedder
from birdnet_fs.search.store import EmbeddedRecording, StoreHeader, embedded_recordings
from birdnet_fs.search.write_store import PartWriter, create_store, write_part

PART_WINDOWS = 16_384  # a part is closed after the recording that reaches this number of windows
PART_RECORDINGS = 2_000  # or this number of recordings
PART_S = 300.0  # or after this time, so that an interrupted job has lost no more
_AHEAD = 8  # batches decoded ahead
_PROGRESS_EVERY_S = 10.0


def embed_recordings(
    embedder: WindowEmbedder,
    inputs: Sequence[Path | str],
    store: Path | str,
    *,
    overlap_s: float = 0.0,
    dtype: str = "float16",
    batch_size: int = 16,
) -> Ledger:
    """Embed the windows of recordings and add them to a store.

    Args:
        embedder: Embedder of the windows, from `open_embedder`.
        inputs: Audio files, and folders that are searched recursively.
        store: Folder of the store; created when missing.
        overlap_s: Overlap of consecutive windows in seconds, 0 or more and below the window. Default: 0.
        dtype: "float16" or "float32". Default: "float16".
        batch_size: Windows per call, 1 or more. Default: 16.

    Returns:
        The ledger, also written to `store/ledger.csv`.

    Raises:
        UserError: An argument is out of range, an input does not exist, no recording was found, or the store was made
            with another encoder or other settings.
    """
    if batch_size < 1:
        raise UserError(f"batch_size must be 1 or more. Received: {batch_size}")
    if dtype not in ("float16", "float32"):
        raise UserError(f"dtype must be float16 or float32. Received: {dtype!r}")
    rule = overlap_rule(embedder.segment_s, embedder.sample_rate_hz, overlap_s)
    root, recordings, refused = find_recordings(inputs)
    header = StoreHeader(
        encoder=embedder.name,
        path=embedder.path,
        card=embedder.card,
        identity=embedder.identity,
        license=embedder.license,
        sample_rate_hz=embedder.sample_rate_hz,
        segment_s=float(embedder.segment_s),
        hop_s=rule.hop / rule.sample_rate_hz,
        width=embedder.width,
        dtype=dtype,
    )
    store = Path(store)
    create_store(store, header)
    names = {path: path.relative_to(root).as_posix() for path in recordings}
    done = embedded_recordings(store)
    for name in names.values():
        refuse_other(store, done.get(name), root)
    todo = [path for path, name in names.items() if not _is_unchanged(path, done.get(name))]
    progress = _Progress(rule, len(names), len(names) - len(todo))
    outcomes = {name: done[name] for name in names.values() if name in done}
    events = _decoded(todo, rule, batch_size)
    try:
        event = next(events, None)
        while event is not None:
            with write_part(store, header) as writer:
                started, interrupt = time.monotonic(), None
                try:  # an interrupt keeps the recordings that are complete
                    while event is not None and not is_full(writer, time.monotonic() - started):
                        _one(event, names[event.path], events, embedder, writer, progress, root)
                        event = next(events, None)
                except KeyboardInterrupt as error:
                    interrupt = error
            outcomes |= {each.path: each for each in writer.recordings}
            if interrupt is not None:
                raise interrupt
    finally:
        events.close()
        ledger = Ledger()
        for path, reason in refused:
            ledger.add(path, "quarantined", reason)
        for path, name in names.items():
            if name in outcomes:
                each = outcomes[name]
                ledger.add(path, each.status, each.reason, each.flags, each.duration_s)
        ledger.write(store / "ledger.csv")
    progress.line()
    return ledger


@dataclass(frozen=True)
class _Batch:
    """Windows of one recording, or its end; `error` is the reason why it cannot be used at all."""

    path: Path
    windows: tuple[tuple[Window, np.ndarray], ...] = ()
    stream: audio.AudioStream | None = None  # at the end
    content: Content | None = None  # at the end, as it was before the audio was read; None = cannot be read
    error: str = ""


def _decoded(recordings: Sequence[Path], rule: WindowRule, batch_size: int) -> Generator[_Batch, None, None]:
    """Batches of the recordings in order, decoded ahead by a thread."""
    waiting: queue.Queue[_Batch | None] = queue.Queue(maxsize=_AHEAD)
    stop = threading.Event()

    def put(item: _Batch | None) -> None:
        while not stop.is_set():
            with contextlib.suppress(queue.Full):
                waiting.put(item, timeout=0.2)
                return

    def decode() -> None:
        for path in recordings:
            stream, content = audio.stream_audio(path, sample_rate_hz=rule.sample_rate_hz), None
            try:
                with contextlib.suppress(OSError):  # reading the audio raises the error
                    content = Content.of(path)
                for group in batched(rule.stream(stream), batch_size):
                    put(_Batch(path, tuple(group)))
                    if stop.is_set():
                        return
                put(_Batch(path, stream=stream, content=content))
            except audio.AudioError as error:
                put(_Batch(path, stream=stream, content=content, error=error.reason))
            except (OSError, MemoryError) as error:
                put(_Batch(path, stream=stream, content=content, error=f"cannot be read ({error})."))
        put(None)

    thread = threading.Thread(target=decode, daemon=True)
    thread.start()
    try:
        while (item := waiting.get()) is not None:
            yield item
    finally:
        stop.set()
        thread.join()


def _one(
    first: _Batch,
    name: str,
    events: Iterator[_Batch],
    embedder: WindowEmbedder,
    writer: PartWriter,
    progress: "_Progress",
    root: Path,
) -> None:
    """Embed the recording whose first batch is given, and complete it in the part."""
    windows: list[Window] = []
    batch, reason = first, ""
    while batch.stream is None:
        windows += [window for window, _ in batch.windows]
        if not reason:
            try:
                writer.append(embedder.embed(np.stack([waveform for _, waveform in batch.windows])))
            except UserError as error:
                reason = str(error)
        progress.windows(len(batch.windows))
        batch = next(events)
    stream = batch.stream
    reason = batch.error or reason or ("" if windows else stream.reason or "the recording holds no audio.")
    if stream.status == "quarantined":
        reason = reason or stream.reason
    spans = [] if reason else [progress.rule.span_s(window, stream.duration_s) for window in windows]
    status = "quarantined" if reason else stream.status
    seconds = 0.0 if reason else float(stream.duration_s)
    content = batch.content or Content("", 0, 0, "", "")
    identity = (content.n_bytes, content.mtime_ns, content.head, content.tail)
    why = reason or stream.reason
    done = EmbeddedRecording(name, status, why, tuple(stream.flags), seconds, *identity, len(spans), str(root))
    writer.end_recording(done, spans)
    progress.recording()


def is_full(writer: PartWriter, spent_s: float = 0.0) -> bool:
    """Whether a part is closed, which took `spent_s` seconds so far."""
    windows, recordings = len(writer.times), len(writer.recordings)
    return windows >= PART_WINDOWS or recordings >= PART_RECORDINGS or spent_s > PART_S


def refuse_other(store: Path, done: EmbeddedRecording | None, root: Path) -> None:
    """Refuse to replace a recording of another folder that has the same name and is still there.

    Args:
        store: Folder of the store.
        done: The recording of this name in the store; None = there is none.
        root: Folder of the inputs.

    Raises:
        UserError: The other recording is there and has another content.
    """
    if done is None or not done.root or done.root == str(root):
        return
    old, new = Path(done.root) / done.path, root / done.path
    if old.exists() and not (new.exists() and old.samefile(new)) and not _is_unchanged(new, done):
        raise UserError(
            f"{escaped(store)} holds another recording named {escaped(done.path)}, {escaped(old)}, which "
            f"{escaped(new)} would replace; give both folders in one command, or another store with -o."
        )


def _is_unchanged(path: Path, done: EmbeddedRecording | None) -> bool:
    if done is None:
        return False
    try:
        about = path.stat()
        if (about.st_size, about.st_mtime_ns) == (done.n_bytes, done.mtime_ns):
            return True
        return about.st_size == done.n_bytes and Content.of(path).samples == (done.n_bytes, done.head, done.tail)
    except OSError:
        return False


class _Progress:
    """Lines on stderr with the recordings done, windows per second and the time left."""

    def __init__(self, rule: WindowRule, total: int, skipped: int) -> None:
        self.rule, self.total, self.skipped, self.count, self.n_windows = rule, total, skipped, 0, 0
        self.start = self.shown = time.monotonic()
        if skipped:
            say(f"embed: {skipped} of {count(total, 'recording')} in the store already.")

    def windows(self, n: int) -> None:
        """Count embedded windows."""
        self.n_windows += n
        if time.monotonic() - self.shown >= _PROGRESS_EVERY_S:
            self.shown = time.monotonic()
            self.line()

    def recording(self) -> None:
        """Count a finished recording."""
        self.count += 1

    def line(self) -> None:
        """Write one line."""
        spent = max(time.monotonic() - self.start, 1e-9)
        audio_s = self.n_windows * self.rule.hop / self.rule.sample_rate_hz
        left = self.total - self.skipped - self.count
        rest = f", {left * spent / self.count:.0f} s left" if self.count and left else ""
        speed = f", {self.n_windows / spent:.1f} windows/s, {audio_s / spent:.0f} x real time" if self.n_windows else ""
        say(f"embed: {self.skipped + self.count}/{self.total} recordings{speed}{rest}")
