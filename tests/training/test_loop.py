"""The training loop against plain Keras and plain torch, on batches that need no audio."""

import math

import keras
import numpy as np
import pytest
import torch
from fixed_batches import LABEL, FixedBatches, X, Y, network

from birdnet_fs.core.errors import UserError
from birdnet_fs.runs.run import model_weights
from birdnet_fs.schema import Checkpoints, Optimizer, Schedule, Training
from birdnet_fs.training.loop import DivergedError, Interrupted, TrainingEndedError, device_of, pop_gpu_peak, run_epochs
from birdnet_fs.training.objective import Objective


def test_loss_falls_and_every_epoch_has_a_row() -> None:
    model = network()
    fitted = run_epochs(model, FixedBatches(), Training(epochs=40, learning_rate=0.02), multi_label=False)
    assert [row["epoch"] for row in fitted.history] == list(range(1, 41))
    assert fitted.history[-1]["train_loss"] < 0.5 * fitted.history[0]["train_loss"]
    assert (model.predict(X, verbose=0).argmax(1) == LABEL).mean() > 0.9


def test_weights_equal_those_of_keras_with_torch_adamw() -> None:
    import tolerances

    settings = Training(
        epochs=2,
        learning_rate=0.01,
        optimizer=Optimizer(weight_decay=0.05, clip_norm=0.5),
        schedule=Schedule(warmup_epochs=0),
    )
    ours, plain = network(), network()
    run_epochs(ours, FixedBatches(), settings, multi_label=True)
    decayed = [v.value for v in plain.trainable_variables if v.value.ndim > 1]
    others = [v.value for v in plain.trainable_variables if v.value.ndim <= 1]
    optimizer = torch.optim.AdamW(
        [{"params": decayed}, {"params": others, "weight_decay": 0.0}], lr=0.01, weight_decay=0.05
    )
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=6)
    for epoch in range(2):
        for x, y, _ in FixedBatches().epoch(epoch):
            loss = torch.nn.functional.binary_cross_entropy_with_logits(plain(x, training=True), y)
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(decayed + others, 0.5)
            optimizer.step()
            scheduler.step()
    for name, value in model_weights(ours).items():
        np.testing.assert_allclose(value, model_weights(plain)[name], atol=tolerances.LOOP_WEIGHTS, err_msg=name)


def test_keras_fit_trains_the_same_network() -> None:
    model = network()
    model.compile("adam", keras.losses.CategoricalCrossentropy(from_logits=True))
    history = model.fit(X, Y, epochs=30, batch_size=16, verbose=0).history
    assert history["loss"][-1] < history["loss"][0]


def test_select_best_keeps_weights_of_best_epoch() -> None:
    scores = iter([0.6, 0.9, 0.7])
    seen = []
    model = network()

    def validate() -> dict[str, float]:
        seen.append(model_weights(model))
        return {"val_macro_auroc": next(scores)}

    fitted = run_epochs(
        model,
        FixedBatches(),
        Training(epochs=3, checkpoints=Checkpoints(select="best")),
        multi_label=False,
        validate=validate,
    )
    for name, value in fitted.weights.items():
        np.testing.assert_array_equal(value, seen[1][name])
    last = run_epochs(network(), FixedBatches(), Training(epochs=3), multi_label=False)
    assert any((last.weights[name] != value).any() for name, value in fitted.weights.items())


@pytest.mark.parametrize(("select", "kept_epoch"), [("best", 2), ("last", 4)])
def test_training_stops_without_improvement(select: str, kept_epoch: int) -> None:
    scores, seen = iter([0.6, math.nan, 0.7, 0.7, 0.65, 0.9]), []
    model = network()

    def validate() -> dict[str, float]:
        seen.append(model_weights(model))
        return {"val_macro_auroc": next(scores)}

    settings = Training(epochs=6, checkpoints=Checkpoints(select=select, patience=2))
    fitted = run_epochs(model, FixedBatches(), settings, validate=validate)
    assert len(fitted.history) == len(seen) == 5
    for name, value in fitted.weights.items():
        np.testing.assert_array_equal(value, seen[kept_epoch][name])


@pytest.mark.parametrize(
    ("schedule", "checkpoints"),
    [
        (Schedule("constant", warmup_epochs=0), Checkpoints(patience=2)),
        (Schedule("plateau", warmup_epochs=0, plateau_patience=0), Checkpoints()),
    ],
)
def test_undefined_validation_metric_neither_stops_training_nor_lowers_rate(schedule, checkpoints) -> None:
    settings = Training(epochs=5, schedule=schedule, checkpoints=checkpoints)
    scores = iter([math.nan, 0.6, math.nan, math.nan, math.nan])
    fitted = run_epochs(network(), FixedBatches(), settings, validate=lambda: {"val_macro_auroc": next(scores)})
    assert [row["learning_rate"] for row in fitted.history] == [settings.learning_rate] * 5


