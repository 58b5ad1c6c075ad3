"""A submission by a submission classifier: the work of `birdnet-fs classify predict`.

The folder of the competition has test.csv (long form) or sample_submission.csv (wide form), and the recordings in
test_soundscapes/. Only the windows that the table asks for are read; a window of 5 s ends at its stamp.
"""

from pathlib import Path

import numpy as np

from birdnet_fs.analysis.submission import (
    SubmissionReport,
    SubmissionRows,
    Window,
    WindowProbabilities,
    read_submission_rows,
    write_submission,
)
from birdnet_fs.audio.find import find_audio
from birdnet_fs.core.errors import UserError
from birdnet_fs.core.lock import locked
from birdnet_fs.core.text import escaped
from birdnet_fs.data.ledger import Ledger
from birdnet_fs.data.manifest import Clip
from birdnet_fs.data.tables.reading import open_table
from birdnet_fs.motifs.classifier.clips import CLIP_S
from birdnet_fs.motifs.classifier.model import SubmissionClassifier, clip_vectors

TABLES = ("test.csv", "sample_submission.csv")
AUDIO = "test_soundscapes"


def competition_table(root: Path) -> Path:
    """The table of a competition folder that names the rows of a submission.

    Args:
        root: The folder.

    Returns:
        test.csv where it has the column `bird`, as in the long form, or is alone, else sample_submission.csv.

    Raises:
        UserError: Neither is there.
    """
    there = [root / name for name in TABLES if (root / name).is_file()]
    if not there:
        raise UserError(f"{escaped(root)} must have {' or '.join(TABLES)}; it has neither.")
    for path in there[:-1]:
        if "bird" in open_table(path, []).columns:
            return path
    return there[-1]


@locked("output")
def predict_submission(
    classifier: SubmissionClassifier, root: Path, output: Path, *, threshold: float = 0.5
) -> tuple[SubmissionReport, Ledger]:
    """Score the windows that a competition asks for and write the submission.

    UserErrors of `read_submission_rows` and `write_submission` are passed on.

    Args:
        classifier: The classifier.
        root: Folder of the competition.
        output: CSV file to write.
        threshold: Lowest probability of a True in the long form, 0..1. Default: 0.5.

    Returns:
        What is missing, and the ledger of the windows.

    Raises:
        UserError: There is no table.
    """
    rows = read_submission_rows(competition_table(root))
    clips, ledger = _clips(rows, root / AUDIO if (root / AUDIO).is_dir() else root)
    found = WindowProbabilities(classifier.classes, (), np.zeros((0, len(classifier.classes))))
    if clips:
        try:
            scored = clip_vectors(classifier.features, classifier.reference, list(clips.values()))
        except UserError as error:  # no window could be read
            for (name, end), clip in clips.items():
                ledger.add(clip.path, "quarantined", str(error), source=f"{name}_{end}")
        else:
            usable = [row.status != "quarantined" for row in scored.ledger.rows]
            windows = tuple(window for window, ok in zip(clips, usable, strict=True) if ok)
            ledger.rows += scored.ledger.rows
            found = WindowProbabilities(classifier.classes, windows, classifier.probabilities(scored.vectors))
    return write_submission(rows, found, output, threshold=threshold), ledger


def _clips(rows: SubmissionRows, audio: Path) -> tuple[dict[Window, Clip], Ledger]:
    """The windows whose recordings are there, and a ledger of the recordings that are not."""
    paths: dict[str, list[Path]] = {}
    for path in find_audio(audio).paths:
        paths.setdefault(path.stem, []).append(path)
    clips, ledger, missing = dict[Window, Clip](), Ledger(), set[str]()
    for name, end in dict.fromkeys(rows.windows):
        if len(paths.get(name, ())) == 1:
            clips[name, end] = Clip(paths[name][0], max(0.0, end - CLIP_S), float(end), source=f"{name}_{end}")
        elif name not in missing:
            missing.add(name)
            n = len(paths.get(name, ()))
            reason = f"{n} recordings are called {name}" if n else f"there is no recording called {name}"
            ledger.add(audio / name, "quarantined", f"{escaped(reason)}.", source=name)
    return clips, ledger
