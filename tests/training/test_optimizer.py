"""Optimizers, accumulated gradients, averages and unfreezing of the loop against plain torch."""

import copy

import numpy as np
import pytest
import tolerances
import torch

from birdnet_fs.runs.run import model_weights
from birdnet_fs.schema import Finetuning, Optimizer, Schedule, Training
from birdnet_fs.training import finetuning
from birdnet_fs.training.loop import run_epochs
from birdnet_fs.training.optimizer import arithmetic_type

RNG = np.random.default_rng(0)
X = RNG.normal(size=(56, 6)).astype(np.float32)
Y = np.eye(3, dtype=np.float32)[(X @ RNG.normal(size=(6, 3))).argmax(1)]
SIZE = 8


class FixedBatches:
    clips = ()

    def __len__(self) -> int:
        return len(X) // SIZE

    def epoch(self, epoch: int, first: int = 0):
        for start in range(0, len(X), SIZE):
            part = slice(start, start + SIZE)
            yield torch.from_numpy(X[part]), torch.from_numpy(Y[part]), torch.arange(SIZE)


def network():
    import keras

    keras.utils.set_random_seed(0)
    inputs = keras.Input((6,))
    x = keras.layers.Dense(5, activation="tanh", name="hidden_dense")(inputs)
    return keras.Model(inputs, keras.layers.Dense(3, name="logits")(x))


def twin(model) -> torch.nn.Module:
    hidden, logits = torch.nn.Linear(6, 5), torch.nn.Linear(5, 3)
    with torch.no_grad():
        for layer, name in ((hidden, "hidden_dense"), (logits, "logits")):
            kernel, bias = model.get_layer(name).weights
            layer.weight.copy_(kernel.value.T)
            layer.bias.copy_(bias.value)
    return torch.nn.Sequential(hidden, torch.nn.Tanh(), logits)


def trained(net: torch.nn.Module, optimizer, *, epochs: int, accumulate: int = 1, after_epoch=None) -> None:
    loss_of = torch.nn.CrossEntropyLoss(reduction="sum")
    for epoch in range(epochs):
        parts = [slice(i, i + SIZE * accumulate) for i in range(0, len(X), SIZE * accumulate)]
        for part in parts:
            optimizer.zero_grad()
            loss = loss_of(net(torch.from_numpy(X[part])), torch.from_numpy(Y[part])) / len(X[part])
            loss.backward()
            torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
            optimizer.step()
        if after_epoch:
            after_epoch(epoch, net)


def same(weights: dict[str, np.ndarray], net: torch.nn.Module) -> None:
    for name, parameter in (("hidden_dense/kernel", net[0].weight), ("logits/bias", net[2].bias)):
        expected = parameter.detach().numpy()
        np.testing.assert_allclose(weights[name], expected.T, atol=tolerances.LOOP_WEIGHTS)


PLAIN = {"epochs": 4, "learning_rate": 0.03, "schedule": Schedule("constant", warmup_epochs=0)}


@pytest.mark.parametrize(
    ("settings", "make"),
    [
        ({}, lambda p: torch.optim.AdamW(p, lr=0.03, weight_decay=0)),
        ({"name": "adam", "beta1": 0.5}, lambda p: torch.optim.Adam(p, lr=0.03, betas=(0.5, 0.999))),
        (
            {"name": "adam", "amsgrad": True, "beta2": 0.9},
            lambda p: torch.optim.Adam(p, lr=0.03, betas=(0.9, 0.9), amsgrad=True),
        ),
        ({"name": "sgd"}, lambda p: torch.optim.SGD(p, lr=0.03, momentum=0.9, nesterov=True)),
        ({"name": "sgd", "beta1": 0.0}, lambda p: torch.optim.SGD(p, lr=0.03)),
        ({"name": "rmsprop", "beta2": 0.9}, lambda p: torch.optim.RMSprop(p, lr=0.03, alpha=0.9)),
    ],
)
def test_optimizers_equal_those_of_torch(settings: dict, make) -> None:
    model = network()
    net = twin(model)
    fitted = run_epochs(model, FixedBatches(), Training(**PLAIN, optimizer=Optimizer(weight_decay=0.0, **settings)))
    trained(net, make(net.parameters()), epochs=4)
    same(fitted.weights, net)


