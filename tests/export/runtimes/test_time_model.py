"""The script that times a model file, as a process of its own."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper

from birdnet_fs.export.runtimes import time_model


def test_peak_memory_is_that_of_this_process() -> None:
    before = time_model.peak_memory()
    held = np.ones(50_000_000)  # 400 MB
    assert time_model.peak_memory() >= max(before, held.nbytes)


def test_each_line_of_input_gives_a_line_of_times(tmp_path: Path) -> None:
    node = helper.make_node("Relu", ["x"], ["y"])
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", 3]) for name in ("x", "y")]
    graph = helper.make_graph([node], "relu", ends[:1], ends[1:])
    path = tmp_path / "relu.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), path)
    command = [sys.executable, "-I", time_model.__file__, str(path), "1", "2"]
    done = subprocess.run(command, input="0.01\n0\nend\n", capture_output=True, encoding="utf-8", check=True)
    opened, first, second, peak = map(json.loads, done.stdout.splitlines())
    assert opened["shape"] == [2, 3] and opened["load_s"] > 0 and 0 < opened["without"] <= peak
    assert len(first) >= 3 and len(second) == 3 and min(*first, *second) > 0
