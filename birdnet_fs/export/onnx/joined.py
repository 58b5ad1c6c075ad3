"""Write ONNX and OpenVINO files of a head on a foreign encoder: `python -m birdnet_fs.export.onnx.joined JOB.json`.

The encoder is a file of another project that is not converted: what the head does not need is left out, and the head
is joined behind its embedding and own scores, or its tokens. What the encoder's card asks of each window (the peak
scaled to 0.25) is joined in front, so that a program that passes windows as they are gets the scores of the run. The
older of two operator sets is raised to the newer one (onnx.version_converter).

The job is that of onnx/convert.py with {"encoder": file, "card": file of its card, "own_columns": places of the own
scores that the head reads, "tokens": whether it reads tokens} in place of the front-end; the reason of a file that
cannot be written stands in `<precision><suffix>.error.txt`.
"""

import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from birdnet_fs.core.errors import UserError
from birdnet_fs.core.text import escaped
from birdnet_fs.encoders.cards import EncoderCard, read_card
from birdnet_fs.encoders.open import PEAK
from birdnet_fs.export.encoder_output import EncoderOutput, encoder_output
from birdnet_fs.export.onnx.convert import Writer, calibrated_output, open_head, run_facts, write_files
from birdnet_fs.export.onnx.encoder_graph import read_encoder
from birdnet_fs.export.onnx.front_end_and_network import FrontEndAndNetwork
from birdnet_fs.export.onnx.precision import MIN_SHARE, ROUNDED, join_models, weight_share
from birdnet_fs.export.tflite.wrappers import SMALLEST_POSITIVE

OLDEST_OPSET = 18  # the first in which all reductions have their axes as an input


@dataclass(frozen=True)
class JoinedWriter(Writer):
    """Writes the files of one job, with an encoder in place of the front-end.

    Attributes:
        encoder: The ONNX file of the encoder.
        given: Output of the encoder, with a card that fits the file.
    """

    encoder: Path
    given: EncoderOutput

    def onnx(self, precision: str) -> Any:
        """The whole graph with encoder and head in one precision.

        Args:
            precision: "fp32", "fp16" or "dynamic".

        Returns:
            An `onnx.ModelProto`.

        Raises:
            UserError: The precision is "int8", or "dynamic" rounds almost none of the weights.
        """
        if precision == "int8":
            raise UserError(
                "A run on an encoder cannot be written in int8, which would round the spectrogram inside the encoder: "
                "use fp16 instead."
            )
        rounded = ROUNDED["dynamic"]
        if precision == "dynamic" and (share := weight_share(self._network, rounded)) < MIN_SHARE:
            raise UserError(
                f"The precision 'dynamic' of onnxruntime quantizes the weights of {', '.join(rounded)}, which hold "
                f"{share:.0%} of those of encoder and head; use fp16 instead."
            )
        return super().onnx(precision)

    @cached_property
    def _network(self) -> Any:
        head = FrontEndAndNetwork(HeadOnEncoder(self.given, self.network), None)
        return join_encoder(self.encoder, self.given, self._to_onnx(head, self.given.shape, "features", self.outputs))

    @cached_property
    def _front_end(self) -> Any:
        return window_model(self.given.card, self._network, self.batch)


class HeadOnEncoder(torch.nn.Module):
    """A head that reads the output of a joined encoder.

    Args:
        given: The output of the encoder.
        head: Module from features [batch, ...] to one output or a tuple.
    """

    def __init__(self, given: EncoderOutput, head: torch.nn.Module) -> None:
        super().__init__()
        self.given, self.head = given, head

    def forward(self, x: Tensor) -> Any:
        """The outputs of the head for outputs [batch, ...] of the encoder."""
        return self.head(self.given.features(x))


def open_job(job: Mapping[str, Any]) -> JoinedWriter:
    """The writer of a job (see the module), with its head built."""
    run, network = open_head(job)
    return JoinedWriter(
        network=network,
        spec=run.frontend,
        input="waveform",
        axes="time_first",
        outputs=tuple(job["outputs"]),
        activation=run.activation if job["output_kind"] == "probabilities" else "",
        batch=job["batch"],
        calibration=None,
        facts=run_facts(run, job),
        calibrated=calibrated_output(run, job),
        encoder=Path(job["encoder"]),
        given=encoder_output(read_card(Path(job["card"])), job),
    )


