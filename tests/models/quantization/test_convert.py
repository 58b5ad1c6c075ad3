"""8-bit networks: names of their outputs, both backends, and the TFLite file."""

from pathlib import Path

import keras
import numpy as np
import preloaded
import pytest
import tolerances
import torch
from quantized_networks import NAMES, RANGES, features, measured, network

from birdnet_fs import models
from birdnet_fs.models.lowering.lower import lower
from birdnet_fs.models.quantization import convert as quantizing
from birdnet_fs.models.quantization.convert import quantize, ranges
from birdnet_fs.models.quantization.fake_quant import (
    fake_quantize,
    fake_quantize_kernel,
    scale_and_zero,
)


def test_outputs_are_rounded_under_the_names_of_their_layers():
    model = network("cnn/tiny")
    x = features(model)
    made = measured(quantize(model), x)
    with torch.no_grad():
        logits, embedding = models.with_outputs(made, ["logits", "embedding"])(x)
        assert torch.equal(logits, made(x))
    assert embedding.shape == (4, 48)
    assert torch.equal(embedding, fake_quantize(embedding, *made.get_layer("embedding_range").range()))


@pytest.fixture(scope="module")
def elsewhere(tmp_path_factory):
    """A quantized network here, and what TensorFlow and its converter make of it."""
    folder = tmp_path_factory.mktemp("quantized")
    model = network("cnn/tiny")
    made = measured(quantize(model), features(model, 16))
    x = features(made, 64, seed=1).numpy()
    rng = np.random.default_rng(0)
    given = {"x": rng.normal(0, 3, 2_000).astype(np.float32), "kernel": rng.normal(0, 1, (3, 3, 4, 6)), "features": x}
    given |= {name: np.float32(bounds) for name, bounds in RANGES.items()}
    given["kernel"] = given["kernel"].astype(np.float32)
    values = {f"weights/{v.path}": v.numpy() for v in made.weights if "seed_generator" not in v.path}
    np.savez(folder / "given.npz", **given, **values)
    script = Path(__file__).parents[2] / "helpers" / "quantized_on_tensorflow.py"
    preloaded.run_python([script, folder]).check_returncode()
    with torch.no_grad():
        logits = lower(made, fold=True)(torch.from_numpy(x)).numpy()
    return made, given, logits, np.load(folder / "tensorflow.npz"), folder / "int8.tflite"


def test_tensorflow_rounds_alike(elsewhere):
    made, given, logits, theirs, _ = elsewhere
    for name, (low, high) in RANGES.items():
        ours = fake_quantize(torch.from_numpy(given["x"]), torch.tensor(low), torch.tensor(high)).numpy()
        np.testing.assert_allclose(theirs[name], ours, atol=tolerances.ROUNDED * (high - low))
    for axis in (-1, None):
        ours = fake_quantize_kernel(torch.from_numpy(given["kernel"]), axis=axis).numpy()
        np.testing.assert_allclose(theirs[f"kernel/{axis}"], ours, atol=tolerances.ROUNDED * 5)
    assert steps_apart(made, theirs["logits"], logits).max() <= tolerances.STEPS_TURNED


def steps_apart(made: keras.Model, theirs: np.ndarray, ours: np.ndarray) -> np.ndarray:
    low, high = (float(v) for v in made.get_layer("logits_range").range())
    return np.rint(np.abs(theirs - ours) / ((high - low) / 255))


def test_the_file_computes_in_8_bits_with_the_ranges_that_were_learned(elsewhere):
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    made, given, logits, _, file = elsewhere
    kind = OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
    interpreter = Interpreter(str(file), experimental_op_resolver_type=kind)
    interpreter.allocate_tensors()
    tensors = {t["index"]: t for t in interpreter.get_tensor_details()}
    floats = [t["name"] for t in tensors.values() if t["dtype"] == np.float32]
    assert len(floats) == 2, floats  # the input and the output
    operators = [row["op_name"] for row in interpreter._get_ops_details()]
    assert operators.count("QUANTIZE") == operators.count("DEQUANTIZE") == 1
    found = {
        (float(t["quantization_parameters"]["scales"][0]), int(t["quantization_parameters"]["zero_points"][0]))
        for t in tensors.values()
        if t["dtype"] == np.int8 and len(t["quantization_parameters"]["scales"]) == 1
    }
    for grid in ranges(made):
        scale, zero = (float(v) for v in scale_and_zero(*grid.range()))
        near = [z for s, z in found if abs(s / scale - 1) < tolerances.ROUNDED]
        assert zero - 128 in near, grid.name  # int8 counts from -128
    kernels = {tuple(t["shape"]): t["quantization_parameters"] for t in tensors.values() if t["dtype"] == np.int8}
    stem = np.abs(made.get_layer("stem").kernel.numpy()).max(axis=(0, 1, 2)) / 127
    np.testing.assert_allclose(kernels[(16, 3, 3, 2)]["scales"], stem, rtol=tolerances.ROUNDED)
    interpreter = Interpreter(str(file))  # as it is run: with XNNPACK
    interpreter.allocate_tensors()
    (given_to,), (answer) = interpreter.get_input_details(), interpreter.get_output_details()[0]
    rows = []
    for x in given["features"]:
        interpreter.set_tensor(given_to["index"], x[None])
        interpreter.invoke()
        rows.append(interpreter.get_tensor(answer["index"])[0])
    apart = steps_apart(made, np.stack(rows), logits)
    assert (apart > 2).mean() < tolerances.SHARE_FURTHER and apart.max() <= tolerances.STEPS_TURNED


def test_every_family_that_the_settings_allow_is_covered():
    assert {name.partition("/")[0] for name in NAMES} == {f for f, row in models.FAMILIES.items() if row.quantizable}
    assert quantizing.SUFFIX == "_range"  # models.with_outputs uses it
