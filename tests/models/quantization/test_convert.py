"""Networks of 8 bits: the rounding by hand, the fold, gradients, ranges, both backends, and the file made of it."""

import os
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
import tolerances
import torch
from reduced import code_paths, reduced, shape_of

from birdnet_fs import models
from birdnet_fs.core.errors import UserError
from birdnet_fs.models.lowering.lower import lower
from birdnet_fs.models.lowering.rules_quantized import rounded
from birdnet_fs.models.quantization import convert as quantizing
from birdnet_fs.models.quantization import fake_quant, rules
from birdnet_fs.models.quantization.convert import is_quantized, quantize, ranges, set_phase
from birdnet_fs.models.quantization.fake_quant import (
    FIXED,
    LEARN,
    MEASURE,
    MOMENTUM,
    FakeQuantize,
    fake_quantize,
    fake_quantize_kernel,
    scale_and_zero,
)

SHAPE, N_CLASSES = (48, 40, 1), 5
NAMES = [name for name in code_paths() if models.family_row(name).quantizable]
RANGES = {"range/wide": (-3.0, 5.0), "range/positive": (0.0, 6.0), "range/far": (-0.013, 7.1), "range/low": (-4.0, 0.0)}


def random_norms(model: keras.Model, seed: int = 0) -> keras.Model:
    """Moving statistics and factors that are not those of a fresh network."""
    rng = np.random.default_rng(seed)
    for variable in model.weights:
        if variable.path.endswith(("gamma", "moving_variance", "/variance")):
            variable.assign(rng.uniform(0.5, 1.5, variable.shape))
        if variable.path.endswith(("beta", "moving_mean", "/mean")):
            variable.assign(rng.normal(0, 0.2, variable.shape))
    return model


def network(name: str, shape: tuple[int, int, int] = SHAPE) -> keras.Model:
    keras.utils.set_random_seed(0)
    with reduced(name):
        return random_norms(models.build(name, input_shape=shape_of(name, shape), n_classes=N_CLASSES))


def features(model: keras.Model, n: int = 4, seed: int = 0) -> torch.Tensor:
    return torch.randn((n, *model.input_shape[1:]), generator=torch.Generator().manual_seed(seed))


def measured(model: keras.Model, x: torch.Tensor) -> keras.Model:
    set_phase(model, MEASURE)
    with torch.no_grad():
        model(x)
    set_phase(model, FIXED)
    return model


def by_hand(x: np.ndarray, low: float, high: float) -> np.ndarray:
    """To the nearest of 256 values, in float64; the zero point is rounded as TensorFlow does, .5 upwards."""
    scale = (high - low) / 255
    zero = np.clip(np.floor(0.5 - low / scale), 0, 255)
    return (np.clip(np.round(x / scale + zero), 0, 255) - zero) * scale


@pytest.mark.parametrize("case", RANGES)
def test_rounding_is_that_of_the_formula(case):
    low, high = RANGES[case]
    x = np.random.default_rng(0).normal(0, 3, 4_000).astype(np.float32)
    y = fake_quantize(torch.from_numpy(x), torch.tensor(low), torch.tensor(high)).numpy()
    np.testing.assert_allclose(y, by_hand(x.astype(float), low, high), atol=tolerances.ROUNDED * (high - low))
    assert len(np.unique(y)) > 60 and fake_quantize(torch.zeros(1), torch.tensor(low), torch.tensor(high)) == 0


def test_the_gradient_passes_where_nothing_was_cut_off():
    low, high = torch.tensor(-1.0), torch.tensor(2.0)
    scale, zero = scale_and_zero(low, high)
    x = torch.linspace(-2, 3, 1_001, requires_grad=True)
    weights = torch.randn(x.shape, generator=torch.Generator().manual_seed(0))
    steps = x.detach().double().numpy() / scale.item() + zero.item()
    inside = (np.round(steps) >= 0) & (np.round(steps) <= 255)
    assert 0.5 < inside.mean() < 0.7
    for function in (lambda: fake_quantize(x, low, high), lambda: rounded(x, scale, zero.float())):
        (gradient,) = torch.autograd.grad(function(), x, weights)
        np.testing.assert_array_equal(gradient.numpy(), np.where(inside, weights.numpy(), 0))


def test_the_lowered_rounding_is_torchs_own_bit_for_bit():
    x = torch.randn((2, 3, 50, 40), generator=torch.Generator().manual_seed(0)).permute(0, 2, 3, 1) * 3
    for low, high in RANGES.values():
        scale, zero = scale_and_zero(torch.tensor(low), torch.tensor(high))
        expected = torch.fake_quantize_per_tensor_affine(x, scale, zero, 0, 255)
        assert torch.equal(rounded(x, scale, zero.float()), expected)
        assert torch.equal(rounded(x.clone().requires_grad_(), scale, zero.float()), expected)


@pytest.mark.parametrize("axis", [-1, None])
def test_a_kernel_is_rounded_around_zero_and_its_gradient_passes(axis):
    kernel = torch.randn((3, 3, 4, 6), generator=torch.Generator().manual_seed(0)) * torch.arange(6)  # channel 0: zeros
    y = fake_quantize_kernel(kernel.requires_grad_(), axis=axis)
    largest = np.abs(kernel.detach().numpy()).max(axis=(0, 1, 2) if axis == -1 else None)
    smallest = 1e-4 * largest.max() if axis == -1 else 0.0
    step = np.maximum(largest, smallest) / 127
    expected = np.round(kernel.detach().numpy() / step) * step
    np.testing.assert_allclose(y.detach().numpy(), expected, atol=tolerances.ROUNDED * largest.max())
    (gradient,) = torch.autograd.grad(y.sum(), kernel)
    assert (gradient == 1).all()


