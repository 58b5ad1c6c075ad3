"""A training that was stopped goes on to the same run, bit for bit, wherever it was stopped and whatever it keeps."""

import dataclasses
import json
import math
from pathlib import Path

import keras
import numpy as np
import pytest
import torch
from fixed_batches import FixedBatches, network
from killed import contents, leftovers, small_disk

from birdnet_fs.core.errors import UserError
from birdnet_fs.core.settings import override
from birdnet_fs.runs.history import read_history
from birdnet_fs.runs.tensors import read_weights
from birdnet_fs.schema import Checkpoints, Data, Episodes, Experiment, FrontEnd, Model, Optimizer, Schedule, Training
from birdnet_fs.training import loop, trainer
from birdnet_fs.training.loop import Interrupted, TrainedWeights, run_epochs
from birdnet_fs.training.resume import state as resume
from birdnet_fs.training.resume.state import ResumeState

EPOCHS, N_STEPS = 4, 3
SETTINGS = {
    "adamw": Training(epochs=EPOCHS),
    "moving average": Training(epochs=EPOCHS, optimizer=Optimizer(ema=0.9)),
    "average of the last epochs": Training(epochs=EPOCHS, optimizer=Optimizer(swa_epochs=2)),
    "moving average, best": Training(
        epochs=EPOCHS, optimizer=Optimizer(ema=0.9), checkpoints=Checkpoints(select="best")
    ),
    "accumulated gradients": Training(epochs=EPOCHS, optimizer=Optimizer(accumulate=2)),
    "sgd, plateau": Training(
        epochs=EPOCHS,
        optimizer=Optimizer(name="sgd"),
        schedule=Schedule(name="plateau", plateau_patience=0),
        checkpoints=Checkpoints(select="best"),
    ),
    "amsgrad, one cycle": Training(
        epochs=EPOCHS, optimizer=Optimizer(name="adam", amsgrad=True), schedule=Schedule(name="onecycle")
    ),
    "rmsprop, early stop": Training(
        epochs=EPOCHS, optimizer=Optimizer(name="rmsprop"), checkpoints=Checkpoints(select="best", patience=1)
    ),
    "float16": Training(epochs=EPOCHS, precision="float16"),
}


class StoppedBatches(FixedBatches):
    """Stopped before a step, once."""

    def __init__(self, at: int) -> None:
        super().__init__()
        self.at = at

    def epoch(self, epoch: int, first: int = 0):
        for number, batch in enumerate(super().epoch(epoch, first), first):
            if epoch * N_STEPS + number == self.at:
                self.at = -1
                raise KeyboardInterrupt
            yield batch


class Validation:
    """Values that fall after the second epoch; stopped in an epoch, once."""

    def __init__(self, at: int = -1, n_done: int = 0) -> None:
        self.at, self.n = at, n_done

    def __call__(self) -> dict[str, float]:
        if self.n == self.at:
            self.at = -1
            raise KeyboardInterrupt
        self.n += 1
        return {"val_macro_auroc": (0.5, math.nan, 0.9, 0.8)[self.n - 1]}


def trained(name: str, folder: Path | None, batches: FixedBatches, validate: Validation) -> TrainedWeights:
    state = ResumeState(folder, {"name": name}) if folder else None
    torch.manual_seed(5)
    return run_epochs(network(dropout=0.3), batches, SETTINGS[name], multi_label=False, validate=validate, resume=state)


def assert_equal(found: TrainedWeights, expected: TrainedWeights) -> None:
    assert found.weights.keys() == expected.weights.keys()
    for key, value in expected.weights.items():
        np.testing.assert_array_equal(found.weights[key], value, err_msg=key)
    rows = [[{k: v for k, v in row.items() if k != "seconds"} for row in t.history] for t in (found, expected)]
    np.testing.assert_equal(rows[0], rows[1])


@pytest.mark.parametrize("name", SETTINGS)
def test_training_stopped_before_any_step_ends_as_undisturbed(name: str, tmp_path: Path) -> None:
    expected = trained(name, None, FixedBatches(), Validation())
    n_epochs = len(expected.history)
    for at in range(1, n_epochs * N_STEPS):
        folder, validate = tmp_path / str(at), Validation()
        with pytest.raises(Interrupted):
            trained(name, folder, StoppedBatches(at), validate)
        assert_equal(trained(name, folder, FixedBatches(), Validation(n_done=validate.n)), expected)


@pytest.mark.parametrize("name", SETTINGS)
def test_training_stopped_in_a_validation_ends_as_undisturbed(name: str, tmp_path: Path) -> None:
    expected = trained(name, None, FixedBatches(), Validation())
    for at in range(len(expected.history)):
        folder = tmp_path / str(at)
        with pytest.raises(Interrupted) as caught:
            trained(name, folder, FixedBatches(), Validation(at))
        assert len(caught.value.history) == at
        assert_equal(trained(name, folder, FixedBatches(), Validation(n_done=at)), expected)


