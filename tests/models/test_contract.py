"""One contract for every network: shapes, names, gradients, learning, saving, batches, backends, TFLite, ONNX.

Variants are tested at a fraction of their width (reduced.py), behind the slow marker at their own. The shapes of every
variant are tested, the rest for one variant of each path through the code, and for the others behind the slow marker.
"""

import contextlib
import functools
import io
from pathlib import Path

import keras
import numpy as np
import onnxruntime
import preloaded
import pytest
import tolerances
import torch
from exact import Exact, exact
from installed import need
from on_runtime import run_tflite
from reduced import code_paths, reduced, shape_of

from birdnet_fs import models
from birdnet_fs.models.lowering.lower import as_module, lower

SHAPE, N_CLASSES = (48, 40, 1), 4
MOST_STEPS = 150  # narrow recurrent networks and bounded logits learn slowly; most networks need ten
RATE, RATES = 2e-3, {"full convnext/tiny": 1e-4}  # ConvNeXt at its own width diverges at 2e-3 without warm-up
FULL = "full "  # in front of a name: not reduced
TOO_LARGE = ("convnext/small", "convnext/base", "convnext/large")  # 50 to 200 million parameters, the code of tiny
AT_FULL_SIZE = [FULL + name for name in models.names() if name not in TOO_LARGE]
FULL_SIZE = [pytest.param(name, marks=pytest.mark.slow) for name in AT_FULL_SIZE]
EVERY = [*models.names(), *FULL_SIZE]
# one variant for each path through the code; behind the slow marker those that differ from it in sizes only
PATHS = [name if name in code_paths() else pytest.param(name, marks=pytest.mark.slow) for name in models.names()]
PATHS += FULL_SIZE


def build(name: str, *, seed: int = 0, **settings) -> keras.Model:
    keras.utils.set_random_seed(seed)
    own = name.removeprefix(FULL)
    with contextlib.nullcontext() if own != name else reduced(own):
        return models.build(own, input_shape=shape_of(own, SHAPE), n_classes=N_CLASSES, **settings)


def decibels(n: int, shape: tuple[int, int, int] = SHAPE) -> torch.Tensor:
    """Features as a front-end without normalization gives them."""
    return torch.randn((n, *shape), generator=torch.Generator().manual_seed(0)) * 10 - 40


def with_fitting_statistics(model: keras.Model) -> keras.Model:
    """Moving statistics that fit the features; without them a deep fresh network magnifies every rounding."""
    norms = [layer for layer in model.layers if isinstance(layer, keras.layers.BatchNormalization)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = 0.0
    with torch.no_grad():
        model(decibels(16, model.input_shape[1:]), training=True)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
    return model


def with_exact(name: str) -> tuple[keras.Model, torch.Tensor, Exact]:
    """A network with fitting statistics, seven segments, and its logits in float64."""
    return _with_exact.__wrapped__(name) if name.startswith(FULL) else _with_exact(name)  # large ones are not kept


@functools.cache
def _with_exact(name: str) -> tuple[keras.Model, torch.Tensor, Exact]:
    model = with_fitting_statistics(build(name))
    x = decibels(7, model.input_shape[1:])
    return model, x, exact(model, lambda: build(name), x)


@pytest.mark.parametrize("name", EVERY)
def test_shapes_names_and_dtype(name):
    model = build(name)
    shape = shape_of(name.removeprefix(FULL), SHAPE)
    assert model.inputs[0].name == "features" and model.input_shape == (None, *shape)
    assert model.output_shape == (None, N_CLASSES)
    assert model.layers[-1].name == "logits" and model.layers[-1].activation is keras.activations.linear
    assert len(model.get_layer("embedding").output.shape) == 2
    logits = model(decibels(3, shape))
    assert logits.shape == (3, N_CLASSES) and logits.dtype == torch.float32
    names = [layer.name for layer in model.layers]
    paths = [weight.path for weight in model.weights]
    assert len(set(names)) == len(names) and len(set(paths)) == len(paths)
    again = build(name)
    assert [layer.name for layer in again.layers] == names and [weight.path for weight in again.weights] == paths
    lowered = lower(model)
    assert lowered.fallback == "" and lowered.slow_layers == []


@pytest.mark.parametrize("name", PATHS)
def test_every_trainable_variable_gets_a_finite_gradient_and_16_segments_are_learned(name):
    model = build(name, dropout=0.0)
    lowered = lower(model)
    x, labels = decibels(16, model.input_shape[1:]), torch.arange(16) % N_CLASSES
    for i, label in enumerate(labels):  # 20 dB in another band and rhythm for each class: some pool the bands away
        x[i, 10 : 34 : label + 1, 8 * label + 4] += 20
    optimizer = torch.optim.AdamW([w.value for w in model.trainable_weights], RATES.get(name, RATE))
    losses: list[float] = []
    while not losses or (losses[-1] > 0.5 * losses[0] and len(losses) < MOST_STEPS):
        optimizer.zero_grad()
        loss = torch.nn.functional.cross_entropy(lowered(x, training=True), labels)
        loss.backward()
        for weight in model.trainable_weights:
            assert weight.value.grad is not None and bool(torch.isfinite(weight.value.grad).all()), weight.path
            if not losses:
                assert float(weight.value.grad.abs().max()) > 0, weight.path
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] <= 0.5 * losses[0], losses


