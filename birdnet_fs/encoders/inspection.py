"""Contents of an encoder file, and the card that fits it.

A file is identified by its format, its input, and the widths and names of its outputs together; the number of samples
alone identifies nothing (96,000 samples are BirdNET 3.0 and ProtoCLR), nor does the position of an output. Where two
cards fit, the user is asked which; nothing is guessed.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from birdnet_fs.core.errors import UserError
from birdnet_fs.core.files import sha256
from birdnet_fs.core.text import escaped
from birdnet_fs.encoders.cards import BEFORE_LAST_DENSE, CARDS, EncoderCard, find_card
from birdnet_fs.encoders.runtimes import MAX_BYTES, onnx_session
from birdnet_fs.encoders.tflite_graph import before_last_dense, read_foreign, tensor_shape

FORMATS = (".tflite", ".onnx")


@dataclass(frozen=True)
class Tensor:
    """An input or output of a file; an open dimension of `shape` is -1."""

    name: str
    shape: tuple[int, ...]
    dtype: str = "float32"

    @property
    def width(self) -> int:
        """Size of the last dimension; -1 when it is open or there is none."""
        return self.shape[-1] if self.shape else -1

    def __str__(self) -> str:
        sizes = ", ".join("n" if size < 0 else str(size) for size in self.shape)
        return f"{escaped(self.name)} [{sizes}] {self.dtype}"


@dataclass(frozen=True)
class FileFacts:
    """Contents of an encoder file.

    Attributes:
        path: The file.
        format: "tflite" or "onnx".
        sha256: SHA-256 of the file, 64 hexadecimal digits.
        inputs: Inputs in the order of the file.
        outputs: Outputs in the order of the file.
        inner: Input of the last fully connected layer (TFLite); None where there is none.
    """

    path: Path
    format: str
    sha256: str
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    inner: Tensor | None = None


def inspect_file(path: Path | str) -> FileFacts:
    """Read what an encoder file contains, without running it.

    Args:
        path: A .tflite or .onnx file.

    Returns:
        Its format, hash, inputs and outputs.

    Raises:
        UserError: There is no such file, it is of another kind or damaged, or the library that reads it is missing.
    """
    path = Path(path)
    if not path.is_file():
        why = "it is a folder" if path.is_dir() else "there is no such file"
        raise UserError(f"An encoder must be a .tflite or .onnx file; {why}. Received: {escaped(path)}")
    suffix = path.suffix.lower()
    if suffix not in FORMATS:
        raise UserError(f"An encoder must be a .tflite or .onnx file. Received: {escaped(path)}")
    if path.stat().st_size > MAX_BYTES:
        raise UserError(f"{escaped(path)} must have {MAX_BYTES:,} bytes or fewer; copy it again.")
    return _tflite_facts(path) if suffix == ".tflite" else _onnx_facts(path)


def _tflite_facts(path: Path) -> FileFacts:
    model = read_foreign(path)
    graph = model.subgraphs[0]
    try:
        inputs, outputs = (
            tuple(_tflite_tensor(graph.tensors[int(i)]) for i in side) for side in (graph.inputs, graph.outputs)
        )
        index = before_last_dense(model)
        inner = None if index is None else _tflite_tensor(graph.tensors[index])
    except (IndexError, TypeError, AttributeError, UnicodeDecodeError):
        raise UserError(f"{escaped(path)} is a damaged TFLite file; copy it again.") from None
    return FileFacts(path, "tflite", sha256(path), inputs, outputs, inner)


def _tflite_tensor(tensor: Any) -> Tensor:
    dtype = "float32" if tensor.type == 0 else f"type {tensor.type}"
    return Tensor(bytes(tensor.name).decode("utf-8", "replace"), tensor_shape(tensor), dtype)


def _onnx_facts(path: Path) -> FileFacts:
    session = onnx_session(path, threads=1)

    def tensors(found: Sequence) -> tuple[Tensor, ...]:
        return tuple(
            Tensor(
                each.name,
                tuple(size if isinstance(size, int) else -1 for size in each.shape),
                "float32" if each.type == "tensor(float)" else each.type,
            )
            for each in found
        )

    return FileFacts(path, "onnx", sha256(path), tensors(session.get_inputs()), tensors(session.get_outputs()))


def embedding_of(facts: FileFacts, card: EncoderCard) -> Tensor | None:
    """The tensor [n, width] of a file that a card names as the embedding; None where there is none, or more than one.

    >>> facts = FileFacts(Path("a.onnx"), "onnx", "", (), (Tensor("b", (-1, 9)), Tensor("a", (-1, 1280))))
    >>> embedding_of(facts, CARDS["birdnet_v3"]).name
    'a'
    """
    if card.embedding == BEFORE_LAST_DENSE:
        return facts.inner if facts.inner is not None and facts.inner.width == card.width else None
    if card.embedding:
        found = [each for each in facts.outputs if each.name == card.embedding]
    else:
        found = [each for each in facts.outputs if len(each.shape) == 2 and each.width == card.width]
    return found[0] if len(found) == 1 and found[0].width == card.width else None


def scores_of(facts: FileFacts, card: EncoderCard) -> Tensor | None:
    """The output [n, n_scores] with the encoder's own scores; None where the card names none or it is missing."""
    embedding = embedding_of(facts, card)
    found = [
        each
        for each in facts.outputs
        if len(each.shape) == 2 and each != embedding and (card.n_scores in (-1, each.width)) and each.width > 0
    ]
    return found[0] if card.n_scores and len(found) == 1 else None


