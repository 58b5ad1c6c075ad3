"""The second conversion route: its arguments and errors, and its file against the run."""

import stat
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
import tolerances
from onnx import TensorProto, helper
from onnx_files import SPEC, own_answers, small_run, sounds, write
from other_pythons import python_with

from birdnet_fs.core.errors import UserError
from birdnet_fs.export.tflite import onnx2tf
from birdnet_fs.frontend.in_numpy import log_mel, network_input


@pytest.fixture(scope="module")
def onnx_path(tmp_path_factory) -> Path:
    """A file with one Relu in it."""
    given = helper.make_tensor_value_info("features", TensorProto.FLOAT, [1, 4, 3, 1])
    found = helper.make_tensor_value_info("predictions", TensorProto.FLOAT, [1, 4, 3, 1])
    graph = helper.make_graph([helper.make_node("Relu", ["features"], ["predictions"])], "small", [given], [found])
    path = tmp_path_factory.mktemp("second") / "small.onnx"
    onnx.save(helper.make_model(graph), path)
    return path


def fake(folder: Path, body: str) -> Path:
    """A program in the place of the other environment's Python."""
    if sys.platform == "win32":
        pytest.skip("a script cannot stand in for a program here")
    path = folder / "python"
    path.write_text(f"#!/bin/sh\n{body}\n", encoding="utf-8")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


def test_failure_gives_the_error_and_leaves_only_the_log(onnx_path: Path, tmp_path: Path) -> None:
    said = r"printf '\033[31mERROR:\033[0m The trace log is below.\nTraceback ...\nValueError: no such thing\n  more\n'"
    python = fake(tmp_path, f'{said}\necho "$@" > {tmp_path}/asked\nexit 3')
    out = tmp_path / "out"
    out.mkdir()
    with pytest.raises(UserError, match=r"exit status 3: ValueError: no such thing\); see .*fp32.log"):
        onnx2tf.convert_onnx(onnx_path, out / "fp32.tflite", python=python, timeout_s=60)
    asked = (tmp_path / "asked").read_text().split()
    assert asked[:2] == ["-m", "onnx2tf"] and asked[asked.index("-kat") + 1] == "features"
    assert "Traceback" in (out / "fp32.log").read_text()
    assert [p.name for p in out.iterdir()] == ["fp32.log"]


def test_conversion_ends_at_the_time_limit(onnx_path: Path, tmp_path: Path) -> None:
    python = fake(tmp_path, "echo unrolling\nexec sleep 60")
    out = tmp_path / "out"
    out.mkdir()
    with pytest.raises(UserError, match=r"did not end within 0.5 s"):
        onnx2tf.convert_onnx(onnx_path, out / "fp32.tflite", python=python, timeout_s=0.5)
    assert (out / "fp32.log").read_text() == "unrolling\n"
    assert [p.name for p in out.iterdir()] == ["fp32.log"]


def test_success_without_a_file_is_a_failure(onnx_path: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="exit status 0: no output"):
        onnx2tf.convert_onnx(onnx_path, tmp_path / "a.tflite", python=fake(tmp_path, "exit 0"), timeout_s=60)


def test_unsupported_arguments_are_refused_before_the_start(onnx_path: Path, tmp_path: Path) -> None:
    missing = tmp_path / "none" / "bin" / "python"
    with pytest.raises(UserError, match="cannot be started"):
        onnx2tf.convert_onnx(onnx_path, tmp_path / "a.tflite", python=missing, timeout_s=60)
    with pytest.raises(UserError, match="fp32, fp16, dynamic, int8"):
        onnx2tf.convert_onnx(onnx_path, tmp_path / "a.tflite", python=missing, timeout_s=60, precision="fp8")
    with pytest.raises(UserError, match="int8 needs features"):
        onnx2tf.convert_onnx(onnx_path, tmp_path / "a.tflite", python=missing, timeout_s=60, precision="int8")
    model = onnx.load(onnx_path)
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_param = "batch"
    onnx.save(model, tmp_path / "open.onnx")
    with pytest.raises(UserError, match="needs a fixed batch"):
        onnx2tf.convert_onnx(tmp_path / "open.onnx", tmp_path / "a.tflite", python=missing, timeout_s=60)


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
def test_onnx2tf_file_matches_the_run(tmp_path: Path, precision: str) -> None:
    from ai_edge_litert.interpreter import Interpreter

    python = python_with("onnx2tf", "requirements-onnx2tf.txt")
    run = small_run(tmp_path, "cnn/tiny")
    # it loses the names of several outputs in int8
    names = ["predictions"] if precision == "int8" else ["predictions", "embeddings"]
    write(run, tmp_path / "out", input="features", batch=1, outputs=names)
    features = network_input(log_mel(sounds(8), SPEC), SPEC)
    np.save(tmp_path / "calibration.npy", network_input(log_mel(sounds(40)[8:], SPEC), SPEC))
    target = tmp_path / "out" / "second.tflite"
    settings = {"precision": precision, "calibration": tmp_path / "calibration.npy"}
    onnx2tf.convert_onnx(tmp_path / "out" / "fp32.onnx", target, python=python, timeout_s=500, **settings)
    interpreter = Interpreter(model_path=str(target), num_threads=1)
    interpreter.allocate_tensors()
    (given,), outputs = interpreter.get_input_details(), interpreter.get_output_details()
    assert list(given["shape"]) == list(features[:1].shape) and given["dtype"] == np.float32
    wanted = own_answers(run)[: len(names)]
    allowed = {"fp32": tolerances.EXPORT_FP32_LOGITS, "fp16": tolerances.EXPORT_FP16_LOGITS}
    for output, expected in zip(outputs, wanted, strict=True):
        found = []
        for row in features:
            interpreter.set_tensor(given["index"], row[None])
            interpreter.invoke()
            found.append(interpreter.get_tensor(output["index"])[0].copy())
        differences = np.abs(np.stack(found) - expected)
        if precision == "int8":
            assert differences.mean() <= tolerances.EXPORT_INT8_MEAN * expected.std()
        else:
            assert differences.max() <= allowed[precision]
