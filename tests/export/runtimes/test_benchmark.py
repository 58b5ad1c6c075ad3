"""What an artifact costs: right numbers of the right file, and a sentence for everything that can go wrong."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from birdnet_fs.cli.bench import bench as verb
from birdnet_fs.core.errors import UserError
from birdnet_fs.export.runtimes import benchmark
from birdnet_fs.export.runtimes.benchmark import Speed, measure_in_turns, measure_speed

MB = 1_000_000


def describe(path: Path, **about: object) -> Path:
    """The sidecar of the exporter, as far as timing reads it."""
    path.with_suffix(".json").write_text(json.dumps({"input": "waveform", "segment_s": 3.0, **about}), encoding="utf-8")
    return path


def make_onnx(path: Path, *, batch: object = "batch", n: int = 100, width: int = 4) -> Path:
    """x @ weights, [batch, n] -> [batch, width]."""
    weights = numpy_helper.from_array(np.ones((n, width), np.float32), "weights")
    node = helper.make_node("MatMul", ["x", "weights"], ["y"])
    ends = [helper.make_tensor_value_info(*end) for end in (("x", 1, [batch, n]), ("y", 1, [batch, width]))]
    assert TensorProto.FLOAT == 1
    graph = helper.make_graph([node], "product", ends[:1], ends[1:], [weights])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), path)
    return describe(path)


@pytest.fixture(scope="module")
def small(tmp_path_factory) -> Path:
    return make_onnx(tmp_path_factory.mktemp("onnx") / "small.onnx")


@pytest.fixture(scope="module")
def lite(tmp_path_factory) -> Path:
    """The same product as TFLite, of any batch."""
    import tensorflow as tf

    weights = tf.constant(np.ones((100, 4), np.float32))

    @tf.function(input_signature=[tf.TensorSpec((None, 100), tf.float32)])
    def product(x):
        return tf.matmul(x, weights)

    path = tmp_path_factory.mktemp("tflite") / "small.tflite"
    converter = tf.lite.TFLiteConverter.from_concrete_functions([product.get_concrete_function()], product)
    path.write_bytes(converter.convert())
    return describe(path, input="features")


def test_speeds_are_in_the_order_of_the_files(small: Path, lite: Path) -> None:
    speeds = measure_in_turns([lite, small], batch=8, seconds=0.02)
    assert [speed.path for speed in speeds] == [lite, small]
    for speed in speeds:
        assert 0 < speed.minimum_ms <= speed.median_ms and speed.n_runs >= 3 and speed.load_s > 0
        assert (speed.batch, speed.threads, speed.segment_s) == (8, 1, 3.0)
        assert speed.n_bytes == speed.path.stat().st_size
        assert 5 * MB < speed.base_bytes <= speed.peak_bytes
    assert [speed.input for speed in speeds] == ["features", "waveform"]


def test_memory_is_that_of_the_file_and_not_of_the_parent(small: Path, tmp_path: Path) -> None:
    ours = np.ones(300 * MB // 8)  # what a child of this process would inherit as its `ru_maxrss`
    large = make_onnx(tmp_path / "large.onnx", n=100, width=100_000)  # 40 MB
    light, heavy = measure_in_turns([small, large], seconds=0.01)
    assert ours.nbytes == 300 * MB and light.peak_bytes < 200 * MB
    assert heavy.peak_bytes - light.peak_bytes > 35 * MB
    assert abs(heavy.base_bytes - light.base_bytes) < 20 * MB


def test_summary_holds_the_numbers() -> None:
    speed = Speed(Path("a.tflite"), "features", 5.0, 1, 4, 2.0, 1.5, 99, 0.01, 2_500_000, 80 * MB, 40 * MB)
    assert speed.real_time == 2500
    text = speed.summary()
    for part in ("2 ms for a segment of 5 s without the front-end", "99 runs on one thread, 4 at once", "2,500 times"):
        assert part in text
    assert "2.50 MB on disk, 80 MB of peak memory, of which Python, NumPy and the runtime take 40" in text
    assert "memory" not in dataclasses.replace(speed, peak_bytes=0).summary()
    assert "front-end" not in dataclasses.replace(speed, input="waveform").summary()


def test_times_are_per_segment(small: Path, monkeypatch, tmp_path: Path) -> None:
    """A script in the place of the timer: 8 segments take 16, 24 and 80 ms."""
    script = tmp_path / "timer.py"
    script.write_text(
        'import sys\nprint(\'{"load_s": 0.5, "shape": [8, 1], "without": 7}\', flush=True)\n'
        'for line in iter(sys.stdin.readline, "end\\n"):\n    print("x" * 10**6, file=sys.stderr)\n'
        "    print([80.0, 16.0, 24.0], flush=True)\nprint(11, flush=True)\n"
    )
    monkeypatch.setattr(benchmark, "_SCRIPT", script)
    speed = measure_speed(small, batch=8, seconds=1.2)
    assert (speed.median_ms, speed.minimum_ms, speed.n_runs) == (3.0, 2.0, 9)  # three turns of half a second
    assert (speed.load_s, speed.base_bytes, speed.peak_bytes, speed.real_time) == (0.5, 7, 11, 1000)


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("import nothing_of_this_name", r'needs onnxruntime: pip install "birdnet_fs\[export\]"'),
        ("import os; os.abort()", r"cannot be run \(exit status -6: no output\)"),
    ],
)
def test_error_names_a_runtime_that_is_missing_or_crashes(small: Path, monkeypatch, tmp_path: Path, code, said) -> None:
    script = tmp_path / "timer.py"
    script.write_text(code)
    monkeypatch.setattr(benchmark, "_SCRIPT", script)
    with pytest.raises(UserError, match=said):
        measure_speed(small)


def test_error_names_the_fixed_batch(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"takes 1 segment\(s\) per call: give --batch_size 1\. Received: 2"):
        measure_speed(make_onnx(tmp_path / "one.onnx", batch=1), batch=2)


def test_invalid_input_gives_one_sentence(small: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(b"not a network")
    alone = tmp_path / "alone.onnx"
    alone.write_bytes(small.read_bytes())
    cases = [
        (describe(broken), {}, r"broken\.onnx cannot be run \(exit status 1"),
        (tmp_path / "none.onnx", {}, "there is no such file"),
        (tmp_path / "card.md", {}, r"must end in \.tflite or \.onnx"),
        (alone, {}, r"alone\.json must describe the input of alone\.onnx"),
        (small, {"threads": 0}, "--threads must be 1 or more. Received: 0"),
        (small, {"batch": 0}, "--batch_size must be 1 or more. Received: 0"),
        (small, {"seconds": 0.0}, "--seconds must be above 0, up to 3600. Received: 0"),
    ]
    for path, settings, said in cases:
        with pytest.raises(UserError, match=said) as caught:
            measure_speed(path, **settings)
        assert "\n" not in str(caught.value)


def test_bench_prints_a_table_or_json(small: Path, lite: Path, capsys, monkeypatch) -> None:
    monkeypatch.setattr("birdnet_fs.inference.sidecar.read_sidecar", lambda path: {})  # here they hold what is measured
    verb(small, against=lite, seconds=0.1)
    out = capsys.readouterr().out
    assert "small.tflite reads features: the front-end is not included." in out
    assert "small.onnx is " in out and "times as fast as small.tflite" in out
    verb(small, against=lite, seconds=0.1, as_json=True)
    found = json.loads(capsys.readouterr().out)
    first, second = found["artifacts"]
    assert found["times_as_fast"] == pytest.approx(second["median_ms"] / first["median_ms"])
    assert first["real_time"] == pytest.approx(3000 / first["median_ms"])