def test_training_stopped_in_the_statistics_of_averaged_weights_ends_as_undisturbed(tmp_path: Path) -> None:
    name = "average of the last epochs"
    expected = trained(name, None, FixedBatches(), Validation())
    with pytest.raises(Interrupted):
        trained(name, tmp_path / "state", StoppedBatches(EPOCHS * N_STEPS + 2), Validation())
    assert_equal(trained(name, tmp_path / "state", FixedBatches(), Validation(n_done=EPOCHS)), expected)


def test_training_stopped_twice_ends_as_undisturbed(tmp_path: Path) -> None:
    name, folder = "moving average, best", tmp_path / "state"
    expected = trained(name, None, FixedBatches(), Validation())
    for at, done in ((2, 0), (10, 0)):
        with pytest.raises(Interrupted):
            trained(name, folder, StoppedBatches(at), Validation(n_done=done))
    assert_equal(trained(name, folder, FixedBatches(), Validation(n_done=3)), expected)


def test_state_written_now_and_then_serves_a_killed_training(tmp_path: Path, monkeypatch) -> None:
    name, folder = "moving average", tmp_path / "state"
    expected = trained(name, None, FixedBatches(), Validation())
    monkeypatch.setattr(resume, "EVERY_S", 0.0)
    monkeypatch.setattr(resume, "MOST_TIME", math.inf)

    class Killed(FixedBatches):
        def epoch(self, epoch: int, first: int = 0):
            for number, batch in enumerate(super().epoch(epoch, first), first):
                if (epoch, number) == (2, 1):
                    raise OSError("as if killed")
                yield batch

    with pytest.raises(OSError, match="as if killed"):
        trained(name, folder, Killed(), Validation())
    assert json.loads((folder / "state.json").read_text())["n_steps"] == 7
    assert_equal(trained(name, folder, FixedBatches(), Validation(n_done=2)), expected)


def test_state_that_cannot_be_written_is_said_once_and_training_goes_on(tmp_path: Path, monkeypatch, capsys) -> None:
    monkeypatch.setattr(resume, "EVERY_S", 0.0)
    monkeypatch.setattr(resume, "MOST_TIME", math.inf)

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(resume, "write_json", full)
    found = trained("adamw", tmp_path / "state", FixedBatches(), Validation())
    assert_equal(found, trained("adamw", None, FixedBatches(), Validation()))
    err = capsys.readouterr().err
    assert err.count("could not be written") == 1 and "No space left on device" in err
    assert "The state after 1 steps could not" in err and "before the next state, it starts anew." in err
    assert not (tmp_path / "state").exists()


