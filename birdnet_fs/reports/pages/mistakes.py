"""The most instructive mistakes of an evaluation: those made with the greatest certainty, with their sound."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from birdnet_fs.audio.read import read_audio
from birdnet_fs.core.errors import UserError
from birdnet_fs.core.text import escaped
from birdnet_fs.data.score_table import ScoreTable
from birdnet_fs.reports.pages.spectrograms import clock, picture, sound

N_MISTAKES = 20
MOST_OF_A_PAIR = 2  # mistakes of the same two classes, so that one pair does not fill the page
LONGEST_S = 10.0  # of the audio of one mistake


@dataclass(frozen=True)
class Mistake:
    """One wrong prediction.

    Attributes:
        row: Row of the table.
        true: True class; "" for none (a false alarm).
        predicted: Predicted class; "" for none (a miss).
        certainty: Error of the scores, 0..1. With one label, the score of the predicted class minus that of the true
            one; with several, the score of a false alarm, or 1 minus the score of a missed class.
    """

    row: int
    true: str
    predicted: str
    certainty: float


def find_mistakes(table: ScoreTable, *, multi_label: bool, n: int = N_MISTAKES) -> list[Mistake]:
    """Choose the mistakes with the greatest certainty.

    Args:
        table: Scores and targets.
        multi_label: Whether rows may have several labels, each predicted at a score of 0.5; else the class with the
            highest score is predicted, and rows with one label are looked at.
        n: Most mistakes. Default: N_MISTAKES.

    Returns:
        The mistakes, the most certain first, at most MOST_OF_A_PAIR of the same classes.
    """
    truth, scores = table.targets > 0, table.scores
    found: list[Mistake] = []
    pairs: Counter[tuple[str, str]] = Counter()
    for certainty, row, true, predicted in _ordered(truth, scores, multi_label):
        names = (table.classes[true] if true >= 0 else "", table.classes[predicted] if predicted >= 0 else "")
        if pairs[names] == MOST_OF_A_PAIR:
            continue
        pairs[names] += 1
        found.append(Mistake(row, *names, certainty))
        if len(found) == n:
            break
    return found


def _ordered(truth: np.ndarray, scores: np.ndarray, multi_label: bool) -> Iterator[tuple[float, int, int, int]]:
    """(certainty, row, true class, predicted class) of all mistakes, the most certain first; -1 for no class."""
    if multi_label:
        rows, classes = np.nonzero(truth != (scores >= 0.5))
        missed = truth[rows, classes]
        certainty = np.where(missed, 1 - scores[rows, classes], scores[rows, classes])
        true, predicted = np.where(missed, classes, -1), np.where(missed, -1, classes)
    else:
        rows = np.flatnonzero(truth.sum(axis=1) == 1)
        true, predicted = truth[rows].argmax(axis=1), scores[rows].argmax(axis=1)
        wrong = true != predicted
        rows, true, predicted = rows[wrong], true[wrong], predicted[wrong]
        certainty = scores[rows, predicted] - scores[rows, true]
    for i in np.argsort(-certainty, kind="stable").tolist():
        yield float(certainty[i]), int(rows[i]), int(true[i]), int(predicted[i])


def mistake_rows(table: ScoreTable, mistakes: list[Mistake], sample_rate_hz: int) -> list[dict[str, Any]]:
    """Values of the page for mistakes, with a spectrogram and the sound where the recording can be read.

    Args:
        table: Scores and targets.
        mistakes: Mistakes in it.
        sample_rate_hz: Rate at which the model listens, Hz; the pictures end at half of it, or at 15 kHz.

    Returns:
        One mapping for each mistake.
    """
    rows = []
    for each in mistakes:
        row = table.rows[each.row]
        values = dict(zip(table.classes, table.scores[each.row].tolist(), strict=True))
        shown: dict[str, Any] = {
            "true": escaped(each.true),
            "predicted": escaped(each.predicted),
            "true_score": values.get(each.true),
            "predicted_score": values.get(each.predicted),
            "recording": escaped(Path(row.path).name),
            "start": clock(row.onset_s),
            "picture": None,
            "sound": None,
            "reason": "",
        }
        try:
            audio = read_audio(
                row.path,
                sample_rate_hz=sample_rate_hz,
                onset_s=row.onset_s,
                duration_s=min(LONGEST_S, row.duration_s),
            )
        except UserError as error:
            shown["reason"] = escaped(str(error))
        else:
            shown["picture"] = picture(audio.waveform, sample_rate_hz, start_s=row.onset_s)
            shown["sound"] = sound(audio.waveform, sample_rate_hz)
        rows.append(shown)
    return rows
