"""`WindowEmbedder`: one interface for everything that embeds windows: a foreign encoder, a run, or an exported file."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from birdnet_fs.core.errors import UserError
from birdnet_fs.core.files import sha256
from birdnet_fs.core.json_file import read_json
from birdnet_fs.core.text import escaped
from birdnet_fs.encoders.cards import EncoderCard
from birdnet_fs.encoders.open import Encoder, open_encoder
from birdnet_fs.inference.sidecar import check_hash, read_sidecar


@dataclass(frozen=True, eq=False)
class WindowEmbedder:
    """Embeds windows, each on its own.

    Attributes:
        name: Name of the card, or of the experiment of a run.
        path: The file or folder, absolute.
        card: Card that was named for a foreign encoder; "" = found by its content, or none.
        identity: Text that changes when an embedding does.
        license: License of the network; "" for a run.
        sample_rate_hz: Samples per second of the waveforms.
        segment_s: Length of a window in seconds.
        width: Number of values of an embedding.
        embed: float32 windows [n, n_samples] -> float32 embeddings [n, width].
    """

    name: str
    path: str
    card: str
    identity: str
    license: str
    sample_rate_hz: int
    segment_s: float
    width: int
    embed: Callable[[np.ndarray], np.ndarray]

    @property
    def n_samples(self) -> int:
        """Length of a window in samples."""
        return round(self.sample_rate_hz * self.segment_s)


def open_embedder(path: Path | str, card: str = "", *, threads: int = 0) -> WindowEmbedder:
    """Open a foreign encoder, a run folder, or an exported file with embeddings.

    UserErrors of `open_encoder`, `read_sidecar` and `load_run` are passed on.

    Args:
        path: A .tflite or .onnx file, or a run folder.
        card: Card of a foreign encoder (`open_encoder`). Default: "", found by the content of the file.
        threads: CPU threads, 1 or more. Default: 0, the runtime decides.

    Returns:
        The embedder.

    Raises:
        UserError: A card is named for a run, or an exported file has no embeddings or reads features.
    """
    path = Path(path)
    if path.is_dir():
        if card:
            raise UserError(f"An encoder card describes a foreign file; {escaped(path)} is a run. Received: {card}")
        return _of_run(path, threads)
    if not card and _is_own(path):
        return _of_encoder(_open_own(path, threads), "", license="")
    encoder = open_encoder(path, card, threads=threads)
    return _of_encoder(encoder, card, license=encoder.card.license)


def _of_encoder(encoder: Encoder, named: str, *, license: str) -> WindowEmbedder:
    card = encoder.card
    return WindowEmbedder(
        name=card.name,
        path=os.path.abspath(encoder.facts.path),
        card=os.path.abspath(named) if named.lower().endswith(".json") else named,
        identity=encoder.identity,
        license=license,
        sample_rate_hz=card.sample_rate_hz,
        segment_s=card.segment_s,
        width=card.width,
        embed=encoder.embed,
    )


def _of_run(path: Path, threads: int) -> WindowEmbedder:
    from birdnet_fs.inference.embed import Embedder, embedding_width
    from birdnet_fs.inference.engine import build_on_device
    from birdnet_fs.runs import run as run_folder

    run = run_folder.load_run(path)
    model = build_on_device(run, threads=threads)
    identity = f"{sha256(path / run_folder.WEIGHTS)} {sha256(path / run_folder.CONFIG)}"
    spec = run.frontend
    return WindowEmbedder(
        name=run.title,
        path=os.path.abspath(path),
        card="",
        identity=identity,
        license="",
        sample_rate_hz=spec.sample_rate_hz,
        segment_s=spec.segment_s,
        width=embedding_width(model),
        embed=Embedder(model, spec).each,
    )


def _is_own(path: Path) -> bool:
    """Whether a file has a sidecar of this package beside it."""
    file = path.with_suffix(".json")
    found = read_json(file, "copy it again, or move it away") if file.is_file() else None
    return isinstance(found, dict) and "frontend" in found


def _open_own(path: Path, threads: int) -> Encoder:
    sidecar = read_sidecar(path)
    check_hash(path, sidecar)
    if not sidecar.embedding_width:
        raise UserError(
            f"{escaped(path)} gives no embeddings; export the run again with --embeddings, or give the run folder."
        )
    if sidecar.input != "waveform":
        raise UserError(f"{escaped(path)} reads features; export the run with waveform input, or give the run folder.")
    card = EncoderCard(
        name=path.stem,
        title=path.name,
        formats=("tflite", "onnx"),
        sample_rate_hz=sidecar.frontend.sample_rate_hz,
        segment_s=sidecar.frontend.segment_s,
        width=sidecar.embedding_width,
        embedding="embeddings" if path.suffix.lower() == ".onnx" else "",
    )
    return open_encoder(path, card, threads=threads)
