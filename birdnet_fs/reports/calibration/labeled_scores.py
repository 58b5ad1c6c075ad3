"""Scores of the labeled windows that a calibration is made on: validation clips of a run, or recordings of the user."""

import dataclasses
import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from birdnet_fs import schema
from birdnet_fs.analysis.postprocessing.chain import Chain, Windows
from birdnet_fs.core.errors import UserError
from birdnet_fs.core.progress import say
from birdnet_fs.core.settings import override
from birdnet_fs.core.text import count, escaped
from birdnet_fs.data.manifest import Clip
from birdnet_fs.data.partition import PARTITION, VAL, read_partition
from birdnet_fs.data.score_table import ScoreRow, ScoreTable, score_table
from birdnet_fs.data.targets import clip_targets
from birdnet_fs.inference.clips import score_clips
from birdnet_fs.inference.engine import Engine
from birdnet_fs.reports.labeled import guess_data, score_labeled
from birdnet_fs.runs.provenance import provenance

TOLERANCE_S = 0.011  # of lengths and starts of windows: centiseconds in tables of labels


@dataclass(frozen=True)
class CalibrationScores:
    """Scores of labeled windows.

    Attributes:
        table: The scores, without calibration, and the true classes.
        source: Name of the recordings or clips, for reports.
        hop_s: Seconds between the windows of a recording; 0 where the rows are no regular windows of the model.
    """

    table: ScoreTable
    source: str
    hop_s: float


def validation_scores(engine: Engine, model: Path) -> CalibrationScores:
    """Score the validation clips of a run.

    Args:
        engine: The opened run.
        model: Folder of the run.

    Returns:
        The scores.

    Raises:
        UserError: The model is no run, or has no validation clips.
    """
    clips = read_partition(model / PARTITION, VAL) if (model / PARTITION).is_file() else ()
    if not clips:
        raise UserError(
            f"{escaped(model)} has no validation clips; give labeled recordings that it was not trained on: "
            "birdnet-fs calibrate RUN LABELED -o RUN2."
        )
    found = score_clips(engine, clips)
    targets = clip_targets(found.clips, engine.classes, multi_label=engine.multi_label)
    table = ScoreTable.from_clips(found.clips, found.probabilities, targets, engine.classes)
    say(
        "Calibrated on the validation clips, by which the weights of the run were chosen: expect slightly larger "
        "errors on other recordings."
    )
    return CalibrationScores(table, f"validation clips of {escaped(model)}", _hop_s(table, engine.segment_s))


def labeled_scores(
    engine: Engine, model: Path, source: Path, data: schema.Data, settings: Sequence[str]
) -> CalibrationScores:
    """Score labeled recordings that the model was not trained on; those that it was are left out.

    Args:
        engine: The opened model.
        model: Folder or file of the model.
        source: Folder of labeled recordings, or table of labels.
        data: Settings of the run for its own recordings, from which names of columns and kind of labels are taken.
        settings: Changes of these settings, as `data.KEY=VALUE`.

    Returns:
        The scores.

    Raises:
        UserError: The segments asked for are no windows of the model, or all recordings were trained on.
    """
    # also for a model with one label: windows of recordings with timed labels may have several labels or none
    labels = dataclasses.replace(data, multi_label=True, segment_s=0.0, segment_hop_s=0.0)
    asked = override(schema.Experiment(data=guess_data(source, labels)), settings).data
    if asked.segment_s and abs(asked.segment_s - engine.segment_s) > TOLERANCE_S:
        raise UserError(
            f"data.segment_s must be the window of the model, {engine.segment_s:g} s, because thresholds are used with "
            f"its windows. Received: {asked.segment_s:g}"
        )
    table, ledger, _ = score_labeled(engine, asked)
    if ledger.counts().get("quarantined"):
        say(ledger.summary())
    known = set[str]()
    if model.is_dir():
        clips = [Clip(Path(path)) for path in dict.fromkeys(table.paths)]
        known = {str(clip.path) for clip in provenance(model).trained_on(clips)}
    if known:
        say(
            f"{count(len(known), 'recording')} that the run was trained on left out (the first: {escaped(min(known))})."
        )
        kept = [i for i, row in enumerate(table.rows) if row.path not in known]
        if not kept:
            raise UserError(
                f"The run was trained on all recordings in {escaped(source)}, on which it is overconfident; give "
                "others."
            )
        table = score_table([table.rows[i] for i in kept], table.scores[kept], table.classes)
    hop_s = _hop_s(table, engine.segment_s)
    if not hop_s:
        say(
            f"Some labeled rows are no windows of {engine.segment_s:g} s: their scores are means over windows, and "
            "thresholds for single windows may be higher or lower. Labels with times make windows."
        )
    return CalibrationScores(table, escaped(source), hop_s)


def post_processed(
    scores: NDArray[np.float32], rows: Sequence[ScoreRow], hop_s: float, chain: Chain
) -> NDArray[np.float32]:
    """Apply post-processing to the windows of each recording.

    Args:
        scores: float32 [n, n_classes].
        rows: The n windows.
        hop_s: Seconds between windows of a recording.
        chain: Post-processing of the windows of a recording in order.

    Returns:
        float32 [n, n_classes].

    Raises:
        UserError: The rows are no regular windows of whole recordings.
    """
    if not hop_s:
        raise UserError(
            "Post-processing needs windows of whole recordings, and the labeled rows are clips; give recordings with "
            "timed labels."
        )
    found = np.empty_like(scores)
    for path, numbers in _by_recording(rows).items():
        start_s = np.array([rows[i].onset_s for i in numbers])
        found[numbers] = chain(scores[numbers], Windows(Path(path), start_s))
    return found


def _by_recording(rows: Sequence[ScoreRow]) -> dict[str, list[int]]:
    """Path of each recording -> numbers of its rows in order of onset."""
    found: dict[str, list[int]] = {}
    for number in sorted(range(len(rows)), key=lambda i: rows[i].onset_s):
        found.setdefault(rows[number].path, []).append(number)
    return found


def _hop_s(table: ScoreTable, segment_s: float) -> float:
    """Seconds between windows where all rows are regular windows of the model; 0 else."""
    steps = list[float]()
    for numbers in _by_recording(table.rows).values():
        each = [table.rows[number] for number in numbers]
        steps += [after.onset_s - before.onset_s for before, after in itertools.pairwise(each)]
        # the last window of a recording may be shorter
        if any(abs(row.duration_s - segment_s) > TOLERANCE_S for row in each[:-1]):
            return 0.0
        if each[-1].duration_s > segment_s + TOLERANCE_S:
            return 0.0
    if not steps:
        return segment_s
    hop_s = float(np.median(steps))
    multiples = np.array(steps) / hop_s if hop_s > TOLERANCE_S else np.full(1, np.inf)
    return hop_s if (np.abs(multiples - multiples.round()) * hop_s < 2 * TOLERANCE_S).all() else 0.0
