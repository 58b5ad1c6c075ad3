"""Score labeled recordings with any model."""

from pathlib import Path
from typing import NamedTuple

import numpy as np

from birdnet_fs import schema
from birdnet_fs.batches.cache.waveforms import waveform_reader
from birdnet_fs.core.errors import UserError
from birdnet_fs.core.progress import say, track
from birdnet_fs.core.text import escaped
from birdnet_fs.data.ledger import Ledger
from birdnet_fs.data.manifest import Clip, Manifest, read_manifest
from birdnet_fs.data.score_table import ScoreTable, score_table
from birdnet_fs.data.segments import Segment, cut_segments
from birdnet_fs.data.targets import clip_targets
from birdnet_fs.data.waveforms import Waveforms
from birdnet_fs.data.windows import clip_rule
from birdnet_fs.inference.clips import mean_over_windows, score_clips
from birdnet_fs.inference.engine import Engine

_BATCH = 64  # segments read before they are scored


class LabeledScores(NamedTuple):
    """Scores of labeled recordings.

    Attributes:
        table: The scores.
        ledger: The status of all input rows.
        events: Annotated events with times; () for clips that are labeled as a whole.
    """

    table: ScoreTable
    ledger: Ledger
    events: tuple[Clip, ...]


def score_labeled(engine: Engine, data: schema.Data) -> LabeledScores:
    """Score labeled recordings with a run or an artifact.

    Each clip gives one row, the mean over its windows. Recordings with timed events are cut into segments of the
    model's length, one row each.

    Args:
        engine: The model, from `open_engine`.
        data: Location of the recordings and labels; rows without a class of the model are left out.

    Returns:
        The scores, the ledger of all input rows, and the events.

    Raises:
        UserError: Nothing usable was found, or no label is a class of the model.
    """
    manifest = read_manifest(data, classes=engine.classes)
    if not any(set(clip.labels) & set(engine.classes) for clip in manifest.clips):
        raise UserError(
            f"None of the labels in {escaped(data.root)} is a class of the model; its classes are "
            f"{', '.join(engine.classes[:5])} and {max(0, len(engine.classes) - 5)} more. For classes "
            "it was not trained on, use `birdnet-fs fewshot-eval`."
        )
    if manifest.events:
        return _segments(engine, manifest, data)
    found = score_clips(engine, manifest.clips, waveform_reader(data))
    for row in found.ledger.rows:
        if row.status == "quarantined":
            manifest.ledger.quarantine(row.path, row.reason)
    targets = clip_targets(found.clips, engine.classes, multi_label=engine.multi_label)
    table = ScoreTable.from_clips(found.clips, found.probabilities, targets, engine.classes)
    return LabeledScores(table, manifest.ledger, ())


def _segments(engine: Engine, manifest: Manifest, data: schema.Data) -> LabeledScores:
    segments = cut_segments(
        manifest,
        segment_s=data.segment_s or engine.segment_s,
        segment_hop_s=data.segment_hop_s,
        min_overlap_s=data.min_overlap_s,
        sample_rate_hz=engine.sample_rate_hz,
    )
    certain = [segment for segment in segments if not set(segment.unknown) & set(engine.classes)]
    if len(certain) < len(segments):
        n = len(segments) - len(certain)
        say(f"{n} of {len(segments)} segments overlap events that are marked as unknown (UNK) and are left out.")
        segments = certain
    rule = clip_rule(engine.n_samples, engine.sample_rate_hz, engine.clip_hop_s)
    kept: list[Segment] = []
    scores = []
    starts = range(0, len(segments), _BATCH)
    for start in track(starts, "scoring segments", unit=f"{_BATCH} segments"):
        part = segments[start : start + _BATCH]
        by_place = {(s.path, s.onset_s): s for s in part}
        clips = [Clip(s.path, s.onset_s, s.onset_s + s.duration_s) for s in part]
        try:
            waveforms = Waveforms(clips, engine.sample_rate_hz)
        except UserError as error:
            say(f"Left out: {error}")
            for clip in clips:
                manifest.ledger.quarantine(clip.path, str(error))
            continue
        for row in waveforms.ledger.rows:
            if row.status == "quarantined":
                manifest.ledger.quarantine(row.path, row.reason)
        windows = [rule.cut(waveforms[i]) for i in range(len(waveforms))]
        probabilities = engine.probabilities(np.concatenate(windows))
        scores.append(mean_over_windows(probabilities, [len(each) for each in windows]).astype(np.float32))
        kept += [by_place[clip.path, clip.onset_s] for clip in waveforms.clips]
    if not kept:
        raise UserError(f"None of the {len(segments)} segments could be read; look at the recordings.")
    return LabeledScores(score_table(kept, np.concatenate(scores), engine.classes), manifest.ledger, manifest.clips)


def guess_data(source: Path, experiment_data: schema.Data) -> schema.Data:
    """Data settings for labeled recordings in a folder, or in a table beside the recordings.

    Args:
        source: The folder or the table.
        experiment_data: Settings of the run; label and group columns, kind of labels and window settings are taken.

    Returns:
        The settings to read `source` with.

    Raises:
        UserError: `source` does not exist.
    """
    if not source.exists():
        raise UserError(f"Labeled recordings were expected at {escaped(source)} (a folder or a table); none is there.")
    is_folder = source.is_dir()
    return schema.Data(
        root=str(source if is_folder else source.parent),
        table="" if is_folder else source.name,
        label_column=experiment_data.label_column,
        group_column=experiment_data.group_column,
        multi_label=experiment_data.multi_label,
        binary_label=experiment_data.binary_label,
        noise_label=experiment_data.noise_label,
        segment_s=experiment_data.segment_s,
        segment_hop_s=experiment_data.segment_hop_s,
        min_overlap_s=experiment_data.min_overlap_s,
    )
