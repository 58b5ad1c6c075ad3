"""Mining of recordings: features, matrix profile, motif and discord of each, in a folder of mined recordings."""

import contextlib
import os
from collections.abc import Generator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass
from multiprocessing import get_context
from pathlib import Path

from birdnet_fs.audio.read import AudioError, read_audio
from birdnet_fs.core.errors import UserError, shown
from birdnet_fs.core.files import write_json
from birdnet_fs.core.lock import folder_lock
from birdnet_fs.core.processes import end_with_parent
from birdnet_fs.core.progress import say, track
from birdnet_fs.core.random_streams import Stream, generator
from birdnet_fs.core.text import escaped
from birdnet_fs.data.ledger import Ledger, LedgerRow
from birdnet_fs.motifs.features import open_features
from birdnet_fs.motifs.mined_folder import (
    FORMAT,
    METADATA,
    PLACES,
    SETTINGS,
    read_recording,
    read_settings,
    write_recording,
)
from birdnet_fs.motifs.mining import MiningSettings, discord, mine, motif

LEDGER = "ledger.csv"


@dataclass(frozen=True)
class _Task:
    path: Path
    name: str
    label: str
    folder: Path
    settings: MiningSettings


def extract_motifs(
    recordings: Mapping[Path, str],
    root: Path,
    output: Path,
    settings: MiningSettings,
    *,
    refused: Sequence[tuple[Path, str]] = (),
    sample_k: int = 0,
    seed: int = 0,
    workers: int = 1,
) -> Ledger:
    """Mine recordings; those that the folder holds already are not mined again unless they have changed.

    Args:
        recordings: Recording -> path of its folder in `output`, no two equal.
        root: Folder that holds all of them. A recording in a folder below it has the name of its folder as class.
        output: Folder of mined recordings; created or continued.
        settings: Features and windows of the matrix profile.
        refused: (path, reason) of what was found and cannot be read. Default: ().
        sample_k: Number of recordings to draw without replacement. Default: 0, all.
        seed: Seed of this draw, 0 or more. Default: 0.
        workers: Processes, 1 or more. Default: 1, this one.

    Returns:
        The ledger, also written to `output/ledger.csv`. A recording without a motif is quarantined with the reason; its
        folder has null in place of motifs.

    Raises:
        UserError: A number is out of range, the folder was mined with other settings, or a process was killed.
    """
    if settings.window < 2:
        raise UserError(f"--mp-window must be 2 frames or more. Received: {settings.window}")
    if workers < 1 or sample_k < 0:
        raise UserError(f"--workers must be 1 or more, --sample-k 0 or more. Received: {workers}, {sample_k}")
    if not 0 <= settings.max_distance <= 1:
        raise UserError(f"--max-distance must be in 0..1. Received: {settings.max_distance}")
    features = open_features(settings.features, threads=1)
    paths = _sampled(list(recordings), sample_k, seed)
    with folder_lock(output):
        _begin(output, root, settings, features.identity, sample_k, seed)
        tasks = [_task(path, root, output / recordings[path], settings) for path in paths]
        rows = {task.path: row for task in tasks if (row := _mined_already(task)) is not None}
        todo = [task for task in tasks if task.path not in rows]
        if rows:
            say(f"motifs: {len(rows)} of {len(tasks)} recordings are mined already.")
        try:
            with contextlib.closing(_results(todo, workers)) as results:
                for path, row in track(results, "motifs", total=len(todo), unit="recording"):
                    rows[path] = row
        finally:
            ledger = Ledger()
            for path, reason in refused:
                ledger.add(path, "quarantined", reason)
            ledger.rows += [rows[task.path] for task in tasks if task.path in rows]
            ledger.write(output / LEDGER)
    return ledger


