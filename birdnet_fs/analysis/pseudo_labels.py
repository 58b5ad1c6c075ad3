"""Pseudo-labels: a table of the windows of unlabeled recordings with a model's probabilities as training targets.

training/pseudo_labels.py reads the table. The scores of each recording are stored until the table is complete, so that
an interrupted call continues where it stopped. `pseudo.json` holds what the table was made from and its SHA-256, so
that a table of other recordings or of another model is neither taken for this one nor replaced by it.
"""

import contextlib
import json
import os
import shutil
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from birdnet_fs.analysis.inputs import find_recordings
from birdnet_fs.analysis.resume import Content, settings_key
from birdnet_fs.analysis.scoring.recordings import all_scores, score_recordings, whole, why_not
from birdnet_fs.core.errors import UserError
from birdnet_fs.core.files import atomic_path, sha256, write_text
from birdnet_fs.core.lock import locked
from birdnet_fs.core.progress import say, track
from birdnet_fs.core.text import escaped
from birdnet_fs.data.changes import file_changes
from birdnet_fs.data.ledger import Ledger
from birdnet_fs.data.pseudo_label_table import ABOUT, TABLE
from birdnet_fs.data.score_table import ScoreRow, writing_scores
from birdnet_fs.data.windows import WindowRule, overlap_rule
from birdnet_fs.inference.engine import Engine
from birdnet_fs.runs.folder_kind import refuse_other_results

LEDGER, PARTS = "ledger.csv", "parts"


class WindowScores(NamedTuple):
    """Probabilities of the n windows of a recording, and its row of the ledger."""

    times_s: NDArray[np.float64]  # [n, 2], onset and duration
    values: NDArray[np.float32]  # [n, n_classes], probabilities
    status: str
    reason: str
    flags: tuple[str, ...]
    duration_s: float


@locked("output")
def label_recordings(
    engine: Engine,
    inputs: Sequence[Path | str],
    output: Path,
    *,
    runs: Sequence[Path] = (),
    overlap_s: float = 0.0,
    batch_size: int = 32,
    overwrite: bool = False,
) -> Path:
    """Write the table of all windows of recordings, and a ledger of the recordings.

    Args:
        engine: Model, from `open_engine`.
        inputs: Audio files, and folders that are searched recursively.
        output: Folder for pseudo.csv, pseudo.json and ledger.csv. A table of the same model and recordings is kept.
        runs: Run folders of the model, stored in pseudo.json so that training can refuse runs that were trained on
            its held-out recordings.
        overlap_s: Overlap of consecutive windows in seconds, 0 or more and below the segment length. Default: 0.
        batch_size: Windows per call of the model, 1 or more. Default: 32.
        overwrite: Whether to replace a table of another model or other recordings, or an edited one. Default: False.

    Returns:
        The pseudo.csv.

    Raises:
        UserError: An argument is out of range, an input does not exist, no recording was found or could be read, the
            model returns ranks instead of probabilities, or the folder holds a table of another model or of other
            recordings. A broken recording raises no error; it is listed in the ledger.
    """
    if engine.gives_ranks:
        raise UserError(
            "Pseudo-labels need probabilities, but this ensemble combines ranks; make one with --combine mean."
        )
    if batch_size < 1:
        raise UserError(f"batch_size must be 1 or more. Received: {batch_size}")
    rule = overlap_rule(engine.segment_s, engine.sample_rate_hz, overlap_s)
    _, recordings, refused = find_recordings(inputs)
    refuse_other_results(output, "pseudo-labels")
    settings = settings_key({"model": engine.identity, "classes": list(engine.classes), "hop": rule.hop})
    contents = _contents(recordings)
    table, about = output / TABLE, output / ABOUT
    killed = (output / PARTS).is_dir() and not about.is_file()  # such a call goes on
    if table.is_file() and not killed and _keeps(table, settings, contents, runs, overwrite):
        return table
    ledger, n_windows = Ledger(), 0
    for path, reason in refused:
        ledger.add(path, "quarantined", reason)
    about.unlink(missing_ok=True)  # no pseudo.json may exist while the table is incomplete
    with writing_scores(table, engine.classes) as add:
        for recording in track(recordings, "labeling recordings", unit="recording"):
            found = _stored_or_scored(
                engine, recording, output / PARTS / _part(settings, contents, recording), rule, batch_size
            )
            ledger.add(recording, found.status, found.reason, found.flags, found.duration_s)
            add([ScoreRow(str(recording), *times) for times in found.times_s.tolist()], found.values)
            n_windows += len(found.values)
        ledger.write(output / LEDGER)
        if not n_windows:
            raise UserError(f"None of the {len(recordings)} recordings could be read. {ledger.summary(1)}")
    facts = {
        "format": 2,
        "runs": [os.path.abspath(run) for run in runs],
        "recordings": len(recordings),
        "windows": n_windows,
        "segment_s": engine.segment_s,
        "overlap_s": overlap_s,
        "settings": settings,
        "table": sha256(table),
        "inputs": {path: [c.n_bytes, c.mtime_ns, c.head + c.tail] for path, c in contents.items()},
    }
    # names of files may hold bytes that are not UTF-8, which JSON in ASCII keeps
    write_text(about, json.dumps(facts, indent=1) + "\n")
    shutil.rmtree(output / PARTS, ignore_errors=True)
    if ledger.counts()["quarantined"]:
        say(ledger.summary())
    say(f"{table}: {n_windows} windows of {len(recordings) + len(refused) - ledger.counts()['quarantined']} recordings")
    return table