def mismatches(facts: FileFacts, card: EncoderCard) -> list[str]:
    """Differences between a file and a card, one phrase each; empty when the card fits.

    Args:
        facts: The file.
        card: The card.

    Returns:
        Phrases such as "its input is [n, 96000] and [n, 144000] was expected".
    """
    found = []
    if facts.format not in card.formats:
        found.append(f"its format is {facts.format} and {' or '.join(card.formats)} was expected")
    if len(facts.inputs) != 1:
        found.append(f"it has {len(facts.inputs)} inputs and one was expected")
    elif not _takes(facts.inputs[0], card.n_samples):
        found.append(f"its input is {facts.inputs[0]} and float32 [n, {card.n_samples}] was expected")
    if embedding_of(facts, card) is None:
        place = {"": "one output", BEFORE_LAST_DENSE: "an input of the last fully connected layer"}.get(
            card.embedding, f"an output {card.embedding!r}"
        )
        there = "; ".join(map(str, [*facts.outputs, *([facts.inner] if facts.inner else [])]))
        found.append(f"{place} with {card.width} values was expected as the embedding; it has {there}")
    elif card.n_scores and scores_of(facts, card) is None:
        many = f"{card.n_scores} " if card.n_scores > 0 else ""
        found.append(f"one output with {many}scores was expected; it has {'; '.join(map(str, facts.outputs))}")
    return found


def _takes(tensor: Tensor, n_samples: int) -> bool:
    """Whether an input takes waveforms [n, n_samples], or [n_samples] per call."""
    shape = tensor.shape
    if tensor.dtype != "float32" or not 1 <= len(shape) <= 3:
        return False
    return shape[-1] in (-1, n_samples) and (len(shape) < 3 or shape[1] in (-1, 1))


def fitting_cards(facts: FileFacts) -> list[EncoderCard]:
    """The cards of CARDS that fit a file."""
    return [card for card in CARDS.values() if not mismatches(facts, card)]


def choose_card(facts: FileFacts, name: str | EncoderCard = "") -> EncoderCard:
    """The card of a file: the named one if it fits, else the only one that fits.

    Args:
        facts: The file.
        name: A card, a key of CARDS, or path of a .json card. Default: "", found by the content of the file.

    Returns:
        The card.

    Raises:
        UserError: The named card does not fit, or without a name none or more than one does; the message names them.
    """
    shown = escaped(facts.path)
    if name:
        card = name if isinstance(name, EncoderCard) else find_card(name)
        wrong = mismatches(facts, card)
        if wrong:
            others = [each.name for each in fitting_cards(facts)]
            hint = f" {' and '.join(others)} would fit." if others else ""
            raise UserError(f"The encoder card {escaped(card.name)} does not fit {shown}: {'; '.join(wrong)}.{hint}")
        return card
    found = fitting_cards(facts)
    if len(found) == 1:
        return found[0]
    if found:
        choices = "; ".join(f"{card.name} ({card.title})" for card in found)
        raise UserError(
            f"{shown} fits more than one encoder card, which give different embeddings; name one with "
            f"model.encoder_card=NAME or --card NAME: {choices}."
        )
    inputs, outputs = ("; ".join(map(str, each)) for each in (facts.inputs, facts.outputs))
    inner = f"; input of its last fully connected layer: {facts.inner}" if facts.inner else ""
    raise UserError(
        f"{shown} fits none of the encoder cards {', '.join(CARDS)}: it takes {inputs} and gives {outputs}{inner}. "
        "Describe it in a card of your own: birdnet-fs encoders FILE --sample_rate HZ --segment S --embedding NAME -o "
        "card.json."
    )
