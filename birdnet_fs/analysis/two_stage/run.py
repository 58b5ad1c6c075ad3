"""Analysis of recordings as in ANIMAL-SPOT, with one stage or two."""

import hashlib
from collections.abc import Collection, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from birdnet_fs.analysis import table_formats as tables
from birdnet_fs.analysis.analyze import Progress, one_by_one, write_tables
from birdnet_fs.analysis.combined.options import DEFAULT_TABLES, TableOptions
from birdnet_fs.analysis.detections import Detection, RecordingDetections
from birdnet_fs.analysis.inputs import find_recordings
from birdnet_fs.analysis.options import allowed_classes
from birdnet_fs.analysis.output import OutputFolder
from birdnet_fs.analysis.resume import Outcome, settings_key
from birdnet_fs.analysis.two_stage.events import clean_events, merge_windows, slice_events
from birdnet_fs.analysis.two_stage.log import prediction_log
from birdnet_fs.analysis.two_stage.preset import ANIMAL_SPOT, AnimalSpotPreset
from birdnet_fs.analysis.two_stage.windows import call_probabilities, log_classes, predict_windows
from birdnet_fs.audio.read import AudioStream, stream_audio
from birdnet_fs.core.errors import UserError
from birdnet_fs.core.lock import locked
from birdnet_fs.data.ledger import Ledger
from birdnet_fs.data.windows import WindowRule, batched, pad_to
from birdnet_fs.inference.engine import Engine
from birdnet_fs.runs.folder_kind import refuse_other_results

FORMATS = ("animal_spot",)
Number = TypeVar("Number", bound=np.generic)


@locked("output")
def analyze_animal_spot(
    engine: Engine,
    inputs: Sequence[Path | str],
    output: Path | str,
    *,
    detector: Engine | None = None,
    preset: AnimalSpotPreset = ANIMAL_SPOT,
    formats: Sequence[str] = FORMATS,
    species: Collection[str] = (),
    batch_size: int = 32,
    table_options: TableOptions | None = None,
    overwrite: bool = False,
) -> Ledger:
    """Score recordings in short windows, and write events and prediction logs.

    Args:
        engine: Classifier; a window shorter than its segment is padded with zeros.
        inputs: Audio files, and folders that are searched recursively.
        output: Folder for the tables, `RECORDING_predict_output.log` and `ledger.csv`.
        detector: Decides which windows the classifier scores. Default: None, all of them.
        preset: Lengths and thresholds. Default: ANIMAL_SPOT.
        formats: Keys of `table_formats.FORMATS`. Default: "animal_spot".
        species: Class names or scientific names that are written. Default: all.
        batch_size: Windows per call of a model, 1 or more. Default: 32.
        table_options: Tables over all recordings, and the style of tables. Default: None, those of `TableOptions`.
        overwrite: Whether finished recordings are scored again, and tables replaced that were edited. Default: False.

    Returns:
        The ledger, also written to `output/ledger.csv`.

    Raises:
        UserError: An argument is out of range, a segment is shorter than the window, the detector has no class of
            noise, an input does not exist, no recording was found, or the output cannot be written.
    """
    names = tables.check_formats(formats)
    if batch_size < 1:
        raise UserError(f"batch_size must be 1 or more. Received: {batch_size}")
    check_preset(engine, detector, preset)
    root, recordings, refused = find_recordings(inputs)
    scorer = _Scorer(engine, detector, preset, allowed_classes(engine.classes, species), root, batch_size)
    options = table_options or DEFAULT_TABLES
    folder = OutputFolder(Path(output), root, names, scorer.key(), overwrite, options, with_log=True)
    refuse_other_results(folder.folder, "an analysis")
    scorer.progress = progress = Progress(len(recordings))
    return write_tables(folder, folder.places(recordings), partial(one_by_one, scorer.score), progress, refused)


def check_preset(engine: Engine, detector: Engine | None, preset: AnimalSpotPreset) -> None:
    """Refuse thresholds out of range, models with a shorter segment than the window, and detectors without noise.

    Args:
        engine: The classifier.
        detector: The detector, or None.
        preset: Lengths and thresholds.

    Raises:
        UserError: A threshold is out of range, a segment is shorter than the window, or the detector has no class of
            noise.
    """
    for name, value in (("min_conf", preset.threshold), ("gate_threshold", preset.detector_threshold)):
        if not 0 <= value <= 1:
            raise UserError(f"{name} must be in 0..1. Received: {value}")
    for what, model in (("classifier", engine), ("detector", detector)):
        if model is not None and model.segment_s < preset.window_s - 1e-9:
            raise UserError(
                f"The {what} must have a segment of {preset.window_s:g} s or more, the window of the preset. Received: "
                f"{model.segment_s:g} s"
            )
    log_classes(engine.classes)
    if detector is not None:
        call_probabilities(np.zeros((1, len(detector.classes)), np.float32), detector.classes)


