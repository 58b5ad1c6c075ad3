"""Files that particular programs read beside an artifact, in the format of each program.

Sources, read for names and columns: BirdNET-Analyzer (train/utils.py, params.py: parameters as rows of Parameter,Value,
the columns of the evaluation), BirdNET-Go (config.yaml; internal/classifier/range_filter.go), BirdNET-Pi
(scripts/utils/models.py: fixed file names, and a location filter by row number), Project Echo (class_mapping.json
and preprocess_config.json beside the network of its engine and edge client).
"""

import io
import json
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from birdnet_fs.core.class_names import scientific_and_common
from birdnet_fs.core.csv_files import csv_writer
from birdnet_fs.core.files import write_json, write_text
from birdnet_fs.core.text import mark_formula
from birdnet_fs.data.partition import PARTITION, PSEUDO_LABELS, TRAIN, read_partition
from birdnet_fs.data.score_table import read_scores
from birdnet_fs.export.targets.check import target_by_name
from birdnet_fs.export.targets.labels import label_lines
from birdnet_fs.metrics import classification
from birdnet_fs.metrics.auroc import macro_auroc
from birdnet_fs.reports.stored_scores import SCORES, has_scores
from birdnet_fs.runs.run import Run

EVALUATION = (
    "Class",
    "Precision (0.5)",
    "Recall (0.5)",
    "F1 Score (0.5)",
    "Precision (opt)",
    "Recall (opt)",
    "F1 Score (opt)",
    "AUPRC",
    "AUROC",
    "Optimal Threshold",
    "True Positives",
    "False Positives",
    "True Negatives",
    "False Negatives",
    "Samples",
    "Percentage (%)",
)
NO_FILTER_HZ = (0, 15_000)
PI_NAME = "BirdNET_GLOBAL_6K_V2.4_Model_FP16"  # the only model that BirdNET-Pi opens with 48 kHz and 3 s


def write_companion_files(target: str, artifact: Path, run: Run) -> list[Path]:
    """Write the files that the program of a target reads beside an artifact, except the labels (sidecars.py).

    Args:
        target: A key of `TARGETS`.
        artifact: The exported file; companion files are written to its folder.
        run: The run it was made from; scores.csv and partition.csv in its folder are used where they exist.

    Returns:
        The files written; empty for a target without companion files.
    """
    return [file for name in target_by_name(target).companion_files for file in WRITERS[name](artifact, run)]


def analyzer(artifact: Path, run: Run) -> list[Path]:
    """Write training settings and, where the run folder has them, clips per class and evaluation; return the files."""
    stem, experiment = artifact.with_suffix(""), run.experiment
    training, spec = experiment.training, run.frontend
    hop_s = experiment.data.segment_hop_s or spec.segment_s
    # an encoder of another project reads all frequencies: the limits of that program for "no filter"
    low_hz, high_hz = NO_FILTER_HZ if experiment.model.encoder else (round(spec.fmin_hz), round(spec.fmax_hz))
    settings: dict[str, object] = {  # only settings with the same meaning there
        "Classifier name": stem.name,
        "Model formats": "tflite",
        "Model save mode": "replace",
        "Bandpass filter minimum": low_hz,
        "Bandpass filter maximum": high_hz,
        "Audio speed": 1.0,
        "Crop overlap": max(0.0, spec.segment_s - hop_s),
    }
    if not experiment.model.encoder:  # heads on encoders are fitted in other ways
        settings |= {
            "Epochs": training.epochs,
            "Batch size": training.batch_size,
            "Learning rate": training.learning_rate,
            "Dropout": experiment.model.dropout,
            "Weight decay": training.optimizer.weight_decay,
            "Use label smoothing": training.loss.label_smoothing > 0,
            "Use mixup": experiment.augmentation.mixup.p > 0,
            "Use focal loss": training.loss.name == "focal",
            "Focal loss gamma": training.loss.focal_gamma,
        }
    files = [_table(stem, ".birdnet.train-params.csv", [("Parameter", "Value"), *settings.items()])]
    if (run.path / PARTITION).is_file():
        files.append(_table(stem, "_sample_counts.csv", [("Label", "Count"), *_sample_counts(run)]))
    if has_scores(run.path):
        files.append(_table(stem, "_evaluation.csv", [EVALUATION, *_evaluation(run)]))
    return files


def birdnet_go(artifact: Path, run: Run) -> list[Path]:
    """Write the lines for config.yaml; return the file."""
    del run
    stem = artifact.with_suffix("")
    file = stem.with_name(f"{stem.name}_birdnet-go.yaml")
    write_text(
        file,
        "# Lines for BirdNET-Go's config.yaml; adapt the paths to the machine it runs on.\n"
        "birdnet:\n"
        f"  modelpath: {json.dumps(artifact.name, ensure_ascii=False)}\n"
        f"  labelpath: {json.dumps(stem.name + '_Labels.txt', ensure_ascii=False)}\n"
        "  # Its filter by location and week uses the row of a species among BirdNET's 6,522, and would drop others:\n"
        "  rangefilter:\n"
        "    threshold: 0\n"
        "    passunmappedspecies: true\n",
    )
    return [file]


