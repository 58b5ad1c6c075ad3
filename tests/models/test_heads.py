"""The heads: attention over time against PANNs' module, cosines against torch's, and what every head must do."""

import os
import re
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
import tolerances
import torch
import torch.nn.functional as F
from installed import need
from torch import nn

from birdnet_fs import models
from birdnet_fs.core.errors import UserError
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


def settled(model: keras.Model) -> keras.Model:
    """Moving statistics that fit the features."""
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.momentum = 0.0
    with torch.no_grad():
        model(decibels(16), training=True)
    return model


# ---------------------------------------------------------------- sed


class DecisionLevelAttention(nn.Module):
    """What follows the convolutions in PANNs' Cnn14_DecisionLevelAtt, on [batch, width, n_steps]."""

    def __init__(self, width: int, n_classes: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, width)
        self.att = nn.Conv1d(width, n_classes, kernel_size=1)
        self.cla = nn.Conv1d(width, n_classes, kernel_size=1)

    def forward(self, x):
        x = F.max_pool1d(x, kernel_size=3, stride=1, padding=1) + F.avg_pool1d(x, kernel_size=3, stride=1, padding=1)
        x = F.relu(self.fc1(x.transpose(1, 2))).transpose(1, 2)
        attention, frame_logits = self.att(x), self.cla(x)
        weights = torch.softmax(torch.clamp(attention, -10, 10), dim=-1)
        return attention, weights, frame_logits


def sed_and_its_twin(n_steps: int) -> tuple[keras.Model, DecisionLevelAttention]:
    torch.manual_seed(n_steps)
    twin = DecisionLevelAttention(6, N_CLASSES)
    with torch.no_grad():
        twin.att.weight.mul_(60)  # beyond the clamp
    frames = keras.Input((n_steps, 6))
    model = keras.Model(frames, heads.sed(heads.Backbone(frames, frames), N_CLASSES, 0.5))
    for layer, module in (("hidden", twin.fc1), ("attention", twin.att), ("logits", twin.cla)):
        weight = module.weight.detach().numpy().reshape(module.weight.shape[:2])
        model.get_layer(f"frame_{layer}").set_weights([weight.T, module.bias.detach().numpy()])
    return model, twin


@pytest.mark.parametrize("n_steps", [1, 2, 9])
def test_sed_is_the_published_attention(n_steps):
    model, twin = sed_and_its_twin(n_steps)
    x = torch.randn(8, n_steps, 6)
    with torch.no_grad():
        logits, frame_logits = models.with_outputs(model, ["logits", "frame_logits"])(x)
        attention, weights, expected = twin(x.transpose(1, 2))
    assert bool((attention.abs() > 10).any()) and bool((attention.abs() < 10).any())
    torch.testing.assert_close(frame_logits, expected.transpose(1, 2), atol=tolerances.PYTORCH_TWIN, rtol=0)
    torch.testing.assert_close(logits, (weights * expected).sum(2), atol=tolerances.PYTORCH_TWIN, rtol=0)


def test_sed_gives_the_published_probability_where_the_steps_agree():
    model, twin = sed_and_its_twin(5)
    with torch.no_grad():
        twin.fc1.weight.zero_()  # every step is the same
        model.get_layer("frame_hidden").kernel.assign(np.zeros((6, 6)))
        x = torch.randn(3, 5, 6)
        _, weights, frame_logits = twin(x.transpose(1, 2))
        published = (weights * frame_logits.sigmoid()).sum(2)
        torch.testing.assert_close(model(x).sigmoid(), published, atol=tolerances.PYTORCH_TWIN, rtol=0)


def test_a_call_in_one_step_decides_when_attention_finds_it():
    pool = heads.AttentionPooling()
    values = torch.full((1, 30, 1), -5.0)
    values[0, 7] = 5.0
    attention = torch.zeros(1, 30, 1)
    attention[0, 7] = 100.0
    # the clamp: e^10 against 29 steps of e^0
    share = np.exp(10) / (np.exp(10) + 29)
    assert float(pool([attention, values])) == pytest.approx(5 * share - 5 * (1 - share), abs=tolerances.PYTORCH_TWIN)
    assert float(pool([0 * attention, values])) == pytest.approx(-5 + 10 / 30, abs=tolerances.PYTORCH_TWIN)


