"""An exported network whose scores are known: its logits are multiples of the level of a segment, written by hand."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from birdnet_fs import schema
from birdnet_fs.core.files import sha256

CLASSES = ("Sibilus aureus_Gilded piper", "Sibilus inversus_Mirror piper", "nocall")
SPEC = schema.FrontEnd(
    sample_rate_hz=16_000, segment_s=2.5, n_fft=512, win_length=512, hop_length=256, n_mels=32, fmax_hz=8_000.0
)


def sidecar_of(model: Path, classes: Sequence[str], spec: schema.FrontEnd, **others: Any) -> dict[str, Any]:
    """Content of the sidecar of an ONNX file: by default logits of a waveform, for a sigmoid."""
    return {
        "format": 1,
        "runtime": "onnx",
        "sha256": sha256(model),
        "classes": list(classes),
        "sample_rate_hz": spec.sample_rate_hz,
        "segment_s": spec.segment_s,
        "input": "waveform",
        "axes": "time_first",
        "output": "logits",
        "activation": "sigmoid",
        "n_constant": 0,
        "frontend": spec.to_artifact(),
        **others,
    }


def write_artifact(folder: Path, *, slope: float = 10.0) -> Path:
    """`model.onnx`, batch 1, with its sidecar and labels: logits `slope` * mean |x| * (1, -2, 3) - 1."""
    weights = numpy_helper.from_array(np.float32([[slope, -2 * slope, 3 * slope]]), "weights")
    bias = numpy_helper.from_array(np.float32([-1, -1, -1]), "bias")
    axes = numpy_helper.from_array(np.int64([1]), "axes")
    nodes = [
        helper.make_node("Abs", ["waveform"], ["size"]),
        helper.make_node("ReduceMean", ["size", "axes"], ["level"], keepdims=1),
        helper.make_node("MatMul", ["level", "weights"], ["scaled"]),
        helper.make_node("Add", ["scaled", "bias"], ["predictions"]),
    ]
    given = helper.make_tensor_value_info("waveform", TensorProto.FLOAT, [1, SPEC.n_samples])
    found = helper.make_tensor_value_info("predictions", TensorProto.FLOAT, [1, len(CLASSES)])
    graph = helper.make_graph(nodes, "level", [given], [found], [weights, bias, axes])
    folder.mkdir(exist_ok=True)
    model = folder / "model.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9), model)
    about = sidecar_of(model, CLASSES, SPEC, input_shape=[1, SPEC.n_samples])
    (folder / "model.json").write_text(json.dumps(about), "utf-8")
    labels = [name if "_" in name else f"{name}_{name}" for name in CLASSES]
    (folder / "model_Labels.txt").write_text("".join(f"{line}\n" for line in labels), "utf-8")
    return model