def _mine_recording(task: _Task) -> tuple[Path, LedgerRow]:
    """Mine one recording and write its folder."""
    features, settings = open_features(task.settings.features, threads=1), task.settings
    name = str(task.path)
    try:
        content = _content(task.path)
        audio = read_audio(task.path, sample_rate_hz=features.sample_rate_hz)
        mined = mine(audio.waveform, features, settings)
    except AudioError as error:
        return task.path, LedgerRow(name, "quarantined", error.reason)
    except UserError as error:
        return task.path, LedgerRow(name, "quarantined", str(error))
    except (OSError, MemoryError) as error:
        return task.path, LedgerRow(name, "quarantined", f"it cannot be read ({error}).")
    status = "quarantined" if mined.reason else audio.status
    row = LedgerRow(name, status, mined.reason or audio.reason, audio.flags, audio.duration_s)
    pairs = (None if mined.reason else motif(mined.profile), discord(mined.profile))
    frames = [frame for pair in pairs for frame in ((None, None) if pair is None else (pair.first, pair.second))]
    places = dict(zip(PLACES, frames, strict=True))
    rate = features.frames_per_s
    metadata = {
        "source_name": task.name,
        "label": task.label,
        "feature": settings.features.name,
        "cens_sample_rate": int(rate) if rate == int(rate) else rate,
        "matrix_profile_window": settings.window,
        "sample_rate": features.sample_rate_hz,
        "duration_cens": mined.n_frames,
        "duration_samples": len(audio.waveform),
        "duration_seconds": len(audio.waveform) / features.sample_rate_hz,
        **places,
        **{f"{key}_s": None if frame is None else frame / rate for key, frame in places.items()},
        "mean_distance": mined.mean_distance,
        "max_distance": settings.max_distance,
        "status": row.status,
        "reason": row.reason,
        "flags": list(row.flags),
        "content": content,
    }
    write_recording(task.folder, mined.profile, metadata)
    return task.path, row


def _results(tasks: Sequence[_Task], workers: int) -> Generator[tuple[Path, LedgerRow], None, None]:
    if workers == 1 or len(tasks) < 2:
        yield from map(_mine_recording, tasks)
        return
    pool = ProcessPoolExecutor(min(workers, len(tasks)), get_context("spawn"), initializer=_start_worker)
    try:
        for future in as_completed([pool.submit(_mine_recording, task) for task in tasks]):
            yield future.result()
    except BrokenProcessPool:
        raise UserError(
            "A process of --workers was ended from outside, probably because memory ran out; the same command with "
            "fewer workers continues."
        ) from None
    finally:
        pool.shutdown(cancel_futures=True)


def _start_worker() -> None:
    """Let a worker process end with this one and compute on one core."""
    from threadpoolctl import threadpool_limits  # scikit-learn needs it

    end_with_parent()
    threadpool_limits(1)


def _sampled(paths: list[Path], sample_k: int, seed: int) -> list[Path]:
    """The recordings, or `sample_k` of them, in their order."""
    if not 0 < sample_k < len(paths):
        return paths
    chosen = generator(seed, Stream.MOTIF_SAMPLE).choice(len(paths), sample_k, replace=False)
    return [paths[i] for i in sorted(chosen)]


def _task(path: Path, root: Path, folder: Path, settings: MiningSettings) -> _Task:
    label = path.parent.name if path.parent != root else ""
    return _Task(path, path.relative_to(root).as_posix(), label, folder, settings)


def _begin(output: Path, root: Path, settings: MiningSettings, identity: str, sample_k: int, seed: int) -> None:
    """Write settings.json, or check that the folder was mined with the same settings."""
    named = {**asdict(settings), "identity": identity, "sample_k": sample_k, "seed": seed}
    named = {"format": FORMAT, "recordings": str(root), **named}
    file = output / SETTINGS
    if not file.is_file():
        if output.is_dir() and any(output.iterdir()):
            raise UserError(f"An empty or a mined folder was expected; {escaped(output)} holds other files.")
        write_json(file, named)
        return
    there = read_settings(output)
    for key, value in named.items():
        if there.get(key) != value:
            raise UserError(
                f"{escaped(output)} was mined with {key} = {shown(there.get(key))}, and {shown(value)} was asked for; "
                "give another folder with -o."
            )


def _content(path: Path) -> list[int]:
    """Size and time of a file, which change when the file does."""
    about = os.stat(path)
    return [about.st_size, about.st_mtime_ns]


def _mined_already(task: _Task) -> LedgerRow | None:
    """The outcome of a recording that is in the folder as it is now."""
    if not (task.folder / METADATA).is_file():
        return None
    found = read_recording(task.folder).metadata
    try:
        same = found["source_name"] == task.name and found["content"] == _content(task.path)
        flags, seconds = tuple(map(str, found["flags"])), float(found["duration_seconds"])
        return LedgerRow(str(task.path), found["status"], found["reason"], flags, seconds) if same else None
    except (OSError, KeyError, TypeError):
        return None
