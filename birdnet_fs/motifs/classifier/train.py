"""Train a submission classifier on clips: the work of `birdnet-fs classify train`.

Each class has a balanced tree model of 31 leaves and 100 rounds of its own against all other classes. 90 % of the
recordings of every class are for training and 10 % for the test; clips of one recording, or augmented copies of one
clip, are never on both sides.
"""

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from birdnet_fs.core.errors import UserError
from birdnet_fs.core.lock import locked
from birdnet_fs.core.progress import say, track
from birdnet_fs.core.random_streams import Stream, generator
from birdnet_fs.core.text import escaped
from birdnet_fs.inference.encode_clips import WindowFeatures
from birdnet_fs.metrics.classification import classification_report
from birdnet_fs.motifs.boosting import N_ROUNDS, BoostedPath
from birdnet_fs.motifs.classifier.clips import LabeledClip
from birdnet_fs.motifs.classifier.model import METADATA, SubmissionClassifier, clip_vectors, write_classifier
from birdnet_fs.motifs.classifier.reference_motifs import ReferenceMotifs

TEST_SHARE = 0.1
LEDGER = ".ledger.csv"  # ending of the ledger, beside the folder


@dataclass(frozen=True, eq=False)
class TrainedClassifier:
    """A classifier and its score.

    Attributes:
        classifier: The classifier.
        macro_f1: Mean of the F1 of the classes, the most probable class of each test clip counting; nan without a test.
        n_train: Clips for training.
        n_test: Clips of the test.
    """

    classifier: SubmissionClassifier
    macro_f1: float
    n_train: int
    n_test: int


@locked("output")
def train_classifier(
    clips: Sequence[LabeledClip],
    features: WindowFeatures,
    output: Path,
    *,
    reference: ReferenceMotifs | None = None,
    seed: int = 0,
    overwrite: bool = False,
) -> TrainedClassifier:
    """Train and write a classifier; UserErrors of `clip_vectors` are passed on.

    Args:
        clips: Clips of two classes or more.
        features: The embedding.
        output: Folder to write.
        reference: Reference motifs. Default: None, the embedding alone is used.
        seed: Seed of the division. Default: 0.
        overwrite: Whether to replace a classifier. Default: False.

    Returns:
        The classifier and its score.

    Raises:
        UserError: The folder exists, or there are fewer than two classes.
    """
    if output.exists() and not (overwrite and (output / METADATA).is_file()):
        how = "or --overwrite" if (output / METADATA).is_file() else "which it does not replace"
        raise UserError(f"{escaped(output)} exists already; give another folder, {how}.")
    found = clip_vectors(features, reference, [each.clip for each in clips])
    kept = [each for each, row in zip(clips, found.ledger.rows, strict=True) if row.status != "quarantined"]
    if len(kept) < len(clips):
        say(found.ledger.summary())
    labels = np.array([each.label for each in kept])
    classes = tuple(sorted(set(labels.tolist())))
    if len(classes) < 2:
        shown = ", ".join(map(escaped, classes))
        raise UserError(f"A classifier needs clips of two classes or more. Received: {shown}")
    train, test = split_clips(kept, seed)
    x, trees = found.vectors, []
    for name in track(classes, "training", unit="class"):
        path = BoostedPath(x[train], labels[train] == name, N_ROUNDS, balanced=True)
        trees.append(path.head(N_ROUNDS))
    classifier = SubmissionClassifier(classes, tuple(trees), features, reference)
    score = macro_f1(labels[test], classifier.probabilities(x[test]), classes)
    about = {
        "seed": seed,
        "clips": {name: int((labels == name).sum()) for name in classes},
        "parts": [len(train), len(test)],
        "test_macro_f1": score if len(test) else None,
    }
    write_classifier(output, classifier, about)
    found.ledger.write(output.with_name(output.name + LEDGER))
    return TrainedClassifier(classifier, score, len(train), len(test))


def split_clips(clips: Sequence[LabeledClip], seed: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Divide clips into training and test, recording by recording.

    Args:
        clips: The clips.
        seed: Seed of the draw.

    Returns:
        int64 [n_train] and [n_test], numbers of the clips, ascending. A class of one recording is in training alone.
    """
    recordings: dict[str, dict[str, list[int]]] = {}
    for number, each in enumerate(clips):
        recordings.setdefault(each.label, {}).setdefault(each.recording, []).append(number)
    test: list[int] = []
    for label, own in recordings.items():
        names = sorted(own)
        order = generator(seed, Stream.CLASSIFIER_SPLIT, zlib.crc32(label.encode())).permutation(len(names))
        n_test = 0 if len(names) < 2 else max(1, round(TEST_SHARE * len(names)))
        for place in order[:n_test]:
            test += own[names[int(place)]]
    every = np.arange(len(clips))
    held = np.isin(every, test)
    return every[~held], every[held]


def macro_f1(labels: np.ndarray, probabilities: np.ndarray, classes: Sequence[str]) -> float:
    """Macro F1 of the most probable class, over the classes that are there or were predicted.

    Args:
        labels: str [n], the class of each clip.
        probabilities: float [n, n_classes].
        classes: Names of the classes.

    Returns:
        0..1; nan without a clip.
    """
    if not len(labels):
        return float("nan")
    targets = (labels[:, None] == np.array(classes)).astype(np.float32)
    there = targets.any(axis=0)
    there[np.unique(probabilities.argmax(axis=1))] = True
    f1 = classification_report(targets, probabilities, multi_label=False).f1
    return float(np.nan_to_num(f1[there]).mean())
