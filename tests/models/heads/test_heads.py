"""Every head: shapes, names, gradients, learning, and equal scores on both backends and in TFLite."""

import re
from pathlib import Path

import keras
import numpy as np
import preloaded
import pytest
import tolerances
import torch
from installed import need

from birdnet_fs import models
from birdnet_fs.models import heads
from birdnet_fs.models.lowering.lower import lower
from birdnet_fs.schema import Loss, Schedule, Training
from birdnet_fs.training.loop import run_epochs

SHAPE, N_CLASSES = (48, 40, 1), 4
NAMES = ("linear", "sed", "cosine")


def build(head: str, **settings) -> keras.Model:
    keras.utils.set_random_seed(0)
    return models.build("cnn/tiny", **{"input_shape": SHAPE, "n_classes": N_CLASSES, "head": head, **settings})


def decibels(n: int) -> torch.Tensor:
    return torch.randn((n, *SHAPE), generator=torch.Generator().manual_seed(0)) * 10 - 40


def with_fitting_statistics(model: keras.Model) -> keras.Model:
    """Moving statistics that fit the features."""
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.momentum = 0.0
    with torch.no_grad():
        model(decibels(16), training=True)
    return model


@pytest.mark.parametrize("head", NAMES)
def test_shapes_names_and_the_lowered_network(head):
    model = build(head)
    assert [layer.name for layer in build(head).layers] == [layer.name for layer in model.layers]
    assert model.layers[-1].name == "logits"
    names = ["embedding", "logits"] + (["frame_logits"] if head == "sed" else [])
    x = decibels(3)
    with torch.no_grad():
        given = dict(zip(names, models.with_outputs(model, names)(x), strict=True))
        assert torch.equal(given["logits"], model(x)) and given["logits"].dtype == torch.float32
        assert given["embedding"].shape == (3, 48) and given["logits"].shape == (3, N_CLASSES)
        assert head != "sed" or given["frame_logits"].shape == (3, 3, N_CLASSES)
        for name in names:
            lowered = lower(models.with_outputs(model, [name]))
            assert lowered.fallback == "" and lowered.slow_layers == []
            error = (lowered(x) - given[name]).abs().max() / given[name].abs().max()
            assert float(error) <= tolerances.LOWERED_OUTPUT
    if head == "sed":
        hidden = models.with_outputs(model, ["frame_hidden"])(x)
        torch.testing.assert_close(given["embedding"], hidden.mean(1), atol=tolerances.PYTORCH_TWIN, rtol=0)


def test_linear_is_the_default_and_as_it_was():
    linear = build("linear")
    assert [weight.path for weight in linear.weights][-2:] == ["logits/kernel", "logits/bias"]
    assert [layer.name for layer in linear.layers][-3:] == ["embedding", "dropout", "logits"]
    keras.utils.set_random_seed(0)
    default = models.build("cnn/tiny", input_shape=SHAPE, n_classes=N_CLASSES)
    with torch.no_grad():
        assert torch.equal(default(decibels(2)), linear(decibels(2)))


def test_logit_scale_is_that_of_the_head():
    assert [heads.logit_scale(build(head, logit_scale=12.5)) for head in NAMES] == [1.0, 1.0, 12.5]


class Tones:
    """16 segments with a tone of 20 dB in another band for each class, as the loop takes batches."""

    def __init__(self) -> None:
        labels = torch.arange(16) % N_CLASSES
        self.x, self.y = decibels(16), torch.eye(N_CLASSES)[labels]
        for i, label in enumerate(labels):
            self.x[i, 10:30, 8 * label + 4] += 20

    def __len__(self) -> int:
        return 1

    def epoch(self, epoch: int, first: int = 0):
        yield self.x, self.y, torch.arange(16)


