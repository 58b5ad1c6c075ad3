"""`fit` that was stopped goes on to the same weights, bit for bit; Keras' own callback does not."""

import os
import signal
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from killed import contents, leftovers

from birdnet_fs.core.errors import UserError
from birdnet_fs.training.fit.batches import ArrayBatches, KeyedBatches
from birdnet_fs.training.resume import keras_fit
from birdnet_fs.training.resume.keras_fit import ExactResume

RNG = np.random.default_rng(0)
X = RNG.normal(size=(22, 6)).astype(np.float32)
Y = RNG.integers(0, 2, (22, 1)).astype(np.float32)
EPOCHS, N_BATCHES = 5, 5
Weights = list[np.ndarray]


class Stop(keras.callbacks.Callback):
    """Sends a signal, or raises an error as a killed process would end, in one batch; and counts batches."""

    def __init__(self, at: int, number: int) -> None:
        super().__init__()
        self.at, self.number, self.n = at, number, 0

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        self.n += 1
        if self.n == self.at:
            if self.number:
                os.kill(os.getpid(), self.number)
            else:
                raise RuntimeError("killed")


def compiled() -> keras.Model:
    keras.utils.set_random_seed(3)
    inputs = keras.Input((6,))
    x = keras.layers.Dropout(0.5)(keras.layers.BatchNormalization()(keras.layers.Dense(8, activation="relu")(inputs)))
    model = keras.Model(inputs, keras.layers.Dense(1)(x))
    loss = keras.losses.BinaryCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(0.05), loss, metrics=["mae"])
    return model


def others() -> list[keras.callbacks.Callback]:
    return [
        keras.callbacks.EarlyStopping("loss", patience=3, restore_best_weights=True),
        keras.callbacks.ReduceLROnPlateau("mae", patience=0, factor=0.5),
    ]


def fitted(folder: Path, stop: Stop | None = None, every_s: float = 60.0) -> tuple[Weights, dict[str, list[float]]]:
    model, data = compiled(), KeyedBatches(ArrayBatches(X, Y, batch_size=5, seed=1))
    resume = ExactResume(folder, data, others(), every_s=every_s)
    callbacks = [stop, resume] if stop else [resume]
    history = model.fit(data, epochs=EPOCHS, callbacks=callbacks, verbose=0)
    return model.get_weights(), history.history


def assert_equal(found: tuple[Weights, dict[str, list[float]]], expected: tuple[Weights, Any]) -> None:
    for a, b in zip(found[0], expected[0], strict=True):
        np.testing.assert_array_equal(a, b)
    assert found[1] == expected[1]


def test_fit_stopped_by_a_signal_or_killed_ends_as_undisturbed(tmp_path: Path) -> None:
    """In the middle and at the end of an epoch; killed, the last batches since the state are done again."""
    expected = fitted(tmp_path / "whole")
    assert not (tmp_path / "whole").exists()
    for at in (1, 4, 5, 13):
        for number, error in ((signal.SIGTERM, KeyboardInterrupt), (0, RuntimeError)):
            folder = tmp_path / f"{at}-{number}"
            before = signal.getsignal(signal.SIGTERM)
            with pytest.raises(error):
                fitted(folder, Stop(at, number), every_s=0.0)
            signal.signal(signal.SIGTERM, before)
            keras.utils.set_random_seed(99)  # another process has another state
            assert_equal(fitted(folder), expected)


def test_backup_and_restore_of_keras_ends_with_other_weights(tmp_path: Path) -> None:
    """The same stop: an epoch is done again with other draws."""

    def run(name: str, stop: Stop | None) -> Weights:
        model = compiled()
        backup = keras.callbacks.BackupAndRestore(tmp_path / name, save_freq=1)
        model.fit(X, Y, batch_size=5, epochs=EPOCHS, callbacks=[backup, *([stop] if stop else [])], verbose=0)
        return model.get_weights()

    expected = run("whole", None)
    with pytest.raises(RuntimeError):
        run("stopped", Stop(13, 0))
    found = run("stopped", None)
    assert any((a != b).any() for a, b in zip(found, expected, strict=True))


def test_what_cannot_be_restored_is_refused_by_name(tmp_path: Path) -> None:
    data = KeyedBatches(ArrayBatches(X, Y, batch_size=5))
    with pytest.raises(UserError, match="state of the callback LambdaCallback cannot be restored"):
        ExactResume(tmp_path, data, [keras.callbacks.LambdaCallback()])
    model = compiled()
    with pytest.raises(UserError, match="steps_per_epoch cannot be restored"):
        model.fit(data, steps_per_epoch=2, callbacks=[ExactResume(tmp_path, data)], verbose=0)
    with pytest.raises(RuntimeError):
        fitted(tmp_path / "state", Stop(2, 0), every_s=0.0)
    other = KeyedBatches(ArrayBatches(X, Y, batch_size=11))
    with pytest.raises(UserError, match="holds the state of another training"):
        compiled().fit(other, callbacks=[ExactResume(tmp_path / "state", other)], verbose=0)


def test_full_disk_is_said_once_and_leaves_the_state_of_before(tmp_path: Path, monkeypatch, capsys) -> None:
    expected = fitted(tmp_path / "whole")
    with pytest.raises(RuntimeError):
        fitted(tmp_path / "state", Stop(6, 0), every_s=0.0)
    before = contents(tmp_path / "state")
    capsys.readouterr()

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(keras_fit, "write_json", full)
        with pytest.raises(RuntimeError):
            fitted(tmp_path / "state", Stop(9, 0), every_s=0.0)
        assert_equal(fitted(tmp_path / "other", every_s=0.0), expected)
    assert capsys.readouterr().err.count("could not be written (No space left on device") == 2
    assert contents(tmp_path / "state") == before and leftovers(tmp_path) == []
    assert_equal(fitted(tmp_path / "state"), expected)


def test_damaged_state_is_refused_with_its_folder(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError):
        fitted(tmp_path / "state", Stop(6, 0), every_s=0.0)
    whole = contents(tmp_path / "state")
    for name in whole:
        for damaged in (whole[name][: len(whole[name]) // 2], b"{}"):
            (tmp_path / "state" / name).write_bytes(bytes(damaged))
            with pytest.raises(UserError, match="give another folder, or delete it"):
                fitted(tmp_path / "state")
        (tmp_path / "state" / name).write_bytes(bytes(whole[name]))


def test_signal_after_an_error_in_fit_is_that_of_the_program(tmp_path: Path) -> None:
    """Keras informs no callback of an error, so that the handlers are still there."""
    signal.signal(signal.SIGINT, signal.default_int_handler)  # shells start background jobs with it ignored
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(RuntimeError):
        fitted(tmp_path / "state", Stop(6, 0))
    assert signal.getsignal(signal.SIGINT) != before
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) == before