def test_undefined_validation_metric_is_said_once_with_the_reason(capsys: pytest.CaptureFixture[str]) -> None:
    checkpoints = Checkpoints(select="best", patience=1, n_best=1)
    settings = Training(epochs=3, schedule=Schedule("plateau"), checkpoints=checkpoints)
    fitted = run_epochs(
        network(),
        FixedBatches(),
        settings,
        validate=lambda: {"val_macro_auroc": math.nan},
        undefined_because="all 4 clips are owls",
    )
    said = [line for line in capsys.readouterr().err.splitlines() if "undefined" in line]
    assert len(said) == 1 and said[0].startswith("val_macro_auroc is undefined in epoch 1: all 4 clips are owls")
    for name in ("select=best", "patience", "n_best", "schedule=plateau", "the last epoch are kept"):
        assert name in said[0]
    assert len(fitted.history) == 3


def test_validation_that_is_not_finite_keeps_the_last_good_epoch() -> None:
    model, seen = network(), []

    def validate() -> dict[str, float]:
        seen.append(model_weights(model))
        if len(seen) == 2:
            raise FloatingPointError("A score of a validation clip")
        return {"val_macro_auroc": 0.5}

    with pytest.raises(DivergedError, match="A score of a validation clip became NaN or infinite in epoch 2") as caught:
        run_epochs(model, FixedBatches(), Training(epochs=3), validate=validate)
    assert len(caught.value.history) == 1
    for name, value in seen[0].items():
        np.testing.assert_array_equal(caught.value.weights[name], value)


def test_early_stopping_with_swa_averages_the_epochs_after_the_stop(capsys: pytest.CaptureFixture[str]) -> None:
    """Patience 2 ends after epoch 3 of 20; the weights are those of a training of 5 epochs that averages its last 2."""
    scores = iter([0.9, 0.8, 0.8, 0.95, 0.8])
    options = {"schedule": Schedule("constant", warmup_epochs=0), "optimizer": Optimizer(swa_epochs=2)}
    settings = Training(epochs=20, checkpoints=Checkpoints(patience=2), **options)
    fitted = run_epochs(network(), FixedBatches(), settings, validate=lambda: {"val_macro_auroc": next(scores)})
    assert "training stops after 2 more epochs, whose weights are averaged" in capsys.readouterr().err
    assert len(fitted.history) == 5
    expected = run_epochs(network(), FixedBatches(), Training(epochs=5, **options))
    for name, value in expected.weights.items():
        np.testing.assert_array_equal(fitted.weights[name], value, err_msg=name)


def test_custom_objective_uses_its_network_loss_and_monitor() -> None:
    """Half the squared mean of the pooled maps: nothing that the logits' weights have a part in."""
    model = network()
    before, scores = model_weights(model), iter([0.2, 0.9, 0.5])
    inner = keras.Model(model.input, model.get_layer("pool").output)
    objective = Objective(inner, lambda pooled, targets, smoothing: (pooled**2).mean() / 2, monitor="val_acc")
    settings = Training(
        epochs=3, learning_rate=0.05, optimizer=Optimizer(weight_decay=0.0), checkpoints=Checkpoints(select="best")
    )
    fitted = run_epochs(
        model,
        FixedBatches(),
        settings,
        objective=objective,
        validate=lambda: {"val_acc": next(scores), "val_macro_auroc": 0.0},
    )
    assert fitted.history[-1]["train_loss"] < fitted.history[0]["train_loss"]
    assert (fitted.weights["logits/kernel"] == before["logits/kernel"]).all()
    assert (fitted.weights["conv/kernel"] != before["conv/kernel"]).any()
    assert any((value != model_weights(model)[name]).any() for name, value in fitted.weights.items())  # the second's


def test_ema_lies_between_start_and_end_and_model_keeps_its_weights() -> None:
    plain = run_epochs(network(), FixedBatches(), Training(epochs=2, learning_rate=0.05), multi_label=False)
    model = network()
    start = model_weights(model)
    averaged = run_epochs(
        model, FixedBatches(), Training(epochs=2, learning_rate=0.05, optimizer=Optimizer(ema=0.9)), multi_label=False
    )
    np.testing.assert_array_equal(model_weights(model)["conv/kernel"], plain.weights["conv/kernel"])
    moved = np.abs(plain.weights["conv/kernel"] - start["conv/kernel"]).mean()
    assert 0 < np.abs(averaged.weights["conv/kernel"] - plain.weights["conv/kernel"]).mean() < moved


def test_nan_loss_stops_and_names_recordings_and_keeps_last_good_epoch() -> None:
    with pytest.raises(
        DivergedError, match=r"The loss became NaN or infinite in epoch 2.*rec0\.wav.*and 8 more"
    ) as caught:
        run_epochs(network(), FixedBatches(spoil=1), Training(epochs=3), multi_label=False)
    assert len(caught.value.history) == 1
    model, kept = network(), []
    settings = Training(epochs=3, checkpoints=Checkpoints(select="best"))

    def validate() -> dict[str, float]:
        kept.append(model_weights(model))
        return {"val_macro_auroc": 0.5}

    run_epochs(model, FixedBatches(), settings, multi_label=False, validate=validate)
    for name, value in kept[0].items():
        np.testing.assert_array_equal(caught.value.weights[name], value)


