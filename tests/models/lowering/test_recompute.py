"""Gradient checkpointing against the same network without it: gradients, state and memory."""

import contextlib

import keras
import pytest
import torch
from keras import layers
from peak_memory import peak_bytes
from reduced import code_paths, reduced, shape_of

from birdnet_fs import models
from birdnet_fs.models.lowering import recompute
from birdnet_fs.models.lowering.lower import lower
from birdnet_fs.models.lowering.recompute import Recomputed

SAMPLE = ("cnn/small", "resnet/18", "vit/tiny", "panns/cnn14", "prototypical/v2", "rnn/lstm")
PATHS = [n if n in SAMPLE else pytest.param(n, marks=pytest.mark.slow) for n in code_paths()]


@keras.saving.register_keras_serializable("tests")
class OwnDraws(layers.Layer):
    """A layer without a lowering rule that draws from a generator of Keras and keeps a moving mean."""

    def __init__(self, **settings):
        super().__init__(**settings)
        self.draws = keras.random.SeedGenerator(3)

    def build(self, input_shape):
        self.moving_mean = self.add_weight(
            shape=(input_shape[-1],), initializer="zeros", trainable=False, name="moving_mean"
        )

    def call(self, x, training=False):
        if not training:
            return x
        mean = keras.ops.mean(x, axis=(0, 1, 2))
        self.moving_mean.assign(0.5 * self.moving_mean + 0.5 * mean)
        return keras.random.dropout(x, 0.5, seed=self.draws) + self.moving_mean


def build(name: str) -> keras.Model:
    with reduced(name):
        return models.build(name, input_shape=shape_of(name, (48, 40, 1)), n_classes=5, dropout=0.4)


def blocks(extra: type[layers.Layer] | None = None) -> keras.Model:
    """Six convolutions, each with BatchNorm and dropout."""
    inputs = x = keras.Input((16, 16, 4))
    for i in range(6):
        x = layers.Conv2D(4, 3, padding="same", name=f"conv{i}")(x)
        x = layers.BatchNormalization(name=f"bn{i}")(x)
        x = layers.ReLU(name=f"relu{i}")(x)
        x = layers.Dropout(0.3, name=f"dropout{i}")(x)
        if extra is not None:
            x = extra(name=f"extra{i}")(x)
    return keras.Model(inputs, layers.Dense(3)(layers.GlobalAveragePooling2D()(x)))


def two_steps(model: keras.Model, forward, *, dtype: torch.dtype = torch.float32) -> list[torch.Tensor]:
    """Outputs, gradients and state of two steps from the same start, whose weights are then restored."""
    start = [v.value.detach().clone() for v in model.variables]
    torch.manual_seed(1)
    found = []
    for x in torch.randn(2, 3, *model.input_shape[1:]):
        for variable in model.trainable_variables:
            variable.value.grad = None
        with torch.autocast("cpu", dtype, enabled=dtype != torch.float32):
            output = forward(x, training=True)
        output.float().square().sum().backward()
        gradients = [v.value.grad for v in model.trainable_variables]
        found += [output.detach(), *(g.clone() for g in gradients if g is not None)]
        found += [v.value.detach().clone() for v in model.non_trainable_variables]
    found.append(torch.rand(1))  # the generator is where it was
    with torch.no_grad():
        for variable, value in zip(model.variables, start, strict=True):
            variable.value.copy_(value)
    return found


def same(one: list[torch.Tensor], other: list[torch.Tensor]) -> bool:
    return len(one) == len(other) and all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


@pytest.mark.parametrize("name", PATHS)
def test_gradients_and_state_are_the_same_to_the_last_bit(name: str) -> None:
    model = build(name)
    plain = lower(model)
    recomputed = Recomputed(plain)
    assert len(recomputed.parts) > 1
    assert [step for part in recomputed.parts for step in part.steps] == plain._steps
    assert same(two_steps(model, plain), two_steps(model, recomputed))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_keras_generators_and_moving_means_of_any_layer_move_once(dtype: torch.dtype) -> None:
    model = blocks(OwnDraws)
    plain = lower(model)
    expected = two_steps(model, plain, dtype=dtype)
    assert plain.slow_layers and same(expected, two_steps(model, Recomputed(plain), dtype=dtype))


def test_without_restored_state_statistics_and_draws_would_move_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    """The test above finds what torch.utils.checkpoint alone does to a network of Keras."""
    model = blocks(OwnDraws)
    expected = two_steps(model, lower(model))
    monkeypatch.setattr(recompute, "_with_state", lambda *given: contextlib.nullcontext())
    assert not same(expected, two_steps(model, Recomputed(lower(model))))


def test_frozen_and_accumulated_gradients_are_the_same() -> None:
    model = blocks()
    for name in ("conv1", "bn1", "bn4"):
        model.get_layer(name).trainable = False
    assert same(two_steps(model, lower(model)), two_steps(model, Recomputed(lower(model))))
    both = []
    for forward in (lower(model), Recomputed(lower(model))):
        torch.manual_seed(2)
        for variable in model.trainable_variables:
            variable.value.grad = None
        for x in torch.randn(3, 2, 16, 16, 4):
            forward(x, training=True).square().sum().backward()
        both.append([v.value.grad.clone() for v in model.trainable_variables])
    assert same(*both)


def test_activations_take_less_memory() -> None:
    """Twelve blocks of equal maps: less than half of the memory."""
    inputs = x = keras.Input((64, 64, 8))
    for _ in range(12):
        x = layers.ReLU()(layers.BatchNormalization()(layers.Conv2D(8, 3, padding="same")(x)))
    model = keras.Model(inputs, layers.GlobalAveragePooling2D()(x))
    features = torch.randn(4, 64, 64, 8)
    plain = lower(model)
    peaks = []
    for forward in (plain, Recomputed(plain)):
        forward(features, training=True).sum().backward()  # gradients exist afterwards
        peaks.append(peak_bytes(lambda forward=forward: forward(features, training=True).sum().backward()))
    assert peaks[1] < 0.5 * peaks[0], peaks


def test_inference_keeps_nothing_and_is_the_same() -> None:
    model = blocks()
    plain = lower(model)
    x = torch.randn(2, 16, 16, 4)
    assert torch.equal(plain(x), Recomputed(plain)(x))
    with torch.no_grad():
        torch.manual_seed(0)
        expected = plain(x, training=True)
        torch.manual_seed(0)
        assert torch.equal(expected, Recomputed(plain)(x, training=True))


def test_a_network_with_two_outputs_hands_both_on() -> None:
    inputs = keras.Input((8, 8, 2))
    early = layers.Conv2D(4, 3, padding="same", activation="relu")(inputs)
    x = early
    for _ in range(4):
        x = layers.Conv2D(4, 3, padding="same", activation="relu")(x)
    model = keras.Model(inputs, [layers.GlobalAveragePooling2D()(early), layers.GlobalMaxPooling2D()(x)])
    features, both = torch.randn(2, 8, 8, 2), []
    for forward in (lower(model), Recomputed(lower(model))):
        for variable in model.trainable_variables:
            variable.value.grad = None
        one, other = forward(features, training=True)
        (one.square().sum() + other.sum()).backward()
        both.append([v.value.grad.clone() for v in model.trainable_variables])
    assert same(*both)


def test_a_network_that_was_not_lowered_is_refused() -> None:
    a, b = keras.Input((3,)), keras.Input((3,))
    with pytest.raises(ValueError, match="has 2 inputs"):
        Recomputed(lower(keras.Model([a, b], layers.Add()([a, b]))))
