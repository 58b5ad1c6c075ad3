"""A submission by a submission classifier: the work of `birdnet-fs classify predict`.

The folder of the competition has test.csv (long form) or sample_submission.csv (wide form), and the recordings in
test_soundscapes/. Only the windows that the table asks for are read; a window of 5 s ends at its stamp.
"""

from pathlib import Path

import numpy as np

from birdnet_fs.analysis.competition.folder import Recordings, audio_folder, competition_table, recordings_by_name
from birdnet_fs.analysis.competition.rows import SubmissionRows, Window, read_submission_rows
from birdnet_fs.analysis.competition.table import SubmissionReport, write_submission
from birdnet_fs.core.errors import UserError
from birdnet_fs.core.lock import locked
from birdnet_fs.data.ledger import Ledger
from birdnet_fs.data.manifest import Clip
from birdnet_fs.motifs.classifier.clips import CLIP_S
from birdnet_fs.motifs.classifier.model import SubmissionClassifier, clip_vectors


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
    clips, ledger = _clips(rows, recordings_by_name(audio_folder(root)))
    windows, probabilities = list[Window](), np.zeros((0, len(classifier.classes)))
    if clips:
        try:
            scored = clip_vectors(classifier.features, classifier.reference, list(clips.values()))
        except UserError as error:  # no window could be read
            for (name, end), clip in clips.items():
                ledger.add(clip.path, "quarantined", str(error), source=f"{name}_{end}")
        else:
            usable = [row.status != "quarantined" for row in scored.ledger.rows]
            windows = [window for window, ok in zip(clips, usable, strict=True) if ok]
            ledger.rows += scored.ledger.rows
            probabilities = classifier.probabilities(scored.vectors)
    return write_submission(rows, classifier.classes, windows, probabilities, output, threshold=threshold), ledger


def _clips(rows: SubmissionRows, recordings: Recordings) -> tuple[dict[Window, Clip], Ledger]:
    """The windows whose recordings are there, and a ledger of the recordings that are not."""
    clips, ledger, missing = dict[Window, Clip](), Ledger(), set[str]()
    for name, end in dict.fromkeys(rows.windows):
        path = recordings.paths.get(name)
        if path:
            clips[name, end] = Clip(path, max(0.0, end - CLIP_S), float(end), source=f"{name}_{end}")
        elif name not in missing:
            missing.add(name)
            ledger.add(recordings.folder / name, "quarantined", recordings.why_not(name), source=name)
    return clips, ledger