@pytest.mark.parametrize("accumulate", [2, 3, 7, 20])
def test_gradients_of_several_batches_are_those_of_one_large_batch(accumulate: int) -> None:
    """Seven batches an epoch: the last step has fewer where they do not divide."""
    model = network()
    net = twin(model)
    fitted = run_epochs(
        model, FixedBatches(), Training(**PLAIN, optimizer=Optimizer("sgd", weight_decay=0.0, accumulate=accumulate))
    )
    trained(
        net, torch.optim.SGD(net.parameters(), lr=0.03, momentum=0.9, nesterov=True), epochs=4, accumulate=accumulate
    )
    same(fitted.weights, net)


def test_the_mean_of_the_last_epochs_is_torchs() -> None:
    model = network()
    net = twin(model)
    fitted = run_epochs(model, FixedBatches(), Training(**PLAIN, optimizer=Optimizer(weight_decay=0.0, swa_epochs=3)))
    average = torch.optim.swa_utils.AveragedModel(net)

    def after_epoch(epoch: int, now: torch.nn.Module) -> None:
        if epoch >= 1:
            average.update_parameters(now)

    trained(net, torch.optim.AdamW(net.parameters(), lr=0.03, weight_decay=0), epochs=4, after_epoch=after_epoch)
    same(fitted.weights, average.module)
    same(model_weights(model), net)  # the model keeps its own


def test_the_mean_weights_get_statistics_of_their_own() -> None:
    import keras

    keras.utils.set_random_seed(1)
    inputs = keras.Input((6,))
    x = keras.layers.BatchNormalization(name="bn", momentum=0.9)(keras.layers.Dense(5, name="a_dense")(inputs))
    model = keras.Model(inputs, keras.layers.Dense(3, name="logits")(x))
    kept = run_epochs(
        model,
        FixedBatches(),
        Training(**{**PLAIN, "epochs": 2, "learning_rate": 0.3}, optimizer=Optimizer(weight_decay=0.0, swa_epochs=2)),
    ).weights
    hidden = X @ kept["a_dense/kernel"] + kept["a_dense/bias"]
    of_batches = hidden.reshape(-1, SIZE, 5)
    # the running mean over 7 batches that come 8 times is a weighted mean of theirs, near the plain one
    spread = np.abs(of_batches.mean(1) - hidden.mean(0)).max()
    assert np.abs(kept["bn/moving_mean"] - hidden.mean(0)).max() < 0.3 * spread
    variance = of_batches.var(1).mean(0)
    assert np.abs(kept["bn/moving_variance"] / variance - 1).max() < 0.3


def test_frozen_blocks_learn_after_the_epoch_that_says_so() -> None:
    start = model_weights(network())
    seen = []

    def after_epoch(rows, weights) -> None:
        seen.append(copy.deepcopy(weights))

    settings = Training(
        **PLAIN, optimizer=Optimizer(weight_decay=0.0), finetuning=Finetuning(freeze_blocks=1, unfreeze_epoch=2)
    )
    run_epochs(network(), FixedBatches(), settings, after_epoch=after_epoch)
    moved = [bool((w["hidden_dense/kernel"] != start["hidden_dense/kernel"]).any()) for w in seen]
    assert moved == [False, False, True, True]
    only_head = run_epochs(
        network(),
        FixedBatches(),
        Training(
            **{**PLAIN, "epochs": 2}, optimizer=Optimizer(weight_decay=0.0), finetuning=Finetuning(freeze_blocks=1)
        ),
    ).weights
    np.testing.assert_array_equal(seen[1]["logits/kernel"], only_head["logits/kernel"])
    model = network()
    finetuning.freeze_blocks(model, 1)
    finetuning.unfreeze(model)
    assert len(model.trainable_variables) == 4


@pytest.mark.parametrize(
    ("capability", "expected"),
    [((6, 0), torch.float16), ((7, 0), torch.float16), ((7, 5), torch.float16), ((8, 0), torch.bfloat16),
     ((8, 9), torch.bfloat16), ((12, 0), torch.bfloat16)],
)  # fmt: skip
def test_auto_precision_is_what_the_gpu_computes_in(capability, expected, monkeypatch) -> None:
    """P100, V100, T4, A100, L4, B200; torch.cuda.is_bf16_supported() is true for all of them."""
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda *_: True)
    gpu = torch.device("cuda", 0)
    assert arithmetic_type("auto", gpu) == expected
    assert arithmetic_type("auto", torch.device("cpu")) == torch.float32
    for name in ("float32", "bfloat16", "float16"):
        assert arithmetic_type(name, gpu) == arithmetic_type(name, torch.device("cpu")) == getattr(torch, name)