def _contents(recordings: Sequence[Path]) -> dict[str, Content]:
    """Path -> content of the recordings that can be read."""
    found = {}
    for recording in recordings:
        with contextlib.suppress(OSError):
            found[os.fspath(recording)] = Content.of(recording)
    return found


def _part(settings: str, contents: Mapping[str, Content], recording: Path) -> str:
    """Name of the file with the scores of one recording."""
    content = contents.get(os.fspath(recording))
    return settings_key({"settings": settings, "path": os.fspath(recording), "content": repr(content)}) + ".npz"


def _keeps(table: Path, settings: str, contents: Mapping[str, Content], runs: Sequence[Path], overwrite: bool) -> bool:
    """Whether a table is what would be written; UserError when it is of something else and is not to be replaced."""
    about = _about(table.with_name(ABOUT))
    edited = bool(about) and sha256(table) != about["table"]
    if about:
        found = [] if about["settings"] == settings else ["the model or the overlap changed"]
        if [os.path.abspath(run) for run in runs] != about["runs"]:
            found.append("the run folders changed")
        old = {path: (n_bytes, mtime_ns) for path, (n_bytes, mtime_ns, _) in about["inputs"].items()}
        new = {path: (c.n_bytes, c.mtime_ns) for path, c in contents.items()}
        known = {path: ends for path, (*_, ends) in about["inputs"].items()}
        found += file_changes(old, new, known, identify=lambda path: contents[path].head + contents[path].tail)[0]
    else:
        found = [f"{ABOUT} does not state what it was made from"]
    if not found and not (edited and overwrite):
        why = "was edited since, and is kept as it is (--overwrite replaces it)" if edited else "is kept"
        say(f"{escaped(table)} already holds these recordings, labeled by this model; it {why}.")
        return True
    if not overwrite:
        also = ", and the table was edited since" if edited else ""
        raise UserError(
            f"{escaped(table)} is of another model or of other recordings ({', '.join(found)}{also}); give another "
            "folder with -o, or replace it with --overwrite."
        )
    return False


def _about(file: Path) -> dict[str, Any]:
    """The content of pseudo.json; {} when it is missing, damaged or of an earlier version."""
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
        known = {"format", "runs", "settings", "table", "inputs"} <= found.keys() and found["format"] == 2
        return found if known and all(len(about) == 3 for about in found["inputs"].values()) else {}
    except (OSError, ValueError, AttributeError, TypeError):
        return {}


def _stored_or_scored(engine: Engine, recording: Path, file: Path, rule: WindowRule, batch_size: int) -> WindowScores:
    """The scores of a recording, read from `file` when an interrupted call stored them."""
    if file.is_file():
        try:
            with np.load(file, allow_pickle=False) as stored:
                status, reason, flags, seconds = json.loads(str(stored["about"]))
                return WindowScores(stored["times_s"], stored["values"], status, reason, tuple(flags), seconds)
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
            file.unlink(missing_ok=True)
    [done] = score_recordings(engine, [recording], rule, whole, batch_size=batch_size)
    if done.error is not None:
        nothing = np.zeros((0, 2)), np.zeros((0, len(engine.classes)), np.float32)
        return WindowScores(*nothing, "quarantined", why_not(done.error), (), 0.0)
    times, stream = done.spans_s, done.stream
    times[:, 1] -= times[:, 0]
    about = (stream.status, stream.reason, tuple(stream.flags), float(stream.duration_s))
    found = WindowScores(times, all_scores(done, len(engine.classes)), *about)
    with atomic_path(file) as part, open(part, "wb") as out:
        outcome = json.dumps([found.status, found.reason, found.flags, found.duration_s])
        np.savez(out, times_s=found.times_s, values=found.values, about=np.array(outcome))
    return found