@pytest.mark.parametrize(
    ("head", "loss", "multi_label"),
    [
        ("sed", "auto", False),
        ("sed", "auto", True),
        ("cosine", "auto", False),
        ("cosine", "arcface", False),
        ("cosine", "circle", False),
    ],
)
def test_every_variable_gets_a_gradient_and_16_segments_are_learned(head, loss, multi_label):
    model, tones = build(head, dropout=0.0), Tones()
    logits = lower(model)(tones.x, training=True)
    (logits * torch.randn(logits.shape)).sum().backward()
    for weight in model.trainable_weights:
        gradient = weight.value.grad
        assert gradient is not None and bool(torch.isfinite(gradient).all()) and float(gradient.abs().max()) > 0
    settings = Training(epochs=20, learning_rate=2e-3, loss=Loss(loss), schedule=Schedule(warmup_epochs=0))
    losses = [row["train_loss"] for row in run_epochs(model, Tones(), settings, multi_label=multi_label).history]
    assert np.mean(losses[-3:]) < 0.5 * losses[0], losses
    with torch.no_grad():
        answers = model(tones.x, training=True)  # by the batch's statistics: the moving ones lag behind 20 steps
    assert bool((answers.argmax(1) == tones.y.argmax(1)).all())


@pytest.mark.parametrize("head", NAMES)
def test_the_weights_of_a_head_are_known_by_their_paths(head):
    backbone = {weight.path for weight in build("linear").weights if not weight.path.startswith("logits/")}
    weights = build(head).weights
    named = {weight.path for weight in weights if weight.path.startswith(heads.WEIGHTS)}
    assert {weight.path for weight in weights if "seed" not in weight.path} - backbone == named


@pytest.mark.parametrize("family", models.FAMILIES)
def test_no_backbone_has_a_layer_named_as_a_heads(family):
    source = Path(models.family(family).__file__).read_text(encoding="utf-8")
    assert not re.search(r'name=f?"(frame_|logits|dropout")', source)


TENSORFLOW = """
import sys, numpy as np, keras
from pathlib import Path
from ai_edge_litert.interpreter import Interpreter
from birdnet_fs import models
from birdnet_fs.export.tflite.convert import convert_model
folder, names = Path(sys.argv[1]), sys.argv[2:]
x = np.load(folder / "x.npy")
for head in names:
    model = keras.models.load_model(folder / f"{head}.keras")
    np.save(folder / f"{head}_keras.npy", model(x, training=False))
    convert_model(model, (1, *x.shape[1:]), "features", folder / f"{head}.tflite")
    runtime = Interpreter(model_path=str(folder / f"{head}.tflite"))
    runtime.allocate_tensors()
    rows = []
    for row in x:
        runtime.set_tensor(runtime.get_input_details()[0]["index"], row[None])
        runtime.invoke()
        rows.append(runtime.get_tensor(runtime.get_output_details()[0]["index"])[0])
    np.save(folder / f"{head}_tflite.npy", np.array(rows))
    built = models.build("cnn/tiny", input_shape=x.shape[1:], n_classes=4, head=head)
    print(keras.backend.backend(), *[weight.path for weight in built.weights])
"""


def test_saved_heads_answer_alike_on_both_backends_and_in_tflite(tmp_path):
    need("tensorflow")
    x, names = decibels(4), ("sed", "cosine")
    np.save(tmp_path / "x.npy", x.numpy())
    expected, paths = {}, []
    for head in names:
        model = with_fitting_statistics(build(head))
        model.save(tmp_path / f"{head}.keras")
        with torch.no_grad():
            expected[head] = model(x).numpy()
            loaded = keras.models.load_model(tmp_path / f"{head}.keras")
            np.testing.assert_array_equal(loaded(x).numpy(), expected[head])
            alone = np.concatenate([model(x[i : i + 1]).numpy() for i in range(4)])
        assert np.abs(alone - expected[head]).max() <= tolerances.BATCH_NEIGHBORS * np.abs(expected[head]).max()
        paths.append([weight.path for weight in model.weights])
    run = preloaded.run_python(["-c", TENSORFLOW, tmp_path, *names])
    assert run.returncode == 0, run.stderr
    assert [line.split()[1:] for line in run.stdout.splitlines() if line.startswith("tensorflow")] == paths
    for head in names:
        for way in ("keras", "tflite"):
            error = np.abs(np.load(tmp_path / f"{head}_{way}.npy") - expected[head]).max()
            assert error <= tolerances.BACKENDS * np.abs(expected[head]).max(), (head, way)
