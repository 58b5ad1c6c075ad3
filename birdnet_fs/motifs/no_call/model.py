"""A stored no-call model: the head in a file of its own, and beside it a .metadata.json that names the embedding."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from birdnet_fs import __version__
from birdnet_fs.core.errors import UserError
from birdnet_fs.core.files import sha256, write_json
from birdnet_fs.core.json_file import read_json
from birdnet_fs.core.text import escaped
from birdnet_fs.inference.encode_clips import WindowFeatures
from birdnet_fs.motifs.clip_embeddings import embed_waveforms, embedding_reference, open_reference, width_of
from birdnet_fs.motifs.no_call.heads import Head, read_head, write_head

SUFFIX = ".metadata.json"
FORMAT = 1
MAX_WINDOW_S = 3600  # length of the windows that a model is fitted to


@dataclass(frozen=True, eq=False)
class NoCallModel:
    """An embedding and a head that finds calls on it.

    Attributes:
        features: The embedding.
        head: The head.
        window_s: Length in seconds of the windows that the head was fitted to.
        threshold: Lowest probability of a window that is taken to hold a call, 0..1.
        identity: Text that changes when a probability does.
    """

    features: WindowFeatures
    head: Head
    window_s: float
    threshold: float
    identity: str

    @property
    def sample_rate_hz(self) -> int:
        """Samples per second of the waveforms."""
        return self.features.sample_rate_hz

    def probabilities(self, waveforms: np.ndarray) -> NDArray[np.float64]:
        """Probability of a call in each window: float32 [n, n_samples] of any length -> float64 [n]."""
        return self.head.probabilities(embed_waveforms(self.features, waveforms))


def metadata_path(output: Path) -> Path:
    """The file that describes a stored head.

    >>> metadata_path(Path("2022-05-15-lgb.txt")).name
    '2022-05-15-lgb.metadata.json'
    """
    return output.with_suffix(SUFFIX)


def write_model(
    output: Path,
    head: Head,
    kind: str,
    features: WindowFeatures,
    *,
    window_s: float,
    threshold: float,
    about: Mapping[str, Any],
) -> None:
    """Write a head and its description.

    Args:
        output: File of the head.
        head: The head.
        kind: "gbm", "logistic" or "mlp".
        features: The embedding.
        window_s: Length in seconds of the windows that the head was fitted to.
        threshold: Lowest probability of a window that is taken to hold a call.
        about: Further entries, as JSON.
    """
    write_head(output, head)
    embedding = embedding_reference(features)
    stored = {"format": FORMAT, "birdnet_fs": __version__, "head": kind, "sha256": sha256(output)}
    write_json(
        metadata_path(output), {**stored, "window_s": window_s, "threshold": threshold, "embedding": embedding, **about}
    )


def open_model(path: Path | str, *, embedding: Path | str = "", threads: int = 0) -> NoCallModel:
    """Open a stored model; UserErrors of `read_head` and `open_reference` are passed on.

    Args:
        path: File of the head.
        embedding: Path of the run or encoder that embeds, if it was moved. Default: "", the path in the metadata.
        threads: CPU threads of the embedding. Default: 0, the runtime decides.

    Returns:
        The model.

    Raises:
        UserError: The description is missing or damaged, or the head is not the one that it describes.
    """
    path = Path(path)
    file = metadata_path(path)
    again = "copy the model again, both files"
    stored = read_json(file, again)
    if not isinstance(stored, dict) or type(stored.get("format")) is not int or stored["format"] > FORMAT:
        raise UserError(f"{escaped(file)} does not describe a no-call model of this version of birdnet_fs; {again}.")
    numbers = {}
    for key, largest in (("threshold", 1), ("window_s", MAX_WINDOW_S)):
        value = stored.get(key)
        if not isinstance(value, float | int) or not 0 <= value <= largest:
            raise UserError(f"{escaped(file)}: {key!r} must be a number in 0..{largest}; {again}.")
        numbers[key] = float(value)
    head = read_head(path, stored.get("head"))
    digest = sha256(path)
    if digest != stored.get("sha256"):
        raise UserError(f"{escaped(path)} is not the file that {escaped(file.name)} describes; {again}.")
    features = open_reference(stored.get("embedding"), path, place=embedding, threads=threads)
    if head.width != width_of(features):
        given = width_of(features)
        raise UserError(f"{escaped(path)} reads vectors of {head.width} values, its embedding gives {given}; {again}.")
    identity = hashlib.sha256(f"{digest} {features.identity}".encode()).hexdigest()
    return NoCallModel(features, head, numbers["window_s"], numbers["threshold"], identity)