# ---------------------------------------------------------------- cosine


def test_cosine_is_torchs_normalized_linear_layer():
    x, weight = torch.randn(5, 12) * 7, torch.randn(3, 12)
    inputs = keras.Input((12,))
    model = keras.Model(inputs, heads.cosine(heads.Backbone(inputs, inputs), 3, 0.2, scale=30.0))
    model.get_layer("logits").kernel.assign(weight.T)
    with torch.no_grad():
        expected = 30 * F.linear(F.normalize(x), F.normalize(weight))
        torch.testing.assert_close(model(x), expected, atol=tolerances.PYTORCH_TWIN, rtol=0)
        torch.testing.assert_close(model(1000 * x), expected, atol=tolerances.PYTORCH_TWIN, rtol=0)
    assert [w.path.partition("/")[2] for w in model.weights if "seed" not in w.path] == ["kernel"]


def test_cosine_takes_silence_and_float16():
    layer = heads.CosineLogits(3, 30.0)
    layer.build((None, 8))
    silence = torch.zeros(2, 8, requires_grad=True)
    logits = layer.call(silence)
    logits.sum().backward()
    assert bool((logits == 0).all()) and bool(torch.isfinite(silence.grad).all())
    loud = torch.full((1, 8), 500.0, dtype=torch.float16)  # its square is beyond float16
    torch.testing.assert_close(layer.call(loud), layer.call(loud.float()))


# ---------------------------------------------------------------- every head


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


def test_a_wrong_head_or_layer_is_told():
    with pytest.raises(UserError, match=r"head must be one of linear, sed, cosine.*Did you mean 'cosine'.*'cosin'"):
        build("cosin")
    model = build("linear")
    with pytest.raises(UserError, match=r"cnn_tiny has no layer of this name\. Build it with head='sed'"):
        models.with_outputs(model, ["frame_logits"])
    with pytest.raises(UserError, match="Did you mean 'embedding'"):
        models.with_outputs(model, ["embeding"])


def test_the_scale_is_read_back():
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

    def epoch(self, epoch: int):
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
from birdnet_fs.export.tflite.convert import convert
from birdnet_fs.models import heads  # registers the layers
folder, names = Path(sys.argv[1]), sys.argv[2:]
x = np.load(folder / "x.npy")
for head in names:
    model = keras.models.load_model(folder / f"{head}.keras")
    np.save(folder / f"{head}_keras.npy", model.predict(x, verbose=0))
    convert(model, (1, *x.shape[1:]), "features", folder / f"{head}.tflite")
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
        model = settled(build(head))
        model.save(tmp_path / f"{head}.keras")
        with torch.no_grad():
            expected[head] = model(x).numpy()
            loaded = keras.models.load_model(tmp_path / f"{head}.keras")
            np.testing.assert_array_equal(loaded(x).numpy(), expected[head])
            alone = np.concatenate([model(x[i : i + 1]).numpy() for i in range(4)])
        assert np.abs(alone - expected[head]).max() <= tolerances.BATCH_NEIGHBORS * np.abs(expected[head]).max()
        paths.append([weight.path for weight in model.weights])
    environment = {**os.environ, "KERAS_BACKEND": "tensorflow", "TF_CPP_MIN_LOG_LEVEL": "3"}
    command = [sys.executable, "-c", TENSORFLOW, str(tmp_path), *names]
    run = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert [line.split()[1:] for line in run.stdout.splitlines() if line.startswith("tensorflow")] == paths
    for head in names:
        for way in ("keras", "tflite"):
            error = np.abs(np.load(tmp_path / f"{head}_{way}.npy") - expected[head]).max()
            assert error <= tolerances.BACKENDS * np.abs(expected[head]).max(), (head, way)
