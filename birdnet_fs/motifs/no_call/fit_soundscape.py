"""Fit a no-call model to labeled soundscapes and store it: the work of `birdnet-fs nocall`."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from birdnet_fs.core.errors import UserError
from birdnet_fs.core.lock import locked
from birdnet_fs.core.progress import say
from birdnet_fs.core.text import escaped
from birdnet_fs.data.manifest import Clip, Manifest, read_manifest
from birdnet_fs.motifs.clip_embeddings import embed_clips, open_embedding
from birdnet_fs.motifs.no_call.fitting import FittedHead, fit_folds, fit_single
from birdnet_fs.motifs.no_call.model import metadata_path, write_model
from birdnet_fs.schema import Data

TABLE, AUDIO = "train_soundscape_labels.csv", "train_soundscapes"  # of BirdCLEF-2021


@dataclass(frozen=True)
class NoCallFit:
    """Settings of the fit of a no-call model.

    Attributes:
        embedding: Run folder, exported file, foreign encoder, or "logmel".
        dim: Width that the embedding must have; 0 = any. Default: 0.
        head: "gbm", "logistic" or "mlp". Default: "gbm".
        split: "recordings", or "rows", which divides recordings. Default: "recordings".
        folds: Whether the number of steps is chosen by 5 folds instead of one division. Default: False.
        seed: Seed of the divisions. Default: 0.
        threads: CPU threads of the embedding; 0 = its runtime decides. Default: 0.
    """

    embedding: str
    dim: int = 0
    head: str = "gbm"
    split: str = "recordings"
    folds: bool = False
    seed: int = 0
    threads: int = 0


def soundscape_data(root: Path | str, table: str = TABLE) -> Data:
    """Settings of the labeled windows of soundscapes.

    Args:
        root: Folder in the layout of BirdCLEF-2021, or any labeled data.
        table: Table of labels inside it; "" = it is found. Default: "train_soundscape_labels.csv".

    Returns:
        The settings.

    Raises:
        UserError: There is no such folder or table.
    """
    root = Path(root)
    if not root.is_dir():
        raise UserError(f"--birdclef-root must be a folder of labeled soundscapes. Received: {escaped(root)}")
    if table and not (root / table).is_file():
        raise UserError(f"{escaped(root)} has no {escaped(table)}; give the table of labels with --table.")
    audio = AUDIO if table == TABLE and (root / AUDIO).is_dir() else ""
    return Data(str(root), table=table, audio=audio, multi_label=True)


def read_windows(data: Data) -> Manifest:
    """Read labeled windows, and show the notes and refusals of the reader."""
    found = read_manifest(data)
    for note in found.notes:
        say(f"Note: {note}")
    if found.ledger.counts()["quarantined"]:
        say(found.ledger.summary())
    return found


@locked("output")
def fit_soundscape(data: Data, fit: NoCallFit, output: Path, *, overwrite: bool = False) -> FittedHead:
    """Fit a no-call model and write OUTPUT, OUTPUT's .metadata.json and its .ledger.csv.

    UserErrors of `read_manifest`, `open_embedding`, `fit_single` and `fit_folds` are passed on.

    Args:
        data: The labeled windows; those without a class are the ones without a call.
        fit: Embedding, head and division of the windows.
        output: File of the head.
        overwrite: Whether to replace it. Default: False.

    Returns:
        The head and its scores.

    Raises:
        UserError: The output exists, or the windows are all with or all without calls.
    """
    if output.is_dir() or ((output.exists() or metadata_path(output).exists()) and not overwrite):
        raise UserError(f"{escaped(output)} exists already; give another file, or --overwrite.")
    features = open_embedding(fit.embedding, dim=fit.dim, threads=fit.threads)
    windows = read_windows(data)
    embedded = embed_clips(features, windows.clips)
    y = calls(embedded.clips)
    if y.all() or not y.any():
        raise UserError(
            f"{escaped(data.root)} must have windows with and without calls. Received: {y.sum()} with calls, "
            f"{(~y).sum()} without."
        )
    if fit.split == "rows":
        say("Rows of one recording are on both sides of the split, so the scores flatter.")
    function = fit_folds if fit.folds else fit_single
    recordings = [clip.recording_group for clip in embedded.clips]
    found = function(embedded.vectors, y, recordings, head=fit.head, by=fit.split, seed=fit.seed)
    about = {
        "data": {"root": data.root, "table": data.table, "where": data.where},
        "windows": {"with_calls": int(y.sum()), "without": int((~y).sum()), "recordings": len(set(recordings))},
        "split": fit.split,
        "parts": list(found.sizes),
        "seed": fit.seed,
        "best_step": found.best_step,
        "scores": {
            "auc": found.auc,
            "auc_of_folds": list(found.fold_aucs),
            "no_call_ap_of_folds": list(found.fold_aps),
            "test_auc": found.test_auc,
            "test_no_call_ap": found.test_ap,
        },
    }
    window_s = float(np.median([row.duration_s for row in embedded.ledger.rows if row.status != "quarantined"]))
    write_model(output, found.head, fit.head, features, window_s=window_s, threshold=found.threshold, about=about)
    embedded.ledger.write(output.with_suffix(".ledger.csv"))
    return found


def calls(clips: tuple[Clip, ...]) -> np.ndarray:
    """Whether each clip has a class: bool [n_clips]."""
    return np.array([bool(clip.labels) for clip in clips])