def test_a_range_is_measured_then_follows_then_stays():
    grid = FakeQuantize()
    batches = [torch.tensor([-1.0, 3.0]), torch.tensor([1.0, 5.0]), torch.tensor([0.0, 0.0])]
    grid.build((2,))
    assert [float(v) for v in grid.range()] == [0, 1]
    grid.phase = MEASURE
    for x in batches:
        assert torch.equal(grid(x), x)
    assert [float(v) for v in grid.range()] == [-0.5, 4.0]  # zeros alone move nothing
    grid.phase = LEARN
    grid(torch.tensor([-2.5, 8.0]), training=False)
    assert [float(v) for v in grid.range()] == [-0.5, 4.0]
    for n in range(4, 40):  # the mean of all, until the moving average forgets faster
        low, high = (float(v) for v in grid.range())
        rate = max(1 / n, 1 - MOMENTUM)
        y = grid(torch.tensor([-2.5, 8.0]), training=True)
        expected = [(1 - rate) * low - rate * 2.5, (1 - rate) * high + rate * 8]
        np.testing.assert_allclose([float(v) for v in grid.range()], expected, rtol=tolerances.FLOAT32_MEAN)
        np.testing.assert_allclose(y.numpy(), by_hand(np.array([-2.5, 8.0]), *expected), atol=tolerances.ROUNDED * 10)
    grid.phase = FIXED
    now = [float(v) for v in grid.range()]
    grid(torch.tensor([-100.0, 100.0]), training=True)
    assert [float(v) for v in grid.range()] == now
    assert not list(FakeQuantize(bounds=(0, 1)).weights)


@pytest.mark.parametrize("name", NAMES)
def test_folding_changes_nothing_and_rounding_little(name, monkeypatch):
    model = network(name)
    x = features(model)
    made = quantize(model)
    assert is_quantized(made) and not is_quantized(model)
    assert not any(isinstance(layer, keras.layers.BatchNormalization) for layer in made.layers)
    assert made.name == model.name and made.output_shape == model.output_shape
    with torch.no_grad():
        expected, rounded_weights = model(x), measured(made, x)(x)
        monkeypatch.setattr(fake_quant, "fake_quantize_kernel", lambda kernel, axis: kernel)
        set_phase(made, MEASURE)
        exact = made(x)
    largest = float(expected.abs().max())
    assert float((exact - expected).abs().max()) < tolerances.FOLDED * largest
    assert 0 < float((rounded_weights - expected).abs().mean()) < tolerances.EIGHT_BITS * largest


@pytest.mark.parametrize("name", NAMES)
def test_lowered_computes_as_keras(name):
    model = network(name)
    x = features(model)
    made = measured(quantize(model), x)
    flat, folded = lower(made), lower(made, fold=True)
    assert not flat.fallback and [n for n in flat.slow_layers if "spec_augment" not in n] == []
    step = float(made.get_layer("logits_range").high - made.get_layer("logits_range").low) / 255
    with torch.no_grad():
        keras_order = made(x)
        # sums in another order turn some roundings, and what lies behind them
        assert float((flat(x) - keras_order).abs().max()) < tolerances.STEPS_TURNED * step
        assert torch.equal(flat(x), folded(x))
    grids = list(ranges(made))
    before = [float(grid.high) for grid in grids]
    set_phase(made, LEARN)
    flat(2 * x, training=True).sum().backward()
    assert all(torch.isfinite(v.value.grad).all() for v in made.trainable_variables)
    assert sum(float(grid.high) != high for grid, high in zip(grids, before, strict=True)) > len(grids) / 2


def test_outputs_are_rounded_under_the_names_of_their_layers():
    model = network("cnn/tiny")
    x = features(model)
    made = measured(quantize(model), x)
    with torch.no_grad():
        logits, embedding = models.with_outputs(made, ["logits", "embedding"])(x)
        assert torch.equal(logits, made(x))
    assert embedding.shape == (4, 48)
    assert torch.equal(embedding, fake_quantize(embedding, *made.get_layer("embedding_range").range()))


@pytest.mark.parametrize(
    ("name", "words"),
    [("vit/tiny", "has a layer .* does not support"), ("rnn/gru", "'input_bn' on .* 3 axes")],
)
def test_a_layer_without_a_counterpart_is_named(name, words):
    with pytest.raises(UserError, match=words) as raised:
        quantize(network(name))
    assert "--precision int8" in str(raised.value)


def test_a_kernel_too_large_for_the_converter_is_refused(monkeypatch):
    monkeypatch.setattr(rules, "MOST_WEIGHTS", 48 * 48 * 9)
    quantize(network("cnn/tiny"))
    monkeypatch.setattr(rules, "MOST_WEIGHTS", 48 * 48 * 9 - 1)
    with pytest.raises(UserError, match=r"a kernel of 20,736 numbers in 'block3_conv2', more than 20,735,"):
        quantize(network("cnn/tiny"))


# ---------------------------------------------------------------- on TensorFlow, and the file


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
    environment = {**os.environ, "KERAS_BACKEND": "tensorflow", "TF_CPP_MIN_LOG_LEVEL": "3"}
    subprocess.run([sys.executable, str(script), str(folder)], check=True, env=environment, capture_output=True)
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
    assert quantizing.SUFFIX == "_range"  # models.with_outputs knows it