def birdnet_pi(artifact: Path, run: Run) -> list[Path]:
    """Write instructions for replacing the model of BirdNET-Pi; return the file."""
    del run
    stem = artifact.with_suffix("")
    file = stem.with_name(f"{stem.name}_birdnet-pi.txt")
    write_text(
        file,
        "BirdNET-Pi opens one model of 48 kHz and 3 s, by a fixed name. In its folder (~/BirdNET-Pi/model), back up\n"
        "the two files of that name, replace them with these, and restart the analysis:\n\n"
        f"  {artifact.name} -> {PI_NAME}.tflite\n"
        f"  {stem.name}_Labels.txt -> {PI_NAME}_Labels.txt\n\n"
        "Its filter by location and week uses the row of a species among BirdNET's 6,522, and would drop others: set\n"
        "SF_THRESH=0 in /etc/birdnet/birdnet.conf. With SENSITIVITY=1 there it shows the network's probabilities;\n"
        "its default of 1.25 draws them towards one half.\n"
        "With PRIVACY_THRESHOLD above 0 it drops a segment where a class of a human voice is among the best 60 per\n"
        "percent: with fewer classes than that, and such a class among them, it drops every segment.\n",
    )
    return [file]


def echo(artifact: Path, run: Run) -> list[Path]:
    """Write the classes (scientific names where unique) and the feature settings of the client; return the files."""
    names = [scientific_and_common(name)[0] for name in run.classes]
    if len(set(names)) < len(names):
        names = list(run.classes)
    spec = run.frontend
    mapping = {
        "classes": names,
        "label_to_index": {name: i for i, name in enumerate(names)},
        "index_to_label": {str(i): name for i, name in enumerate(names)},
    }
    preprocess = {
        "target_sr": spec.sample_rate_hz,
        "duration_s": spec.segment_s,
        "n_mels": spec.n_mels,
        "hop_length": spec.hop_length,
        "fmin": spec.fmin_hz,
        "fmax": spec.fmax_hz,
    }
    files = [artifact.with_name(name) for name in ("class_mapping.json", "preprocess_config.json")]
    for file, value in zip(files, (mapping, preprocess), strict=True):
        write_json(file, value)
    return files


WRITERS: dict[str, Callable[[Path, Run], list[Path]]] = {
    "analyzer": analyzer,
    "birdnet_go": birdnet_go,
    "birdnet_pi": birdnet_pi,
    "echo": echo,
}


def _sample_counts(run: Run) -> list[tuple[str, int]]:
    """Number of training clips by their labels, joined by `+` in the form of `Labels.txt`."""
    line_of = dict(zip(run.classes, label_lines(run.classes), strict=True))
    clips = [clip for part in (TRAIN, PSEUDO_LABELS) for clip in read_partition(run.path / PARTITION, part)]
    found = Counter("+".join(line_of[name] for name in run.classes if name in clip.labels) for clip in clips)
    return sorted(found.items())


def _evaluation(run: Run) -> list[Sequence[object]]:
    """A row of means, then a row per class, at the threshold 0.5 and at that of the best F1; empty where undefined."""
    table = read_scores(run.path / SCORES)
    line_of = dict(zip(run.classes, label_lines(run.classes), strict=True))
    thresholds, _ = classification.best_f1(table.targets, table.scores)
    best = np.where(np.isnan(thresholds), 0.5, thresholds)
    usual = _precision_recall_f1(classification.detection_counts(table.targets, table.scores, 0.5))
    optimal_counts = classification.detection_counts(table.targets, table.scores, best)
    optimal = _precision_recall_f1(optimal_counts)
    ap, auroc = classification.average_precision(table.targets, table.scores), macro_auroc(table.targets, table.scores)
    numbers = np.column_stack([usual, optimal, ap, auroc.per_class])
    numbers[table.targets.sum(axis=0) == 0] = np.nan  # undefined for a class that does not occur
    with np.errstate(invalid="ignore"):
        means = [np.nanmean(column) if np.isfinite(column).any() else np.nan for column in numbers.T]
    rows: list[Sequence[object]] = [("OVERALL (Macro-avg)", *map(_digits, means), *[""] * 7)]
    n = len(table.rows)
    for c, name in enumerate(table.classes):
        true_positive, false_positive, false_negative, true_negative = optimal_counts[c].tolist()
        samples = true_positive + false_negative
        about = (
            f"{best[c]:.2f}",
            true_positive,
            false_positive,
            true_negative,
            false_negative,
            samples,
            f"{100 * samples / max(n, 1):.2f}",
        )
        rows.append((line_of.get(name, name), *map(_digits, numbers[c]), *about))
    return rows


def _precision_recall_f1(counts: np.ndarray) -> np.ndarray:
    """Precision, recall and F1 [n_classes, 3] of counts [n_classes, 4]; 0 where the denominator is 0."""
    true_positive, false_positive, false_negative, _ = counts.T.astype(np.float64)
    total = np.stack(
        [
            true_positive + false_positive,
            true_positive + false_negative,
            true_positive + (false_positive + false_negative) / 2,
        ],
        axis=1,
    )
    return np.divide(true_positive[:, None], total, out=np.zeros_like(total), where=total > 0)


def _digits(value: float) -> str:
    return "" if np.isnan(value) else f"{value:.4f}"


def _table(stem: Path, ending: str, rows: Sequence[Sequence[object]]) -> Path:
    text = io.StringIO()
    csv_writer(text).writerows(list(map(mark_formula, row)) for row in rows)
    file = stem.with_name(stem.name + ending)
    write_text(file, text.getvalue())
    return file
