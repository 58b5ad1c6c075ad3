"""ONNX graphs in lower precision, on small graphs made by hand; whole networks: test_convert.py."""

import numpy as np
import onnx
import onnxruntime
import pytest
import tolerances
from onnx import TensorProto, helper, numpy_helper
from scipy.special import expit, softmax

from birdnet_fs.core.errors import UserError
from birdnet_fs.export.onnx.precision import (
    append_activation,
    convert_precision,
    join_models,
    raise_log_floor,
    store_as_float16,
    weight_share,
)


def product(n_out: int = 20, *, name: str = "features", output: str = "predictions") -> onnx.ModelProto:
    """x @ weights, [batch, 32] -> [batch, n_out]."""
    weights = np.random.default_rng(0).normal(size=(32, n_out)).astype(np.float32)
    nodes = [helper.make_node("MatMul", [name, f"{output}_weights"], [output])]
    given = helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", 32])
    found = helper.make_tensor_value_info(output, TensorProto.FLOAT, ["batch", n_out])
    constants = [numpy_helper.from_array(weights, f"{output}_weights")]
    graph = helper.make_graph(nodes, "product", [given], [found], constants)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


def run(model: onnx.ModelProto, x: np.ndarray) -> np.ndarray:
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, {session.get_inputs()[0].name: x})[0]


@pytest.fixture
def x() -> np.ndarray:
    return np.random.default_rng(1).normal(size=(5, 32)).astype(np.float32)


@pytest.mark.parametrize(("activation", "function"), [("sigmoid", expit), ("softmax", lambda x: softmax(x, axis=1))])
def test_append_activation_keeps_the_name_of_the_output(x: np.ndarray, activation: str, function) -> None:
    model, wanted = product(), function(run(product(), x))
    append_activation(model, activation)
    assert [output.name for output in model.graph.output] == ["predictions"]
    assert np.abs(run(model, x) - wanted).max() <= tolerances.ACTIVATION


@pytest.mark.parametrize("keep_input", [True, False])
def test_join_models_joins_graphs_with_equal_names(x: np.ndarray, keep_input: bool) -> None:
    """The first part has the names of the second one: input, weights and output."""
    first = product(32, name="features", output="predictions")
    joined = join_models(first, product(), "front_end/", keep_input=keep_input)
    assert joined.graph.input[0].name == ("features" if keep_input else "front_end/features")
    assert [output.name for output in joined.graph.output] == ["predictions"]
    wanted = run(product(), run(first, x))
    assert np.abs(run(joined, x) - wanted).max() <= tolerances.BACKENDS * np.abs(wanted).max()


def test_join_models_refuses_different_operator_sets() -> None:
    newer = product()
    newer.opset_import[0].version = 21
    with pytest.raises(ValueError, match="same operator sets"):
        join_models(product(32), newer, "front_end/")


def test_store_as_float16_rounds_large_weights_only(x: np.ndarray) -> None:
    model, small = product(), product(4)  # 640 and 128 numbers
    assert (store_as_float16(model), store_as_float16(small)) == (1, 0)
    (stored,) = model.graph.initializer
    original = numpy_helper.to_array(product().graph.initializer[0])
    assert np.array_equal(numpy_helper.to_array(stored), original.astype(np.float16))
    wanted = x.astype(np.float64) @ original.astype(np.float16).astype(np.float64)
    assert np.abs(run(model, x) - wanted).max() <= tolerances.BACKENDS * np.abs(wanted).max()


def test_raise_log_floor_makes_logarithms_of_silence_equal() -> None:
    nodes = [helper.make_node("Max", ["x", "amin"], ["floored"]), helper.make_node("Log", ["floored"], ["y"])]
    given, found = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [None]) for name in ("x", "y"))
    constants = [numpy_helper.from_array(np.float32(1e-10), "amin")]
    graph = helper.make_graph(nodes, "log", [given], [found], constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    assert raise_log_floor(model, 1e-10) == 1
    energies = np.zeros(67, np.float32)  # no multiple of a vector's length
    energies[40] = 2.0
    given = run(model, energies)
    assert np.ptp(np.delete(given, 40)) == 0 and given[40] == pytest.approx(np.log(2))
    assert given[0] == pytest.approx(np.log(1e-10), abs=1e-5)


def test_convert_precision_refuses_to_quantize_too_few_weights() -> None:
    """By the share of the weights that it would round, counted by hand here."""

    def network(n_out: int) -> onnx.ModelProto:
        arrays = {"kernel": np.ones((8, 3, 1, 1), np.float32), "matrix": np.ones((8, n_out), np.float32)}
        nodes = [
            helper.make_node("Conv", ["features", "kernel"], ["maps"]),
            helper.make_node("GlobalAveragePool", ["maps"], ["means"]),
            helper.make_node("Flatten", ["means"], ["rows"]),
            helper.make_node("MatMul", ["rows", "matrix"], ["predictions"]),
        ]
        given = helper.make_tensor_value_info("features", TensorProto.FLOAT, [1, 3, 5, 5])
        found = helper.make_tensor_value_info("predictions", TensorProto.FLOAT, [1, n_out])
        constants = [numpy_helper.from_array(value, name) for name, value in arrays.items()]
        graph = helper.make_graph(nodes, "network", [given], [found], constants)
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)

    assert weight_share(network(9), ("MatMul",)) == 72 / (24 + 72)
    assert weight_share(network(9), ("Conv",)) == 24 / (24 + 72)
    with pytest.raises(UserError, match=r"hold 25% of this network's.*Conv"):
        convert_precision(network(1), "dynamic", lambda: np.ones((1, 3, 5, 5)))
    convert_precision(network(9), "dynamic", lambda: np.ones((1, 3, 5, 5)))
