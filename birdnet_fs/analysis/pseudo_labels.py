"""Unlabeled recordings and a model in, a table of windows with probabilities out, to train on (training/pseudo_labels.py).

What is scored is kept recording by recording until the table is whole, so that a stopped call goes on where it was.
"""

import hashlib
import json
import os
import shutil
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from birdnet_fs.analysis import resume
from birdnet_fs.analysis.inputs import find_recordings
from birdnet_fs.audio import read as audio
from birdnet_fs.core.errors import UserError
from birdnet_fs.core.files import atomic_path, write_json
from birdnet_fs.core.progress import say, track
from birdnet_fs.data.ledger import Ledger
from birdnet_fs.data.pseudo_label_table import ABOUT, TABLE
from birdnet_fs.data.score_table import ScoreRow, writing_scores
from birdnet_fs.data.windows import WindowRule, batched, overlap_rule
from birdnet_fs.inference.engine import Engine

LEDGER, PARTS = "ledger.csv", "parts"


class WindowScores(NamedTuple):
    """A recording's windows."""

    times_s: NDArray[np.float64]  # [n, 2], onset and duration
    values: NDArray[np.float32]  # [n, n_classes]
    status: str
    reason: str
    flags: tuple[str, ...]
    duration_s: float


def label_recordings(
    engine: Engine,
    inputs: Sequence[Path | str],
    output: Path,
    *,
    runs: Sequence[Path] = (),
    overlap_s: float = 0.0,
    batch_size: int = 32,
) -> Path:
    """Write the table of all windows of recordings, and a ledger of the recordings.

    Args:
        engine: From `open_engine`.
        inputs: Files, and folders that are searched at any depth.
        output: Folder for pseudo.csv, pseudo.json and ledger.csv. A table of the same model and recordings is kept.
        runs: The run folders behind the engine, noted so that training can see what they have heard.
        overlap_s: Overlap of consecutive windows in seconds, 0 up to the segment length.
        batch_size: Windows given to the model at once.

    Returns:
        The table.

    Raises:
        UserError: An input does not exist, nothing was found, no recording could be read, or the model gives ranks
            and no probabilities. A broken recording raises nothing: it stands in the ledger.
    """
    if engine.gives_ranks:
        raise UserError(
            "An ensemble that combines ranks gives no probabilities to learn from; make one with --combine mean."
        )
    if batch_size < 1:
        raise UserError(f"batch_size must be 1 or more. Received: {batch_size}")
    rule = overlap_rule(engine.segment_s, engine.sample_rate_hz, overlap_s)
    _, recordings = find_recordings(inputs)
    settings = {"format": 1, "model": engine.identity, "classes": list(engine.classes), "hop": rule.hop}
    keys = {recording: _key(recording, settings) for recording in recordings}
    table, about = output / TABLE, output / ABOUT
    made_of = hashlib.sha256("\n".join([*keys.values(), *map(os.fspath, runs)]).encode()).hexdigest()
    if table.is_file() and about.is_file() and made_of in about.read_text(encoding="utf-8"):
        say(f"{table} holds these recordings, labeled by this model, already; it is kept.")
        return table
    ledger, n_windows = Ledger(), 0
    about.unlink(missing_ok=True)  # until the new one is there, none may vouch for the table
    with writing_scores(table, engine.classes) as add:
        for recording in track(recordings, "labeling recordings", unit="recording"):
            found = _kept(engine, recording, output / PARTS / f"{keys[recording]}.npz", rule, batch_size)
            ledger.add(recording, found.status, found.reason, found.flags, found.duration_s)
            add([ScoreRow(str(recording), *times) for times in found.times_s.tolist()], found.values)
            n_windows += len(found.values)
        ledger.write(output / LEDGER)
        if not n_windows:
            raise UserError(f"None of the {len(recordings)} recordings could be read. {ledger.summary(1)}")
    facts = {"runs": [os.path.abspath(run) for run in runs], "recordings": len(recordings), "windows": n_windows}
    write_json(about, {"format": 1, **facts, "segment_s": engine.segment_s, "overlap_s": overlap_s, "of": made_of})
    shutil.rmtree(output / PARTS, ignore_errors=True)
    if ledger.counts()["quarantined"]:
        say(ledger.summary())
    say(f"{table}: {n_windows} windows of {len(recordings) - ledger.counts()['quarantined']} recordings")
    return table


def _key(recording: Path, settings: dict) -> str:
    try:
        return resume.fingerprint(recording, {**settings, "path": os.fsencode(recording).hex()})
    except OSError as error:
        return hashlib.sha256(repr(error).encode()).hexdigest()


def _kept(engine: Engine, recording: Path, file: Path, rule: WindowRule, batch_size: int) -> WindowScores:
    """The windows of a recording, from an earlier call where it got so far."""
    if file.is_file():
        try:
            with np.load(file, allow_pickle=False) as stored:
                status, reason, flags, seconds = json.loads(str(stored["about"]))
                return WindowScores(stored["times_s"], stored["values"], status, reason, tuple(flags), seconds)
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
            file.unlink(missing_ok=True)
    try:
        found = _score(engine, recording, rule, batch_size)
    except (UserError, OSError) as error:
        reason = getattr(error, "reason", "") or str(error)
        nothing = np.zeros((0, 2)), np.zeros((0, len(engine.classes)), np.float32)
        return WindowScores(*nothing, "quarantined", reason, (), 0.0)
    with atomic_path(file) as part, open(part, "wb") as out:
        told = json.dumps([found.status, found.reason, found.flags, found.duration_s])
        np.savez(out, times_s=found.times_s, values=found.values, about=np.array(told))
    return found


def _score(engine: Engine, recording: Path, rule: WindowRule, batch_size: int) -> WindowScores:
    stream = audio.stream_audio(recording, sample_rate_hz=engine.sample_rate_hz)
    windows, values = [], []
    for group in batched(rule.stream(stream), batch_size):
        values.append(engine.probabilities(np.stack([waveform for _, waveform in group]), batch_size=batch_size))
        windows += [window for window, _ in group]
    if stream.status == "quarantined" or not windows:
        raise UserError(stream.reason or "it holds no audio")
    spans = np.array([rule.span_s(window, stream.duration_s) for window in windows])
    found = np.stack([spans[:, 0], spans[:, 1] - spans[:, 0]], axis=1), np.concatenate(values)
    return WindowScores(*found, stream.status, stream.reason, tuple(stream.flags), float(stream.duration_s))
