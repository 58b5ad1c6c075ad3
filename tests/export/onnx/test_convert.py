"""ONNX, TorchScript, pt2 and OpenVINO files match the run on their runtimes, at any batch."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import tolerances
from onnx_files import OUTPUTS, own_answers, small_run, sounds, write
from run_to_export import CLASSES, SPEC

from birdnet_fs import schema
from birdnet_fs.export.onnx import convert as onnx_convert
from birdnet_fs.frontend import PRESETS
from birdnet_fs.frontend.in_numpy import log_mel, network_input
from birdnet_fs.runs.run import Run

BATCHES = (1, 3, 8)


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Run:
    return small_run(tmp_path_factory.mktemp("runs"), "cnn/tiny")


@pytest.fixture(scope="module")
def written(run: Run, tmp_path_factory) -> Path:
    """Files for waveforms and any batch in every format; conversions are slow, so most tests share them."""
    formats = ["onnx", "torchscript", "pt2", "openvino"]
    precisions = ["fp32", "fp16", "dynamic", "int8"]
    return write(run, tmp_path_factory.mktemp("written") / "waveform", formats=formats, precisions=precisions)


@pytest.fixture(scope="module")
def expected(run: Run) -> list[np.ndarray]:
    return own_answers(run)


def session(path: Path) -> onnxruntime.InferenceSession:
    return onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])


def answers(path: Path, inputs: np.ndarray, batch: int) -> list[np.ndarray]:
    """Every output of an ONNX file for `inputs`, `batch` rows at a time; what is left over is a batch as well."""
    opened = session(path)
    name = opened.get_inputs()[0].name
    found = [opened.run(None, {name: inputs[i : i + batch]}) for i in range(0, len(inputs), batch)]
    return [np.concatenate(each) for each in zip(*found, strict=True)]


def largest(found: list[np.ndarray], wanted: list[np.ndarray]) -> float:
    assert [each.shape for each in found] == [each.shape for each in wanted]
    return max(float(np.abs(a - b).max()) for a, b in zip(found, wanted, strict=True))


def test_onnx_matches_the_run_at_any_batch(written: Path, expected: list[np.ndarray]) -> None:
    assert np.ptp(expected[0]) > 0.5  # else closeness would show nothing
    for batch in BATCHES:
        assert largest(answers(written / "fp32.onnx", sounds(8), batch), expected) <= tolerances.EXPORT_FP32_LOGITS
    half = answers(written / "fp16.onnx", sounds(8), 3)
    assert 0 < largest(half, expected) <= tolerances.EXPORT_FP16_LOGITS
    assert (written / "fp16.onnx").stat().st_size < 0.8 * (written / "fp32.onnx").stat().st_size


def test_onnx_metadata_describe_the_file(run: Run, written: Path) -> None:
    opened = session(written / "int8.onnx")
    (given,), found = opened.get_inputs(), opened.get_outputs()
    assert (given.name, given.shape, given.type) == ("waveform", ["batch", SPEC.n_samples], "tensor(float)")
    assert [each.name for each in found] == OUTPUTS and {each.type for each in found} == {"tensor(float)"}
    facts = opened.get_modelmeta().custom_metadata_map
    assert json.loads(facts.pop("classes")) == list(CLASSES)
    assert facts == {
        "sample_rate_hz": "16000",
        "segment_s": "1",
        "output": "logits",
        "activation": "softmax",
        "precision": "int8",
    }
    assert not list(written.glob("*.data"))
    for precision in ("fp32", "fp16", "int8"):
        onnx.checker.check_model(written / f"{precision}.onnx", full_check=True)


def test_lower_precision_leaves_the_front_end_in_float32(written: Path) -> None:
    """Its constants and operators are those of the float32 file."""
    fronts = []
    for precision in ("fp32", "fp16", "int8"):
        graph = onnx.load(written / f"{precision}.onnx").graph
        constants = {c.name: c.raw_data for c in graph.initializer if c.name.startswith("front_end/")}
        operators = [node.op_type for node in graph.node if node.name.startswith("front_end/")]
        fronts.append((constants, operators))
        others = {c.data_type for c in graph.initializer if c.name not in constants and len(c.dims) == 4}
        kinds = {"fp32": onnx.TensorProto.FLOAT, "fp16": onnx.TensorProto.FLOAT16, "int8": onnx.TensorProto.INT8}
        assert kinds[precision] in others
    assert len(fronts[0][1]) > 10 and fronts[0] == fronts[1] == fronts[2]


def test_int8_stays_close_to_the_run(written: Path, expected: list[np.ndarray]) -> None:
    given = answers(written / "int8.onnx", sounds(8), 3)[0]
    spread = float(expected[0].std())
    assert float(np.abs(given - expected[0]).mean()) <= tolerances.EXPORT_INT8_MEAN * spread
    assert (written / "int8.onnx").stat().st_size < (written / "fp16.onnx").stat().st_size


def test_a_file_that_cannot_be_written_leaves_a_reason_and_the_others(written: Path) -> None:
    reasons = {p.name.removesuffix(".error.txt"): p.read_text("utf-8") for p in written.glob("*.error.txt")}
    reasons = {name: reason for name, reason in reasons.items() if not name.endswith(".xml")}
    assert set(reasons) == {"dynamic.onnx", *(f"{p}.pt{v}" for p in ("fp16", "dynamic", "int8") for v in ("", "2"))}
    assert "Conv" in reasons["dynamic.onnx"] and "use int8" in reasons["dynamic.onnx"]
    assert all(reason.count("\n") == 1 and "Traceback" not in reason for reason in reasons.values())
    assert not (written / "dynamic.onnx").exists()
    assert all((written / f"fp32{suffix}").is_file() for suffix in (".onnx", ".pt", ".pt2"))


TORCH_ALONE = """
import numpy as np, sys, torch
inputs = torch.from_numpy(np.load(sys.argv[2]))
path = sys.argv[1]
module = torch.export.load(path).module() if path.endswith(".pt2") else torch.jit.load(path)
with torch.inference_mode():
    for batch in (1, 3, 8):
        found = [module(inputs[i : i + batch]) for i in range(0, len(inputs), batch)]
        for k, each in enumerate(zip(*found)):
            np.save(f"{path}.{batch}.{k}.npy", torch.cat(each).numpy())
