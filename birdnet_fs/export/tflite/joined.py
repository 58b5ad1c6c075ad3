"""Write TFLite files of a head on a foreign encoder: `python -m birdnet_fs.export.tflite.joined JOB.json` (TensorFlow).

The encoder is a file of another project that is not converted: its graph is cut behind what the head reads (its
embedding and own scores, or its tokens), and the converted head is joined there. What the encoder's card asks of each
window (the peak scaled to 0.25) is joined in front, in float32, so that a program that passes windows as they are gets
the scores of the run. Lower precisions store the weights of encoder and head in fewer bits (weights.py).

The job is JSON: {"run": folder, "encoder": file, "card": file of its card, "precisions": [...], "batch": 1 | null as
the encoder has it, "output_kind": "logits" | "log_odds" | "probabilities", "outputs": ["predictions", ...],
"own_columns": places of the own scores that the head reads, "tokens": whether it reads tokens, "maps": {"slope": [...],
"offset": [...]} of calibrated predictions (or left out), "folder": output folder of `<precision>.tflite`}. For a
precision that cannot be written, the reason is written to `<precision>.error.txt` as one sentence; the others are
written.
"""

import json
import shutil
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from birdnet_fs.encoders.cards import read_card
from birdnet_fs.encoders.inspection import inspect_file
from birdnet_fs.encoders.open import cut_tflite
from birdnet_fs.encoders.tflite_graph import write_model
from birdnet_fs.encoders.tokens import cut_to_tokens
from birdnet_fs.export.encoder_output import EncoderOutput, encoder_output
from birdnet_fs.export.spec import OUTPUTS
from birdnet_fs.export.tflite import edit, weights, wrappers
from birdnet_fs.export.tflite.convert import CannotConvert, convert_model, write_precisions
from birdnet_fs.export.tflite.own_scores import append_own_scores

LEAST_SAVED = 0.1  # share of the file that a lower precision must save


def run_job(job: Mapping[str, Any]) -> None:
    """Write `<precision>.tflite`, or `<precision>.error.txt`, for every precision of the job (see the module)."""
    import keras

    from birdnet_fs.models import with_outputs
    from birdnet_fs.runs.run import load_run

    keras.config.set_floatx("float32")
    keras.config.set_dtype_policy("float32")
    run, folder, card, batch = load_run(job["run"]), Path(job["folder"]), read_card(Path(job["card"])), job["batch"]
    given = encoder_output(card, job)
    with_layers = with_outputs(run.build_model(), [OUTPUTS[name] for name in job["outputs"]])
    x = keras.Input(given.shape, name="features")
    outputs = keras.tree.flatten(with_layers(given.features(x)))
    head = keras.Model(x, dict(zip(job["outputs"], outputs, strict=True)), name="head")
    with tempfile.TemporaryDirectory(dir=folder) as scratch:  # removed with the folder when this process is killed
        parts = Path(scratch)
        encoder, whole, behind = parts / "encoder.tflite", parts / "whole.tflite", parts / "behind.tflite"
        input_shape = write_encoder(Path(job["encoder"]), given, batch, encoder)
        convert_model(head, (batch, *given.shape), "features", whole)
        edit.order_outputs(whole, job["outputs"])
        edit.join_models(encoder, whole, whole)
        front = None
        if card.normalization != "none" or len(input_shape) != 2:
            front = parts / "front.tflite"
            window = wrappers.window_model(card.n_samples, card.normalization, input_shape)
            convert_model(window, (batch, card.n_samples), "waveform", front)
        tail = wrappers.output_model(job["output_kind"], run.activation, len(run.classes), job.get("maps"))
        if tail is not None:
            convert_model(tail, (batch, len(run.classes)), "logits", behind)

        def write(precision: str, path: Path) -> None:
            _in_precision(precision, whole, path)
            if front is not None:
                edit.join_models(front, path, path)
            if behind.exists():
                edit.join_models(path, behind, path)

        write_precisions(job["precisions"], parts, folder, write)


def write_encoder(source: Path, given: EncoderOutput, batch: int | None, path: Path) -> tuple[int, ...]:
    """Write an encoder that ends with what the head reads, as the first part of a joined file.

    Args:
        source: The TFLite file of the encoder.
        given: Output of the encoder, with a card that fits the file.
        batch: Windows per call that it accepts; None = any number.
        path: The file to write: input of the shape that is returned -> [batch, *given.shape].

    Returns:
        Shape of the input, -1 for an open batch: (batch, n_samples), (batch, 1, n_samples) or (n_samples,).
    """
    card = given.card
    facts = inspect_file(source)
    model = cut_to_tokens(facts, card) if given.tokens else cut_tflite(facts, card, own_scores=bool(given.own_columns))
    if given.own_columns:
        append_own_scores(model, given.own_columns)
    graph = model.subgraphs[0]
    size = -1 if batch is None else batch
    windows, output = graph.tensors[int(graph.inputs[0])], graph.tensors[int(graph.outputs[0])]
    shape = (size, *(1,) * (len(windows.shape) - 2), card.n_samples) if len(windows.shape) > 1 else (card.n_samples,)
    for tensor, sizes in ((windows, shape), (output, (size, *given.shape))):
        tensor.shape = np.array([max(1, n) for n in sizes], np.int32)
        tensor.shapeSignature = np.array(sizes, np.int32)
    write_model(model, path)
    return shape


def _in_precision(precision: str, whole: Path, path: Path) -> None:
    """Write the file of encoder and head in one precision."""
    if precision == "fp32":
        shutil.copy(whole, path)
        return
    if precision == "int8":
        raise CannotConvert(
            "A run on an encoder cannot be written in int8, which would round the spectrogram inside the encoder: use "
            "fp16, or dynamic for weights in 8 bits."
        )
    {"fp16": weights.store_as_float16, "dynamic": weights.store_as_int8}[precision](whole, path)
    if path.stat().st_size > (1 - LEAST_SAVED) * whole.stat().st_size:
        raise CannotConvert(
            f"The precision {precision} would not make the file smaller, because the weights of its encoder are stored "
            "in few bits already: use fp32, which leaves them as they are."
        )


if __name__ == "__main__":
    run_job(json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")))
