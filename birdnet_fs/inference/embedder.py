"""`WindowEmbedder`: one interface for everything that embeds windows: a foreign encoder, a run, or an exported file."""

import functools
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
from birdnet_fs.encoders.inspection import FileFacts, choose_card, inspect_file, scores_of
from birdnet_fs.encoders.open import encoder_identity, open_encoder
from birdnet_fs.inference.sidecar import check_hash, read_sidecar


@dataclass(frozen=True, eq=False)
class EmbedderFacts:
    """Facts of an embedder that can be read without running it.

    Attributes:
        name: Name of the card, or of the experiment of a run.
        path: The file or folder, absolute.
        card: Card that was named for a foreign encoder; "" = found by its content, or none.
        described: The card; None for a run.
        identity: Text that changes when an embedding does.
        license: License of the network; "" for a run.
        sample_rate_hz: Samples per second of the waveforms.
        segment_s: Length of a window in seconds.
        width: Number of values of an embedding.
        n_scores: Number of own scores of a foreign encoder; 0 = none.
    """

    name: str
    path: str
    card: str
    described: EncoderCard | None
    identity: str
    license: str
    sample_rate_hz: int
    segment_s: float
    width: int
    n_scores: int

    @property
    def n_samples(self) -> int:
        """Length of a window in samples."""
        return round(self.sample_rate_hz * self.segment_s)


@dataclass(frozen=True, eq=False)
class WindowEmbedder(EmbedderFacts):
    """Embeds windows, each on its own; the attributes of `EmbedderFacts`, and two more.

    Attributes:
        embed: float32 windows [n, n_samples] -> float32 embeddings [n, width].
        embed_and_score: float32 windows [n, n_samples] -> float32 embeddings [n, width] and the encoder's own logits
            [n, n_scores]; None where they were not asked for. Default: None.
    """

    embed: Callable[[np.ndarray], np.ndarray]
    embed_and_score: Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]] | None = None


def open_embedder(
    path: Path | str, card: str | EncoderCard = "", *, threads: int = 0, scores: bool = False
) -> WindowEmbedder:
    """Open a foreign encoder, a run folder, or an exported file with embeddings.

    UserErrors of `embedder_facts` and `open_encoder` are passed on: the path, the file or the card.

    Args:
        path: A .tflite or .onnx file, or a run folder.
        card: Card of a foreign encoder (`open_encoder`). Default: "", found by the content of the file.
        threads: CPU threads, 1 or more. Default: 0, the runtime decides.
        scores: Whether the own scores of a foreign encoder are wanted too. Default: False.

    Returns:
        The embedder.
    """
    facts = embedder_facts(path, card)
    if facts.described is None:
        embed = _run_function(Path(path), threads)
    else:
        encoder = open_encoder(path, facts.described, threads=threads, scores=scores)
        if scores:
            return WindowEmbedder(**vars(facts), embed=encoder.embed, embed_and_score=encoder.embed_and_logits)
        embed = encoder.embed
    return WindowEmbedder(**vars(facts), embed=embed)


def embedder_facts(path: Path | str, card: str | EncoderCard = "") -> EmbedderFacts:
    """Read what an embedder is, without opening it in its runtime.

    UserErrors of `inspect_file`, `choose_card`, `read_sidecar` and `load_run` are passed on.

    Args:
        path: A .tflite or .onnx file, or a run folder.
        card: Card of a foreign encoder. Default: "", found by the content of the file.

    Returns:
        The facts.

    Raises:
        UserError: A card is named for a run, or an exported file has no embeddings or reads features.
    """
    path = Path(path)
    if path.is_dir():
        if card:
            raise UserError(
                f"An encoder card describes a foreign file; {escaped(path)} is a run. Received: {escaped(card)}"
            )
        return _facts_of_run(path)
    own = not isinstance(card, EncoderCard) and not card and _is_own(path)
    chosen: str | EncoderCard = _own_card(path) if own else card
    facts, found = inspected(path, chosen)
    own_scores = scores_of(facts, found)
    named = chosen if isinstance(chosen, str) else ""
    return EmbedderFacts(
        name=found.name,
        path=os.path.abspath(path),
        card=os.path.abspath(named) if named.lower().endswith(".json") else named,
        described=found,
        identity=encoder_identity(facts, found),
        license="" if own else found.license,
        sample_rate_hz=found.sample_rate_hz,
        segment_s=found.segment_s,
        width=found.width,
        n_scores=own_scores.width if own_scores else 0,
    )


def inspected(path: Path | str, card: str | EncoderCard = "") -> tuple[FileFacts, EncoderCard]:
    """Contents of an encoder file, and its card; read once while the file does not change.

    UserErrors of `inspect_file` and `choose_card` are passed on.

    Args:
        path: A .tflite or .onnx file.
        card: Card of the encoder or its name. Default: "", found by the content of the file.

    Returns:
        The facts and the card.
    """
    try:
        about = Path(path).stat()
        version = (about.st_size, about.st_mtime_ns)
    except OSError:
        version = (0, 0)  # refused below, by name
    return _inspected(os.path.abspath(path), version, card)


@functools.lru_cache(maxsize=32)  # a cross-validation asks for each fold
def _inspected(path: str, version: tuple[int, int], card: str | EncoderCard) -> tuple[FileFacts, EncoderCard]:
    facts = inspect_file(path)
    return facts, choose_card(facts, card)


def _facts_of_run(path: Path) -> EmbedderFacts:
    from birdnet_fs.runs import run as run_folder
    from birdnet_fs.schema.networks import embedding_width

    run = run_folder.load_run(path)
    if run.experiment.model.encoder:
        raise UserError(
            f"{escaped(path)} is itself a head on an encoder; give that encoder: "
            f"{escaped(run.experiment.model.encoder)}"
        )
    return EmbedderFacts(
        name=run.title,
        path=os.path.abspath(path),
        card="",
        described=None,
        identity=f"{sha256(path / run_folder.WEIGHTS)} {sha256(path / run_folder.CONFIG)}",
        license="",
        sample_rate_hz=run.frontend.sample_rate_hz,
        segment_s=run.frontend.segment_s,
        width=embedding_width(run.experiment.model.name),
        n_scores=0,
    )


def _run_function(path: Path, threads: int) -> Callable[[np.ndarray], np.ndarray]:
    from birdnet_fs.inference.embed import Embedder
    from birdnet_fs.inference.engine import build_on_device
    from birdnet_fs.runs.run import load_run

    run = load_run(path)
    return Embedder(build_on_device(run, threads=threads), run.frontend).each


def _is_own(path: Path) -> bool:
    """Whether a file has a sidecar of this package beside it."""
    file = path.with_suffix(".json")
    found = read_json(file, "copy it again, or move it away") if file.is_file() else None
    return isinstance(found, dict) and "frontend" in found


def _own_card(path: Path) -> EncoderCard:
    """The card of an exported file of this package, from its sidecar."""
    sidecar = read_sidecar(path)
    check_hash(path, sidecar)
    if not sidecar.embedding_width:
        raise UserError(
            f"{escaped(path)} gives no embeddings; export the run again with --embeddings, or give the run folder."
        )
    if sidecar.input != "waveform":
        raise UserError(f"{escaped(path)} reads features; export the run with waveform input, or give the run folder.")
    return EncoderCard(
        name=path.stem,
        title=path.name,
        formats=("tflite", "onnx"),
        sample_rate_hz=sidecar.frontend.sample_rate_hz,
        segment_s=sidecar.frontend.segment_s,
        width=sidecar.embedding_width,
        embedding="embeddings" if path.suffix.lower() == ".onnx" else "",
    )