def test_infinite_gradient_stops_before_the_step(monkeypatch: pytest.MonkeyPatch) -> None:
    """log(|x|) style losses are finite with an infinite gradient: the step would poison every weight."""
    from birdnet_fs.training import losses

    def infinite_slope(logits, targets, smoothing, weights):
        return torch.sqrt(torch.abs((logits - logits.detach()).sum()))  # 0, with slope infinity

    monkeypatch.setitem(losses.SINGLE, "ce", infinite_slope)
    model = network()
    before = model_weights(model)
    with pytest.raises(DivergedError, match="The gradient became NaN or infinite in epoch 1") as caught:
        run_epochs(model, FixedBatches(), Training(epochs=2), multi_label=False)
    for name in before:
        np.testing.assert_array_equal(caught.value.weights[name], before[name])


def test_interrupt_returns_finished_epochs() -> None:
    class Stopping(FixedBatches):
        def epoch(self, epoch: int, first: int = 0):
            if epoch == 2:
                raise KeyboardInterrupt
            yield from super().epoch(epoch, first)

    with pytest.raises(Interrupted) as caught:
        run_epochs(network(), Stopping(), Training(epochs=5), multi_label=False)
    assert [row["epoch"] for row in caught.value.history] == [1, 2]
    assert all(np.isfinite(value).all() for value in caught.value.weights.values())


def test_interrupt_during_swa_statistics_returns_averaged_weights() -> None:
    class Stopping(FixedBatches):
        def epoch(self, epoch: int, first: int = 0):
            if epoch == 3:  # after the last
                raise KeyboardInterrupt
            yield from super().epoch(epoch, first)

    settings = Training(epochs=3, optimizer=Optimizer(swa_epochs=2))
    with pytest.raises(Interrupted) as caught:
        run_epochs(network(), Stopping(), settings, multi_label=False)
    finished = run_epochs(network(), FixedBatches(), settings, multi_label=False)
    assert [row["epoch"] for row in caught.value.history] == [1, 2, 3]
    np.testing.assert_array_equal(caught.value.weights["conv/kernel"], finished.weights["conv/kernel"])
    assert (caught.value.weights["bn/moving_mean"] != finished.weights["bn/moving_mean"]).any()


def test_bfloat16_keeps_float32_weights() -> None:
    model = network()
    fitted = run_epochs(
        model, FixedBatches(), Training(epochs=20, learning_rate=0.02, precision="bfloat16"), multi_label=False
    )
    assert all(v.value.dtype == torch.float32 for v in model.weights if "seed" not in v.path)
    assert fitted.history[-1]["train_loss"] < fitted.history[0]["train_loss"]


@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU is here, so cuda is no error")
def test_missing_gpu_is_refused() -> None:
    assert device_of("auto") == "cpu"
    with pytest.raises(UserError, match=r"Use training\.device=cpu"):
        device_of("cuda")


def test_gpu_memory_of_an_epoch_is_that_since_the_epoch_before(monkeypatch: pytest.MonkeyPatch) -> None:
    """A stand-in for torch's counter, since tests run without a GPU."""
    peaks = {"cuda:1": 3_250_000_000}
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda device: peaks[str(device)])
    monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", lambda device: peaks.update({str(device): 7}))
    assert pop_gpu_peak(torch.device("cuda:1")) == {"gpu_peak_gb": 3.25}
    assert pop_gpu_peak(torch.device("cuda:1")) == {"gpu_peak_gb": 0.0}
    assert pop_gpu_peak(torch.device("cpu")) == {}


def test_gpu_memory_is_in_the_row_of_every_epoch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("birdnet_fs.training.loop.pop_gpu_peak", lambda device: {"gpu_peak_gb": 1.5})
    fitted = run_epochs(network(), FixedBatches(), Training(epochs=2), multi_label=False)
    assert [row["gpu_peak_gb"] for row in fitted.history] == [1.5, 1.5]


def test_full_gpu_memory_ends_with_the_settings_to_change_and_the_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    """A stand-in for a GPU that is full in the second epoch."""
    from birdnet_fs.training.training_state import TrainingState

    step = TrainingState.step

    def full(self, number, batch):
        if number == 4:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total")
        return step(self, number, batch)

    monkeypatch.setattr(TrainingState, "step", full)
    settings = Training(epochs=3, batch_size=16, precision="float32")
    with pytest.raises(TrainingEndedError) as caught:
        run_epochs(network(), FixedBatches(), settings, multi_label=False)
    assert str(caught.value) == (
        "A batch of 16 segments does not fit into the memory of the GPU; set training.gradient_checkpointing=true (the "
        "same command then goes on from its last state), or training.batch_size=8 with training.optimizer.accumulate=2"
        ", or training.precision=auto (CUDA out of memory)."
    )
    assert len(caught.value.history) == 1 and caught.value.n_batches == 4 and "conv/kernel" in caught.value.weights
