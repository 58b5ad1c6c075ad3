"""Tokens of an encoder: an embedding for each step in time, from an output that its card describes.

Perch v2 gives an embedding for each place in time and frequency, [n, 16, 4, 1536]. The places of one time step are
averaged, so that a head attends over time: which moments of a window hold the call.
"""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np

from birdnet_fs.core.errors import UserError
from birdnet_fs.core.text import escaped
from birdnet_fs.encoders.cards import EncoderCard
from birdnet_fs.encoders.inspection import FileFacts, Tensor, choose_card, inspect_file
from birdnet_fs.encoders.open import Encoder
from birdnet_fs.encoders.runtimes import RunAll, onnx_function, tflite_function
from birdnet_fs.encoders.tflite_graph import cut_at, read_foreign, to_bytes


def tokens_of(facts: FileFacts, card: EncoderCard) -> Tensor | None:
    """The output [n, *tokens] with the tokens of a card; None where the card has none, or the file gives none."""
    found = [each for each in facts.outputs if card.tokens and tuple(each.shape[1:]) == card.tokens]
    return found[0] if len(found) == 1 else None


def open_tokens(path: Path | str, card: str | EncoderCard = "", *, threads: int = 0) -> Encoder:
    """Open an encoder for its tokens; UserErrors of `inspect_file` and `choose_card` are passed on.

    Args:
        path: A .tflite or .onnx file.
        card: A card, a key of CARDS, or path of a .json card. Default: "", found by the content of the file.
        threads: CPU threads, 1 or more. Default: 0, the runtime decides.

    Returns:
        An encoder whose embeddings are the tokens of a window one after the other, [n, n_tokens * width].

    Raises:
        UserError: The encoder gives no tokens.
    """
    facts = inspect_file(path)
    chosen = choose_card(facts, card)
    tensor = tokens_of(facts, chosen)
    if tensor is None:
        raise UserError(
            f"model.head=attentive needs tokens, an embedding for each step in time; {escaped(chosen.name)} "
            f"({escaped(path)}) gives none. Use another head."
        )
    if facts.format == "onnx":
        answers = onnx_function(facts.path, [tensor.name], threads=threads)
    else:
        answers = tflite_function(to_bytes(cut_to_tokens(facts, chosen)), facts.path, threads=threads)
    n_tokens, width = chosen.tokens[0], chosen.tokens[-1]
    size = facts.inputs[0].shape[0] if len(facts.inputs[0].shape) > 1 else 1
    flat = dataclasses.replace(chosen, width=n_tokens * width)
    return Encoder(flat, facts, 0, max(0, size), _over_time(answers, n_tokens, width))


def cut_to_tokens(facts: FileFacts, card: EncoderCard) -> Any:
    """The model of a TFLite encoder, cut at its tokens.

    Args:
        facts: The file.
        card: A card that fits it.

    Returns:
        A `ModelT` with the input of the file and the tokens [batch, *card.tokens] as its only output.

    Raises:
        UserError: The file cannot be read.
    """
    model = read_foreign(facts.path)
    tensor = tokens_of(facts, card)
    if tensor is not None:  # always: `open_tokens` refuses a file without tokens
        cut_at(model, int(model.subgraphs[0].outputs[facts.outputs.index(tensor)]), card.tokens)
    return model


def _over_time(answers: RunAll, n_tokens: int, width: int) -> RunAll:
    def run(batch: np.ndarray) -> list[np.ndarray]:
        tokens = answers(batch)[0]
        return [tokens.reshape(len(tokens), n_tokens, -1, width).mean(2).reshape(len(tokens), -1)]

    return run
