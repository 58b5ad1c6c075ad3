"""State of a training: one step against plain torch, accumulation, and averages swapped in and out."""

import keras
import numpy as np
import pytest
import tolerances
import torch
from fixed_batches import FixedBatches, network

from birdnet_fs.core.errors import UserError
from birdnet_fs.models.lowering.recompute import Recomputed
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


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_gradient_checkpointing_trains_the_same_weights_to_the_last_bit(precision: str) -> None:
    """With dropout, BatchNorm, accumulated gradients and an average of the weights."""
    found = []
    for again in (False, True):
        torch.manual_seed(0)
        model = network(dropout=0.5)
        settings = Training(
            epochs=2,
            precision=precision,
            gradient_checkpointing=again,
            optimizer=Optimizer(accumulate=2, ema=0.9),
        )
        state = TrainingState(
            model, FixedBatches(8), settings, supervised_objective(model, settings, multi_label=False)
        )
        assert isinstance(state.forward, Recomputed) is again
        for step, epoch, batch in state.steps():
            state.step(step, batch)
            state.n_steps = step + 1
            if state.n_steps % len(state.batches) == 0:
                state.finish_epoch(epoch)
        found.append({**model_weights(model), "average": state.averaged_weights()["conv/kernel"]})
    np.testing.assert_equal(*found)


def test_gradient_checkpointing_is_refused_for_a_network_that_is_not_lowered() -> None:
    inputs = keras.Input((12, 12, 1))
    x = keras.layers.Flatten()(keras.layers.Masking()(inputs))
    model = keras.Model(inputs, keras.layers.Dense(2, name="logits")(x))
    settings = Training(gradient_checkpointing=True)
    with pytest.raises(UserError, match=r"runs as a whole in Keras \(layer .* creates a mask\); set training.gradient"):
        TrainingState(model, FixedBatches(), settings, supervised_objective(model, settings, multi_label=False))
