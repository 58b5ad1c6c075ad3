"""Analysis of a store: the head of a run on the stored embeddings, and the tables of `analyze`, without audio."""

import os
from collections.abc import Collection, Sequence
from functools import partial
from pathlib import Path

import numpy as np

from birdnet_fs.analysis.analyze import Progress, analysis_settings, one_by_one, write_tables
from birdnet_fs.analysis.combined.options import DEFAULT_TABLES, TableOptions
from birdnet_fs.analysis.decision import make_decision
from birdnet_fs.analysis.detections import RecordingDetections
from birdnet_fs.analysis.options import check_options
from birdnet_fs.analysis.output import OutputFolder
from birdnet_fs.analysis.postprocessing.chain import Windows
from birdnet_fs.analysis.resume import Content, Outcome, settings_key
from birdnet_fs.analysis.scoring.recording_detections import merge_windows, pick_windows
from birdnet_fs.analysis.table_formats import check_formats
from birdnet_fs.core.errors import UserError
from birdnet_fs.core.lock import locked
from birdnet_fs.data.ledger import Ledger
from birdnet_fs.inference.engine import Engine
from birdnet_fs.runs.folder_kind import refuse_other_results
from birdnet_fs.runs.run import load_run, run_identity
from birdnet_fs.search.class_scores import open_store_head
from birdnet_fs.search.store import Store


@locked("output")
def analyze_store(
    run: Path,
    store: Store,
    output: Path | str,
    *,
    formats: Sequence[str] = ("csv",),
    min_confidence: float | None = None,
    top_n: int = 0,
    merge_consecutive: int = 1,
    species: Collection[str] = (),
    threads: int = 0,
    precision: float | None = None,
    post: str | None = None,
    table_options: TableOptions | None = None,
    overwrite: bool = False,
) -> Ledger:
    """Score the windows of a store and write the tables of its recordings.

    The tables are those of `analyze` with the windows of the store, but for the rounding of its embeddings. UserErrors
    of `open_store_head`, `check_options` and `write_tables` are passed on.

    Args:
        run: Folder of a run on the encoder of the store.
        store: The store.
        output: Folder for the tables and `ledger.csv`.
        formats: Keys of `table_formats.FORMATS`. Default: "csv".
        min_confidence: Lowest probability that is written, 0..1. Default: 0.25, or 0 when `top_n` is given.
        top_n: Highest number of classes per window; 0 (default) = no limit.
        merge_consecutive: Highest number of consecutive windows of a class that are merged; 1 (default) = none, 0 = no
            limit.
        species: Class names or scientific names that are written. Default: all.
        threads: CPU threads of torch. Default: 0, left as they are.
        precision: Wanted precision, one of those for which the calibration of the run has thresholds (birdnet-fs
            calibrate), which replace `min_confidence`. Default: None.
        post: Post-processing of the scores of each recording (postprocessing/chain.py). Default: None: with a precision
            that of the calibration, else none.
        table_options: Tables over all recordings, and the style of tables. Default: None, those of `TableOptions`.
        overwrite: Whether finished recordings are scored again, and tables replaced that were edited. Default: False.

    Returns:
        The ledger, also written to `output/ledger.csv`.

    Raises:
        UserError: While a recording is scored that was quarantined when it was embedded; the ledger takes its reason.
    """
    names, header = check_formats(formats), store.header
    head, loaded = open_store_head(header, run, threads=threads), load_run(run)
    identity = f"{run_identity(run)} {header.identity} {header.dtype}"
    engine = Engine(head.classes, loaded.frontend, head.activation, identity, head.logits, calibration=head.calibration)
    options = check_options(
        engine,
        min_confidence=min_confidence,
        overlap_s=header.segment_s - header.hop_s,
        top_n=top_n,
        merge_consecutive=merge_consecutive,
        species=species,
    )
    decision = make_decision(engine, precision=precision, post=post, min_confidence=min_confidence, hop_s=header.hop_s)
    key = settings_key(analysis_settings(engine, options, decision))
    # a database of another program does not state the folder of the recordings: paths stay as it gives them
    known = all(each.root for each in store.recordings)
    folders = [Path(each.root if known else "") for each in store.recordings]
    placed = {
        Path(os.path.normpath(folder / each.path)): number
        for number, (folder, each) in enumerate(zip(folders, store.recordings, strict=True))
    }
    root = Path(os.path.commonpath(set(folders))) if known else Path()
    style = table_options or DEFAULT_TABLES
    folder = OutputFolder(Path(output), root, names, key, overwrite, style)
    refuse_other_results(folder.folder, "an analysis")
    order = np.argsort(store.recording, kind="stable")
    ends = np.searchsorted(store.recording[order], np.arange(len(store.recordings) + 1))
    progress = Progress(len(placed))

    def score(path: Path) -> tuple[RecordingDetections, Outcome]:
        number = placed[path]
        each = store.recordings[number]
        if each.status == "quarantined":
            raise UserError(each.reason)
        rows = order[ends[number] : ends[number + 1]]
        rows = rows[np.argsort(store.start_s[rows], kind="stable")]
        spans = np.stack([store.start_s[rows], store.end_s[rows]], axis=1)
        scores = decision.chain(head.probabilities(store.embeddings(rows)), Windows(path, spans[:, 0]))
        found = pick_windows(scores, options, decision)
        detections = merge_windows(found, spans, head.classes, options.merge_consecutive)
        progress.audio(len(rows) * header.hop_s)
        spec = loaded.frontend
        of_windows = (header.segment_s, header.hop_s, len(rows))
        scored = RecordingDetections(path, folders[number], spec.fmin_hz, spec.fmax_hz, detections, *of_windows)
        return scored, Outcome(each.status, each.reason, each.flags, each.duration_s, len(detections))

    contents = {
        path: Content(str(path), each.n_bytes, each.mtime_ns, each.head, each.tail)
        for path, each in zip(placed, store.recordings, strict=True)
    }
    return write_tables(folder, folder.places(list(placed), contents), partial(one_by_one, score), progress)