assert not {"keras", "tensorflow", "birdnet_fs"} & set(sys.modules)
"""


@pytest.mark.parametrize("name", ["fp32.pt", "fp32.pt2"])
def test_torch_opens_its_formats_without_this_package(written: Path, expected: list[np.ndarray], name: str) -> None:
    np.save(written / "sounds.npy", sounds(8))
    command = [sys.executable, "-I", "-c", TORCH_ALONE, str(written / name), str(written / "sounds.npy")]
    done = subprocess.run(command, capture_output=True, encoding="utf-8", check=False)
    assert done.returncode == 0, done.stderr
    for batch in BATCHES:
        found = [np.load(written / f"{name}.{batch}.{k}.npy") for k in range(2)]
        assert largest(found, expected) <= tolerances.EXPORT_FP32_LOGITS


def test_openvino_matches_the_run(written: Path, expected: list[np.ndarray]) -> None:
    openvino = pytest.importorskip("openvino")
    sizes = {}
    for precision, tolerance in (("fp32", tolerances.EXPORT_FP32_LOGITS), ("fp16", tolerances.EXPORT_FP16_LOGITS)):
        path = written / f"{precision}.xml"
        sizes[precision] = path.with_suffix(".bin").stat().st_size
        model = openvino.Core().compile_model(str(path), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
        for batch in BATCHES:
            results = [model([sounds(8)[i : i + batch]]) for i in range(0, 8, batch)]
            found = [np.concatenate([result[k] for result in results]) for k in range(2)]
            assert largest(found, expected) <= tolerance
    assert sizes["fp16"] < 0.8 * sizes["fp32"]
    facts = openvino.Core().read_model(str(written / "fp32.xml")).get_rt_info(["birdnet_fs", "classes"])
    assert json.loads(facts.astype(str)) == list(CLASSES)


@pytest.mark.parametrize("multi_label", [False, True])
def test_features_in_and_probabilities_out(tmp_path: Path, multi_label: bool) -> None:
    """One segment at a time, bands first; the activation is computed in float32 behind int8 as well."""
    run = small_run(tmp_path, "cnn/tiny", multi_label=multi_label)
    changes = {
        "input": "features",
        "axes": "mel_first",
        "output_kind": "probabilities",
        "batch": 1,
        "outputs": OUTPUTS[:1],
    }
    write(run, tmp_path / "out", precisions=["fp32", "int8"], **changes)
    features = network_input(log_mel(sounds(8), SPEC), SPEC)
    logits = own_answers(run)[0].astype(np.float64)
    raised = np.exp(logits)
    wanted = 1 / (1 + 1 / raised) if multi_label else raised / raised.sum(1, keepdims=True)
    n_frames, n_mels = SPEC.shape
    for precision, tolerance in (("fp32", tolerances.EXPORT_FP32_LOGITS), ("int8", tolerances.EXPORT_INT8_CHANCE)):
        path = tmp_path / "out" / f"{precision}.onnx"
        assert session(path).get_inputs()[0].shape == [1, n_mels, n_frames, SPEC.n_channels]
        given = answers(path, features.swapaxes(1, 2), 1)
        assert largest(given, [wanted.astype(np.float32)]) <= tolerance
        last = onnx.load(path).graph.node[-1]
        assert last.op_type == ("Sigmoid" if multi_label else "Softmax") and list(last.output) == ["predictions"]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["rnn/lstm", "rnn/bigru"])
def test_recurrent_layers_are_one_node_each_at_any_batch(tmp_path: Path, name: str) -> None:
    run = small_run(tmp_path, name)
    write(run, tmp_path / "out", precisions=["fp32", "dynamic", "int8"], formats=["onnx", "torchscript"])
    operators = [node.op_type for node in onnx.load(tmp_path / "out" / "fp32.onnx").graph.node]
    kind = "LSTM" if "lstm" in name else "GRU"
    assert operators.count(kind) == 2 and len(operators) < 150
    wanted = own_answers(run)
    for batch in BATCHES:
        assert (
            largest(answers(tmp_path / "out" / "fp32.onnx", sounds(8), batch), wanted) <= tolerances.EXPORT_FP32_LOGITS
        )
    import torch

    module = torch.jit.load(str(tmp_path / "out" / "fp32.pt"))
    for batch in BATCHES:
        found = [module(torch.from_numpy(sounds(8)[i : i + batch])) for i in range(0, 8, batch)]
        joined = [torch.cat(each).detach().numpy() for each in zip(*found, strict=True)]
        assert largest(joined, wanted) <= tolerances.EXPORT_FP32_LOGITS
    reasons = {p.name: p.read_text("utf-8") for p in (tmp_path / "out").glob("*.onnx.error.txt")}
    assert set(reasons) == {"int8.onnx.error.txt", *(["dynamic.onnx.error.txt"] if kind == "GRU" else [])}
    assert f"use {'dynamic' if kind == 'LSTM' else 'fp16'}" in reasons["int8.onnx.error.txt"]
    if kind == "LSTM":
        given = answers(tmp_path / "out" / "dynamic.onnx", sounds(8), 3)
        assert 0 < largest(given, wanted) <= tolerances.EXPORT_FP16_LOGITS


@pytest.mark.slow
@pytest.mark.parametrize("spec", PRESETS.values(), ids=PRESETS)
def test_every_front_end_at_any_batch(spec: schema.FrontEnd, tmp_path: Path) -> None:
    import torch

    writer = onnx_convert.Writer(torch.nn.Identity(), spec, "waveform", "time_first", ("features",), "", None, None, {})
    (tmp_path / "front_end.onnx").write_bytes(writer._front_end.SerializeToString())
    rows = np.concatenate([sounds(4, spec), np.zeros((1, spec.n_samples), np.float32)])  # silence as well
    wanted = network_input(log_mel(rows, spec), spec)
    for batch in (1, 3):
        (given,) = answers(tmp_path / "front_end.onnx", rows, batch)
        assert float(np.abs(given - wanted).max()) <= tolerances.FRONTEND_FLOAT32[spec.preset]