def join_encoder(path: Path, given: EncoderOutput, head: Any) -> Any:
    """Join a head behind an encoder; UserErrors of `read_encoder` and `with_same_opset` are passed on.

    Args:
        path: The ONNX file of the encoder.
        given: Output of the encoder, with a card that fits the file.
        head: An `onnx.ModelProto`, [batch, *given.shape] -> outputs.

    Returns:
        An `onnx.ModelProto` with the input of the encoder and the outputs of the head.
    """
    first, second = with_same_opset(read_encoder(path, given), head, escaped(path))
    return join_models(first, second, "encoder/", keep_input=False)


def with_same_opset(first: Any, second: Any, shown: str) -> tuple[Any, Any]:
    """Two models with the same operator set of ONNX itself, the newer of the two and OLDEST_OPSET or more.

    Args:
        first: An `onnx.ModelProto`.
        second: Another.
        shown: Name of the first for the message.

    Returns:
        Both models.

    Raises:
        UserError: The first model cannot be raised to the newer operator set.
    """
    from onnx import version_converter

    newest = max(OLDEST_OPSET, opset_of(first), opset_of(second))
    found = []
    for model in (first, second):
        try:
            found.append(model if opset_of(model) == newest else version_converter.convert_version(model, newest))
        except Exception as error:  # the converter raises classes of its own
            reason = escaped((str(error).strip().splitlines() or [type(error).__name__])[0][:200])
            raise UserError(
                f"{shown} uses operator set {opset_of(model)} of ONNX and the head needs {newest}; it cannot be raised "
                f"({reason}). Export the encoder with a newer operator set, and train on that file."
            ) from None
    return found[0], found[1]


def opset_of(model: Any) -> int:
    """Version of the operator set of ONNX itself that an `onnx.ModelProto` uses."""
    return max((each.version for each in model.opset_import if each.domain in ("", "ai.onnx")), default=1)


def window_model(card: EncoderCard, network: Any, batch: int | None) -> Any:
    """An `onnx.ModelProto` from windows to the input of a joined network, normalized as the encoder's card specifies.

    As in tflite/wrappers.py, a constant window becomes exactly silent.

    Args:
        card: The card.
        network: Encoder and head, an `onnx.ModelProto`; its input has one to three dimensions.
        batch: Windows per call; None = any number.

    Returns:
        The model: `waveform` [batch, n_samples] -> `windows`, of the shape of the encoder's input.
    """
    from onnx import TensorProto, helper, numpy_helper

    constants: dict[str, np.ndarray] = {}
    nodes: list[Any] = []

    def node(kind: str, *inputs: str, output: str, **options: Any) -> str:
        nodes.append(helper.make_node(kind, inputs, [output], name=output, **options))
        return output

    x = "waveform"
    if card.normalization == "peak_0.25":
        constants = {"axis": np.array([1]), "zero": np.array([0]), "one": np.array([1])}
        constants |= {"peak": np.array([[PEAK]], np.float32), "smallest": np.array([[SMALLEST_POSITIVE]], np.float32)}
        x = node("Sub", x, node("Slice", x, "zero", "one", "axis", output="first"), output="from_first")
        for i in (1, 2):
            mean = node("ReduceMean", x, "axis", output=f"mean_{i}", keepdims=1)
            x = node("Sub", x, mean, output=f"centered_{i}")
        size = node("ReduceMax", node("Abs", x, output="sizes"), "axis", output="size", keepdims=1)
        scale = node("Div", "peak", node("Max", size, "smallest", output="divisor"), output="scale")
        x = node("Mul", x, scale, output="scaled")
    n_samples = card.n_samples
    n_axes = len(network.graph.input[0].type.tensor_type.shape.dim)
    sizes = {1: [n_samples], 2: [-1, n_samples], 3: [-1, 1, n_samples]}[n_axes]
    constants["sizes_of_input"] = np.array(sizes)
    node("Reshape", x, "sizes_of_input", output="windows")
    shape: list[Any] = ["batch" if batch is None else batch, n_samples]
    graph = helper.make_graph(
        nodes,
        "window",
        [helper.make_tensor_value_info("waveform", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("windows", TensorProto.FLOAT, [shape[0] if n < 0 else n for n in sizes])],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset_of(network))], ir_version=8)


def run_job(job: Mapping[str, Any]) -> None:
    """Write every format of the job in every precision, or the reason in `.error.txt` (see the module)."""
    write_files(open_job(job), job)


if __name__ == "__main__":
    run_job(json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")))
