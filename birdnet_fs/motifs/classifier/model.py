"""The folder of a submission classifier: metadata.json, trees/NUMBER.txt of each class, reference_motifs/NUMBER.npy."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from birdnet_fs import __version__
from birdnet_fs.core.errors import UserError
from birdnet_fs.core.files import sha256, write_json
from birdnet_fs.core.folders import atomic_folder
from birdnet_fs.core.json_file import read_json
from birdnet_fs.core.text import escaped
from birdnet_fs.data.manifest import Clip
from birdnet_fs.inference.encode_clips import WindowFeatures
from birdnet_fs.motifs.boosting import Trees
from birdnet_fs.motifs.classifier.reference_motifs import (
    ReferenceMotifs,
    clip_statistics,
    read_motifs,
    write_motifs,
)
from birdnet_fs.motifs.clip_embeddings import (
    EmbeddedClips,
    embed_clips,
    embedding_reference,
    open_reference,
    width_of,
)
from birdnet_fs.motifs.no_call.heads import read_head, write_head

METADATA, TREES, MOTIFS = "metadata.json", "trees", "reference_motifs"
FORMAT = 1
MAX_CLASSES = 20_000


@dataclass(frozen=True, eq=False)
class SubmissionClassifier:
    """One tree model for each class, on the embedding of a clip and its similarity to reference motifs.

    Attributes:
        classes: Names of the classes.
        trees: Trees of each.
        features: The embedding.
        reference: Reference motifs; None = the embedding alone is read.
    """

    classes: tuple[str, ...]
    trees: tuple[Trees, ...]
    features: WindowFeatures
    reference: ReferenceMotifs | None

    def probabilities(self, x: np.ndarray) -> NDArray[np.float64]:
        """Vectors of `clip_vectors` float32 [n, width] -> probability of each class float64 [n, n_classes]."""
        return np.stack([trees.probabilities(x) for trees in self.trees], axis=1)


def clip_vectors(features: WindowFeatures, reference: ReferenceMotifs | None, clips: Sequence[Clip]) -> EmbeddedClips:
    """The vectors that the trees read; UserErrors of `embed_clips` are passed on.

    Args:
        features: The embedding.
        reference: Reference motifs; None = the embedding alone.
        clips: Clips; one that cannot be read is left out and listed in the ledger.

    Returns:
        The clips and float32 [n_clips, width + reference.n_values].
    """
    found = embed_clips(features, clips, "embedding clips")
    if reference is None:
        return found
    joined = np.concatenate([found.vectors, clip_statistics(reference, found.clips)], axis=1)
    return EmbeddedClips(found.clips, joined, found.ledger)


def write_classifier(folder: Path, classifier: SubmissionClassifier, about: Mapping[str, Any]) -> None:
    """Write a classifier as one folder, atomically.

    Args:
        folder: The folder.
        classifier: The classifier.
        about: Further entries of metadata.json.
    """
    with atomic_folder(folder) as part:
        (part / TREES).mkdir()
        for number, trees in enumerate(classifier.trees):
            write_head(part / TREES / f"{number}.txt", trees)
        stored: dict[str, Any] = {"format": FORMAT, "birdnet_fs": __version__, "classes": list(classifier.classes)}
        stored["trees_sha256"] = [sha256(part / TREES / f"{n}.txt") for n in range(len(classifier.trees))]
        stored["embedding"] = embedding_reference(classifier.features)
        reference = classifier.reference
        stored["reference_motifs"] = write_motifs(part / MOTIFS, reference) if reference else None
        write_json(part / METADATA, {**stored, **about})


def open_classifier(folder: Path | str, *, embedding: Path | str = "", threads: int = 0) -> SubmissionClassifier:
    """Open a classifier; UserErrors of `open_reference`, `read_head` and `read_motifs` are passed on.

    Args:
        folder: Output of `birdnet-fs classify train`.
        embedding: Path of the run or encoder that embeds, if it was moved. Default: "", the path in the metadata.
        threads: CPU threads of the embedding. Default: 0, the runtime decides.

    Returns:
        The classifier.

    Raises:
        UserError: The folder is none of a classifier, or a file is not the one that was written.
    """
    folder = Path(folder)
    again = "copy the classifier again"
    if not (folder / METADATA).is_file():
        raise UserError(f"A folder written by `birdnet-fs classify train` was expected. Received: {escaped(folder)}")
    stored = read_json(folder / METADATA, again)
    stored = stored if isinstance(stored, dict) and stored.get("format") == FORMAT else {}
    classes: Any = stored.get("classes")
    hashes: Any = stored.get("trees_sha256")
    right = isinstance(classes, list) and isinstance(hashes, list) and all(isinstance(name, str) for name in classes)
    if not right or not 0 < len(classes) == len(hashes) <= MAX_CLASSES:
        raise UserError(f"{escaped(folder / METADATA)} does not describe a classifier of this version; {again}.")
    trees = []
    for number, digest in enumerate(hashes):
        file = folder / TREES / f"{number}.txt"
        head = read_head(file, "gbm")
        if not isinstance(head, Trees) or sha256(file) != digest:
            raise UserError(f"{escaped(file)} is not the file that {METADATA} describes; {again}.")
        trees.append(head)
    motifs = stored.get("reference_motifs")
    reference = read_motifs(folder / MOTIFS, motifs) if motifs is not None else None
    features = open_reference(stored.get("embedding"), folder / METADATA, place=embedding, threads=threads)
    width = width_of(features) + (reference.n_values if reference else 0)
    if any(each.width != width for each in trees):
        raise UserError(f"The trees of {escaped(folder)} read other vectors than its embedding gives; {again}.")
    return SubmissionClassifier(tuple(classes), tuple(trees), features, reference)