class _Scorer:
    """Scores one recording after another."""

    progress: Progress

    def __init__(
        self,
        engine: Engine,
        detector: Engine | None,
        preset: AnimalSpotPreset,
        allowed: Sequence[int],
        root: Path,
        batch_size: int,
    ) -> None:
        self._engine, self._detector, self._preset = engine, detector, preset
        self._classes, self._allowed = log_classes(engine.classes), frozenset(allowed)
        self._root, self._batch_size = root, batch_size

    def key(self) -> str:
        """Hash of the models and settings."""
        classes = hashlib.sha256("\n".join(self._engine.classes).encode()).hexdigest()
        detector = self._detector.identity if self._detector else ""
        return settings_key(
            {
                "model": self._engine.identity,
                "classes": classes,
                "detector": detector,
                "preset": asdict(self._preset),
                "allowed": sorted(self._allowed),
            }
        )

    def score(self, recording: Path) -> tuple[RecordingDetections, Outcome]:
        """Detections and outcome of a recording; UserError is raised when it cannot be used."""
        preset, engine = self._preset, self._engine
        calls = None
        if self._detector is not None:
            found, _, _ = self._probabilities(self._detector, recording, None)
            calls = call_probabilities(found, self._detector.classes)
        wanted = None if calls is None else calls >= np.float32(preset.detector_threshold)
        scores, passed, stream = self._probabilities(engine, recording, wanted)
        if stream.status == "quarantined" or not len(passed):
            raise UserError(stream.reason or "the recording holds no audio")
        n = len(passed)
        calls = None if calls is None else _resized(calls, n)
        predictions = predict_windows(scores, calls, passed, self._classes, preset.threshold)
        rule, duration_s = _rule(engine, preset), float(stream.duration_s)
        starts = np.arange(n) * rule.hop / rule.sample_rate_hz
        spans = np.stack([starts, np.minimum(starts + rule.n_samples / rule.sample_rate_hz, duration_s)], axis=1)
        if preset.rule == "windows":
            events = merge_windows(spans, predictions, preset.hop_s)
        else:
            events = slice_events(spans, predictions, preset.hop_s, self._classes.noise)
        detections = tuple(
            Detection(each.onset_s, each.offset_s, self._classes.names[each.class_index], each.probability)
            for each in clean_events(events, preset.min_event_s, preset.max_gap_s)
            if each.class_index in self._allowed
        )
        limits = (engine.frontend.fmin_hz, engine.frontend.fmax_hz)
        n_total = round(duration_s * rule.sample_rate_hz)
        log = prediction_log(recording, rule, n_total, limits, self._classes, predictions, preset)
        found_all = RecordingDetections(
            recording.absolute(), self._root.absolute(), *limits, detections, preset.window_s, preset.hop_s, n, log=log
        )
        done = Outcome(stream.status, stream.reason, tuple(stream.flags), duration_s, len(detections))
        return found_all, done

    def _probabilities(
        self, engine: Engine, recording: Path, wanted: NDArray[np.bool_] | None
    ) -> tuple[NDArray[np.float32], NDArray[np.bool_], AudioStream]:
        """Probabilities [n_scored, n_classes] of the wanted windows, which windows they are, and the read recording."""
        rule = _rule(engine, self._preset)
        stream = stream_audio(recording, sample_rate_hz=engine.sample_rate_hz)
        rows, scored = list[NDArray[np.float32]](), list[NDArray[np.bool_]]()
        n = 0
        for group in batched(rule.stream(stream), self._batch_size):
            chosen = np.ones(len(group), bool) if wanted is None else _resized(wanted[n : n + len(group)], len(group))
            n += len(group)
            scored.append(chosen)
            if chosen.any():
                kept = [pad_to(wave, engine.n_samples) for (_, wave), use in zip(group, chosen, strict=True) if use]
                rows.append(engine.probabilities(np.stack(kept), batch_size=self._batch_size))
            self.progress.audio(len(group) * self._preset.hop_s if wanted is None or engine is self._engine else 0.0)
        found = np.concatenate(rows) if rows else np.zeros((0, len(engine.classes)), np.float32)
        return found, np.concatenate(scored) if scored else np.zeros(0, bool), stream


def _rule(engine: Engine, preset: AnimalSpotPreset) -> WindowRule:
    rate = engine.sample_rate_hz
    return WindowRule(round(preset.window_s * rate), round(preset.hop_s * rate), rate)


def _resized(values: NDArray[Number], n: int) -> NDArray[Number]:
    """`values` with `n` elements, the last one repeated: two sample rates may give one window more or less."""
    if len(values) >= n or not len(values):
        return values[:n] if len(values) else np.zeros(n, values.dtype)
    return np.concatenate([values, np.repeat(values[-1:], n - len(values))])