@pytest.mark.parametrize("name", PATHS)
def test_a_segment_scores_the_same_in_any_batch(name):
    model, x, reference = with_exact(name)
    with torch.no_grad():
        together = model(x, training=False)
        alone = torch.cat([model(x[i : i + 1], training=False) for i in range(7)])
    assert reference.roundings(together) <= tolerances.ROUNDINGS
    assert reference.roundings(alone) <= tolerances.ROUNDINGS
    assert tolerances.ROUNDINGS * reference.rounding <= tolerances.ROUNDED_AWAY * np.abs(reference.logits).max()


@pytest.mark.parametrize("name", PATHS)
def test_weights_carry_a_network_into_a_fresh_build_and_through_a_file(name, tmp_path):
    model = with_fitting_statistics(build(name))
    fresh = build(name, seed=1)
    x = decibels(2, model.input_shape[1:])
    with torch.no_grad():
        expected = model(x, training=False)
        assert not torch.equal(fresh(x, training=False), expected)
        by_path = {weight.path: weight.numpy() for weight in model.weights}
        for weight in fresh.weights:
            weight.assign(by_path[weight.path])
        assert torch.equal(fresh(x, training=False), expected)
        model.save(tmp_path / "m.keras")
        assert torch.equal(keras.models.load_model(tmp_path / "m.keras")(x, training=False), expected)


TENSORFLOW = """
import sys, numpy as np, keras
from pathlib import Path
from birdnet_fs import models
from birdnet_fs.export.tflite.convert import convert_model
for family in models.FAMILIES:
    models.family(family)  # Keras has the layers of ours that have been imported
for file in sorted(Path(sys.argv[1]).glob("*.keras")):
    model = keras.models.load_model(file)
    x = np.load(file.with_suffix(".x.npy"))
    np.save(file.with_suffix(".tensorflow.npy"), model(x, training=False).numpy())
    convert_model(model, (1, *x.shape[1:]), "features", file.with_suffix(".tflite"))
"""


def elsewhere(names: list[str], folder: Path) -> dict[str, Exact]:
    """Every network saved here (torch), and loaded and converted in a process on the TensorFlow backend."""
    expected = {}
    for name in names:
        model, x, expected[name] = with_exact(name)
        file = folder / f"{name.replace('/', '_')}.keras"
        model.save(file)
        np.save(file.with_suffix(".x.npy"), x.numpy())
    run = preloaded.run_python(["-c", TENSORFLOW, folder])
    assert run.returncode == 0, run.stderr
    return expected


@pytest.fixture(scope="module")
def on_tensorflow(tmp_path_factory):
    need("tensorflow")
    folder = tmp_path_factory.mktemp("elsewhere")
    return folder, elsewhere(code_paths(), folder)


def check_tensorflow_and_tflite(name: str, folder: Path, expected: Exact) -> None:
    file = folder / f"{name.replace('/', '_')}.keras"
    assert expected.roundings(np.load(file.with_suffix(".tensorflow.npy"))) <= tolerances.ROUNDINGS
    inputs, outputs = file.with_suffix(".x.npy"), file.with_suffix(".tflite.npz")
    (found,) = run_tflite(file.with_suffix(".tflite"), inputs, outputs)
    assert expected.roundings(found) <= tolerances.ROUNDINGS


@pytest.mark.parametrize("name", code_paths())
def test_tensorflow_and_tflite_give_the_logits_of_torch(name, on_tensorflow):
    folder, expected = on_tensorflow
    check_tensorflow_and_tflite(name, folder, expected[name])


@pytest.mark.slow
@pytest.mark.parametrize("name", AT_FULL_SIZE)
def test_tensorflow_and_tflite_give_the_logits_of_torch_at_full_size(name, tmp_path):
    check_tensorflow_and_tflite(name, tmp_path, elsewhere([name], tmp_path)[name])


@pytest.mark.parametrize("name", PATHS)
@pytest.mark.filterwarnings("ignore")
def test_onnx_gives_the_logits_of_torch_for_any_batch(name):
    (model, x, reference), file = with_exact(name), io.BytesIO()
    torch.onnx.export(
        as_module(model), (x[:2],), file, dynamo=False, input_names=["features"], dynamic_axes={"features": {0: "n"}}
    )
    session = onnxruntime.InferenceSession(file.getvalue(), providers=["CPUExecutionProvider"])
    found = [session.run(None, {"features": part.numpy()})[0] for part in (x[:1], x[1:3], x[3:])]
    assert reference.roundings(np.concatenate(found)) <= tolerances.ROUNDINGS


def test_names_are_the_same_in_another_process_and_backend():
    code = (
        "import sys; sys.path[:0] = sys.argv[1:]; import test_contract as t\n"
        "for name in t.code_paths(): print('paths', *[w.path for w in t.build(name).weights])"
    )
    here = Path(__file__).parent
    run = preloaded.run_python(["-c", code, here, here.parent, here.parent / "helpers"])
    assert run.returncode == 0, run.stderr
    lines = [line.split()[1:] for line in run.stdout.splitlines() if line.startswith("paths")]
    assert lines == [[weight.path for weight in build(name).weights] for name in code_paths()]