def test_full_disk_at_any_size_leaves_the_state_of_before(tmp_path: Path, monkeypatch, capsys) -> None:
    monkeypatch.setattr(resume, "EVERY_S", 0.0)
    monkeypatch.setattr(resume, "MOST_TIME", math.inf)

    def trained_until(folder: Path, at: int) -> TrainedWeights:
        keras.utils.set_random_seed(0)
        inputs = keras.Input((12, 12, 1))
        x = keras.layers.Dense(3_000, "relu", name="wide")(keras.layers.GlobalAveragePooling2D(name="pool")(inputs))
        model = keras.Model(inputs, keras.layers.Dense(2, name="logits")(x))
        state = ResumeState(folder, {"name": "wide"})
        return run_epochs(model, StoppedBatches(at), Training(epochs=EPOCHS), validate=None, resume=state)

    expected = trained_until(tmp_path / "whole", -1)
    with small_disk(tmp_path / "disk") as resize:
        folder = tmp_path / "disk" / "state"
        with pytest.raises(Interrupted):
            trained_until(folder, 3)
        before = contents(folder)
        n_kib = sum(len(content) for content in before.values()) // 1024
        sizes = range(n_kib + 20, 2 * n_kib - 8, n_kib // 24)
        for kib in sizes:
            resize(kib)
            with pytest.raises(Interrupted):
                trained_until(folder, 5)
            err = capsys.readouterr().err
            assert "Training continues; stopped before the next state, it goes on after 3 steps." in err
            assert "The state after 5 steps could not be written" in err
            assert err.rstrip().endswith("The same command goes on after 3 steps.")
            assert contents(folder) == before and leftovers(tmp_path) == []
        assert len(sizes) >= 20
        resize(16_000)
        assert_equal(trained_until(folder, -1), expected)


def experiment(recordings: Path, *settings: str) -> Experiment:
    chosen = Experiment(
        name="tiny",
        data=Data(root=str(recordings), table="metadata.csv", audio="audio", where="set=aviary", split="70/15/15"),
        frontend=FrontEnd(segment_s=3.0, sample_rate_hz=16_000, n_mels=32, fmin_hz=300.0, fmax_hz=8_000.0),
        model=Model("cnn/tiny", dropout=0.2),
        training=Training(epochs=4, batch_size=8, learning_rate=3e-3, threads=1, checkpoints=Checkpoints(n_best=2)),
    )
    return override(chosen, settings)


def stopped_at(monkeypatch: pytest.MonkeyPatch, step: int) -> None:
    """The next training is stopped before a step, as by a signal."""
    steps = loop.TrainingState.steps

    def until(self):
        for number, epoch, batch in steps(self):
            if number == step:
                raise KeyboardInterrupt
            yield number, epoch, batch

    monkeypatch.setattr(loop.TrainingState, "steps", until)


AUGMENTED = ("augmentation.noise.p=0.5", "augmentation.gain_db=6", "training.optimizer.ema=0.9")


@pytest.fixture(scope="module")
def first(recordings, tmp_path_factory) -> Path:
    """A run for initial weights, and as a teacher."""
    return trainer.train(experiment(recordings), tmp_path_factory.mktemp("first") / "run").path


KINDS = {
    "supervised": AUGMENTED,
    "blocks that are frozen at first": (
        "model.weights=RUN",
        "training.finetuning.freeze_blocks=2",
        "training.finetuning.unfreeze_epoch=2",
    ),
    "distillation": ("distillation.teacher=RUN", "distillation.features=1"),
    "8 bits": ("model.weights=RUN", "model.quantized=true", "model.dropout=0"),
    "episodes": ("model.head=prototypes",),
}


@pytest.mark.parametrize("kind", KINDS)
def test_train_goes_on_to_the_run_of_an_undisturbed_training(
    kind: str, first: Path, recordings, tmp_path, monkeypatch, capsys
) -> None:
    chosen = experiment(recordings, *(each.replace("RUN", str(first)) for each in KINDS[kind]))
    if kind == "episodes":
        chosen = dataclasses.replace(
            chosen, episodes=Episodes(n_way=3, n_shot=2, n_query=2, n_train=3, n_val=0, n_test=0)
        )
    expected = trainer.train(chosen, tmp_path / "whole")
    folder = tmp_path / "run"
    for at in (4, 7):
        with monkeypatch.context() as patch:
            stopped_at(patch, at)
            with pytest.raises(Interrupted):
                trainer.train(chosen, folder)
        assert (folder / "unfinished" / "state" / "state.json").is_file()
        assert f"The state after {at} steps is in" in capsys.readouterr().err
    run = trainer.train(chosen, folder)
    assert "Training goes on after 7 of" in capsys.readouterr().err
    np.testing.assert_equal(
        read_weights(run.path / "weights.safetensors"), read_weights(expected.path / "weights.safetensors")
    )
    histories = [read_history(r.path / "history.csv") for r in (run, expected)]
    for row in (*histories[0], *histories[1]):
        row.pop("seconds")
    np.testing.assert_equal(histories[0], histories[1])
    names = [sorted(path.name for path in (r.path / "checkpoints").iterdir()) for r in (run, expected)]
    assert names[0] == names[1]
    assert not (folder / "unfinished").exists() and not (folder / "interrupted").exists()


def test_state_of_another_training_and_a_damaged_one_are_refused(recordings, tmp_path, monkeypatch) -> None:
    folder = tmp_path / "run"
    with monkeypatch.context() as patch:
        stopped_at(patch, 4)
        with pytest.raises(Interrupted):
            trainer.train(experiment(recordings), folder)
    with pytest.raises(UserError, match=r"state of another training \(training.learning_rate=0.003, not 0.01\)"):
        trainer.train(experiment(recordings, "training.learning_rate=0.01"), folder)
    state = folder / "unfinished" / "state"
    facts = (state / "state.json").read_text()
    (state / "state.json").write_text(facts.replace('"format": 1', '"format": 2'))
    with pytest.raises(UserError, match="written by another version of birdnet_fs"):
        trainer.train(experiment(recordings), folder)
    (state / "state.json").write_text(facts)
    whole = (state / "tensors.safetensors").read_bytes()
    (state / "tensors.safetensors").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UserError, match="damaged state of a training"):
        trainer.train(experiment(recordings), folder)
    (state / "tensors.safetensors").write_bytes(whole)
    (state / "state.json").write_text("{}")
    with pytest.raises(UserError, match="damaged state of a training"):
        trainer.train(experiment(recordings), folder)
