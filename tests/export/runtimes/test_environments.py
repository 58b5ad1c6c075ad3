"""Running a file on a runtime in a separate process, and the errors of each way it can fail."""

import os
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from birdnet_fs.core.errors import UserError
from birdnet_fs.export.runtimes import environments, run_model
from birdnet_fs.export.runtimes.environments import Environment, Runtime, find_environments, find_runtimes, run_on


@pytest.fixture(scope="module")
def doubling(tmp_path_factory) -> Path:
    """A file that computes 2 x + the number of rows of a call, so that the batch is visible."""
    nodes = [
        helper.make_node("Shape", ["x"], ["shape"], start=0, end=1),
        helper.make_node("Cast", ["shape"], ["n"], to=TensorProto.FLOAT),
        helper.make_node("Add", ["x", "x"], ["twice"]),
        helper.make_node("Add", ["twice", "n"], ["predictions"]),
    ]
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", 3]) for name in ("x", "predictions")]
    graph = helper.make_graph(nodes, "doubling", ends[:1], ends[1:])
    path = tmp_path_factory.mktemp("onnx") / "doubling.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), path)
    return path


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    np.save(tmp_path / "inputs.npy", np.arange(21, dtype=np.float32).reshape(7, 3))
    return tmp_path / "inputs.npy"


def here(engine: str = "onnxruntime") -> Runtime:
    return Runtime(engine, "0", Path(sys.executable))


@pytest.mark.parametrize(("batch", "sizes"), [(1, [1] * 7), (3, [3, 3, 3, 3, 3, 3, 1]), (8, [7] * 7)])
def test_rows_are_run_in_order_in_any_batch(doubling, rows, tmp_path, batch: int, sizes: list[int]) -> None:
    (found,) = run_on(here(), doubling, rows, tmp_path / "out.npz", batch=batch)
    assert np.array_equal(found, 2 * np.load(rows) + np.array(sizes)[:, None])


def test_error_names_a_file_the_runtime_refuses(rows, tmp_path: Path) -> None:
    (tmp_path / "broken.onnx").write_bytes(b"not a network")
    with pytest.raises(UserError, match=r"onnxruntime 0 cannot run the converted network \(exit status 1"):
        run_on(here(), tmp_path / "broken.onnx", rows, tmp_path / "out.npz")


def test_error_names_a_runtime_that_crashes_or_hangs(doubling, rows, tmp_path: Path, monkeypatch) -> None:
    script = tmp_path / "script.py"
    monkeypatch.setattr(run_model, "__file__", str(script))
    script.write_text("import os; os.abort()")
    with pytest.raises(UserError, match="exit status -6"):
        run_on(here(), doubling, rows, tmp_path / "out.npz")
    script.write_text("import time; time.sleep(60)")
    monkeypatch.setattr(environments, "_LIMIT_S", 0.5)
    with pytest.raises(UserError, match="did not end within"):
        run_on(here(), doubling, rows, tmp_path / "out.npz")


def test_this_environment_is_first_and_others_are_listed_once(monkeypatch) -> None:
    monkeypatch.setenv(environments.VARIABLE, os.pathsep.join([sys.executable, sys.executable]))
    first, second = find_environments([sys.executable])
    assert first.packages == second.packages == run_model.installed_runtimes()
    assert {"numpy", "onnxruntime"} <= set(first.packages)


@pytest.mark.parametrize("wrong", ["no/such/python", "/bin/true"])
def test_find_environments_refuses_what_is_no_python(wrong: str) -> None:
    with pytest.raises(UserError, match="must be the Python of another environment"):
        find_environments([wrong])


def test_find_runtimes_lists_each_version_once_and_the_default_delegate() -> None:
    places = [
        Environment(Path("a"), {"ai-edge-litert": "2.3.0", "onnxruntime": "1.31"}),
        Environment(Path("b"), {"tflite-runtime": "2.14.0"}),
        Environment(Path("c"), {"ai-edge-litert": "2.3.0", "tflite-runtime": "2.14.0"}),
        Environment(Path("d"), {"ai-edge-litert": "2.1.0"}),
        Environment(Path("e"), {"ai-edge-litert": "2.0.0", "onnx2tf": "1.29.24"}),  # a converter's, no device
    ]
    found = find_runtimes("tflite", places)
    assert [(r.name, str(r.python)) for r in found] == [
        ("ai-edge-litert 2.3.0", "a"),
        ("ai-edge-litert 2.1.0", "d"),
        ("tflite-runtime 2.14.0", "b"),
        ("tflite-runtime 2.14.0, default delegate", "b"),
    ]
    with pytest.raises(UserError, match=r'pip install "birdnet_fs\[export\]"'):
        find_runtimes("tflite", places[1:2])
    with pytest.raises(UserError, match=r"openvino needs openvino"):
        find_runtimes("openvino", places)
