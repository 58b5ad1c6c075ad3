"""State of a training: one step against plain torch, accumulation, and averages swapped in and out."""

import keras
import numpy as np
import pytest
import tolerances
import torch

from birdnet_fs.runs.run import model_weights
from birdnet_fs.schema import Optimizer, Schedule, Training
from birdnet_fs.training.objective import supervised_objective
from birdnet_fs.training.training_state import TrainingState

RNG = np.random.default_rng(0)
X, Y = RNG.normal(size=(8, 5)).astype(np.float32), np.eye(2, dtype=np.float32)[[0, 1] * 4]


class TwoBatches:
    clips = ()

    def __len__(self) -> int:
        return 2

    def epoch(self, epoch: int, first: int = 0):
        for half in (slice(0, 4), slice(4, 8)):
            yield torch.from_numpy(X[half]), torch.from_numpy(Y[half]), torch.arange(4)


def state_of(**optimizer) -> TrainingState:
    keras.utils.set_random_seed(0)
    inputs = keras.Input((5,))
    model = keras.Model(inputs, keras.layers.Dense(2, name="logits")(inputs))
    settings = Training(
        epochs=1,
        learning_rate=0.1,
        optimizer=Optimizer("sgd", beta1=0.0, weight_decay=0.0, clip_norm=0.0, **optimizer),
        schedule=Schedule("constant", warmup_epochs=0),
    )
    return TrainingState(model, TwoBatches(), settings, supervised_objective(model, settings, multi_label=False))


def run(state: TrainingState) -> list[float]:
    return [state.step(step, batch) for step, _, batch in state.steps()]


def test_step_is_that_of_plain_torch() -> None:
    state = state_of()
    w, b = (torch.tensor(value, requires_grad=True) for value in model_weights(state.model).values())
    losses = run(state)
    for i, (x, y, _) in enumerate(TwoBatches().epoch(0)):
        loss = torch.nn.functional.cross_entropy(x @ w + b, y)
        gradients = torch.autograd.grad(loss, (w, b))
        assert losses[i] == pytest.approx(loss.item(), rel=tolerances.LOSS)
        with torch.no_grad():
            w -= 0.1 * gradients[0]
            b -= 0.1 * gradients[1]
    for found, expected in zip(model_weights(state.model).values(), (w, b), strict=True):
        np.testing.assert_allclose(found, expected.detach(), atol=tolerances.LOOP_WEIGHTS)


def test_accumulated_batches_are_one_update() -> None:
    state = state_of(accumulate=2)
    before = model_weights(state.model)
    steps = state.steps()
    step, _, batch = next(steps)
    state.step(step, batch)
    np.testing.assert_array_equal(model_weights(state.model)["logits/kernel"], before["logits/kernel"])
    step, _, batch = next(steps)
    state.step(step, batch)
    assert (model_weights(state.model)["logits/kernel"] != before["logits/kernel"]).any()


def test_averaged_holds_the_average_and_gives_the_weights_back() -> None:
    state = state_of(ema=0.5)
    run(state)
    own = model_weights(state.model)
    with state.averaged():
        inside = model_weights(state.model)
    np.testing.assert_array_equal(model_weights(state.model)["logits/kernel"], own["logits/kernel"])
    np.testing.assert_array_equal(state.averaged_weights()["logits/kernel"], inside["logits/kernel"])
    assert (inside["logits/kernel"] != own["logits/kernel"]).any()


def test_pop_metrics_are_means_since_the_last_call() -> None:
    state = state_of()
    state.losses = run(state)
    mean = np.mean(state.losses)
    found = state.pop_metrics()
    assert found["train_loss"] == pytest.approx(mean) and 0 <= found["train_acc"] <= 1
    assert state.losses == []
