"""A float run goes on in 8 bits: what it starts from, what its ranges do, the verb, and what is refused."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import tolerances
import torch
from typer.testing import CliRunner

from birdnet_fs.cli.main import app
from birdnet_fs.core.errors import UserError
from birdnet_fs.data.partition import PARTITION
from birdnet_fs.data.synthetic.aviary import make_aviary
from birdnet_fs.inference.open import open_engine
from birdnet_fs.models.quantization.convert import is_quantized, quantize, ranges
from birdnet_fs.models.quantization.fake_quant import FIXED, LEARN
from birdnet_fs.runs.history import read_history
from birdnet_fs.runs.initial_weights import load_initial_weights
from birdnet_fs.runs.run import Run, build_network, load_run, model_weights, save_run
from birdnet_fs.schema import Data, Experiment, Finetuning, FrontEnd, Model, Optimizer, Training
from birdnet_fs.training import qat
from birdnet_fs.training.trainer import train

EXPERIMENT = Experiment(name="base", frontend=FrontEnd(segment_s=0.6, n_mels=32), model=Model("cnn/tiny"))


def with_model(experiment: Experiment, **settings: object) -> Experiment:
    return dataclasses.replace(experiment, model=dataclasses.replace(experiment.model, **settings))


@pytest.fixture(scope="module")
def base(tmp_path_factory) -> Run:
    """A float run of a small aviary."""
    folder = tmp_path_factory.mktemp("quantize")
    make_aviary(folder / "aviary", n_species=3, clips_per_species=5, n_soundscapes=1, soundscape_s=5.0)
    data = Data(str(folder / "aviary"), "metadata.csv", audio="audio", where="set=aviary", n_folds=2, fold_column="")
    training = Training(
        epochs=2,
        batch_size=4,
        learning_rate=0.01,
        precision="auto",
        optimizer=Optimizer(ema=0.5),
        finetuning=Finetuning(freeze_blocks=0),
    )
    return train(dataclasses.replace(EXPERIMENT, data=data, training=training), folder / "base")


@pytest.fixture(scope="module")
def run(base) -> Run:
    """The same run in 8 bits, by the verb."""
    output = base.path.parent / "int8"
    result = CliRunner().invoke(app, ["quantize", str(base.path), "-o", str(output), "training.epochs=3"])
    assert result.exit_code == 0, result.output
    assert "macro_auroc" in result.output
    return load_run(output)


def test_the_new_run_goes_on_with_the_old_ones_clips_and_settings(base, run):
    ours, theirs = run.experiment, base.experiment
    assert ours.model == dataclasses.replace(theirs.model, quantized=True, weights=str(base.path))
    assert (ours.data, ours.frontend, ours.augmentation) == (theirs.data, theirs.frontend, theirs.augmentation)
    assert (run.path / PARTITION).read_bytes() == (base.path / PARTITION).read_bytes()
    assert run.classes == base.classes and ours.name == "base_int8"
    assert (ours.training.epochs, ours.training.optimizer.ema, ours.training.batch_size) == (3, 0.0, 4)
    assert (ours.distillation.teacher, ours.distillation.alpha) == (str(base.path), 1.0)
    assert len(read_history(run.path / "history.csv")) == 3


def test_the_new_run_is_built_with_its_ranges_and_scored(base, run):
    model = run.build_model()
    assert is_quantized(model)
    assert all(float(grid.low) <= 0 < float(grid.high) for grid in ranges(model))
    assert sum((float(grid.low), float(grid.high)) != (0.0, 1.0) for grid in ranges(model)) == len(list(ranges(model)))
    moved = model_weights(quantize(base.build_model()))["stem/kernel"] != model_weights(model)["stem/kernel"]
    assert moved.mean() > 0.9
    waveform = np.random.default_rng(0).normal(0, 0.1, (2, run.frontend.n_samples)).astype(np.float32)
    theirs, ours = (np.asarray(open_engine(one.path).logits(waveform)) for one in (base, run))
    assert theirs.shape == ours.shape == (2, 3)
    grid = model.get_layer("logits_range")
    step = float(grid.high - grid.low) / 255
    np.testing.assert_allclose(ours / step, np.rint(ours / step), atol=tolerances.ON_GRID)
    assert not np.array_equal(theirs, ours)


def test_it_starts_from_the_float_run_with_batchnorm_folded_in(base):
    experiment = with_model(base.experiment, quantized=True, weights=str(base.path))
    model = build_network(experiment, 3)
    assert load_initial_weights(base.path, model, experiment, base.classes).endswith("including the head.")
    expected = model_weights(quantize(base.build_model()))
    for path, value in model_weights(model).items():
        np.testing.assert_array_equal(value, expected[path], err_msg=path)


def test_a_quantized_run_starts_quantized_ones_only(run):
    again = build_network(run.experiment, 3)
    load_initial_weights(run.path, again, run.experiment, run.classes)
    for path, value in model_weights(run.build_model()).items():
        np.testing.assert_array_equal(model_weights(again)[path], value)
    plain = with_model(run.experiment, quantized=False)
    with pytest.raises(UserError, match=r"is a quantized run.*set model\.weights to its float run .*base\)"):
        load_initial_weights(run.path, build_network(plain, 3), plain, run.classes)


def test_ranges_are_measured_on_training_batches_then_learn_then_stay(base, tmp_path, monkeypatch):
    seen: list[tuple[int, str]] = []
    step = qat.RangeSchedule.step
    measured: list[float] = []

    def watched(self: qat.RangeSchedule, epoch: int) -> None:
        grid = next(ranges(self.model))
        if not seen:
            measured.append(float(grid.low))
        step(self, epoch)
        seen.append((epoch, grid.phase))

    monkeypatch.setattr(qat.RangeSchedule, "step", watched)
    training = dataclasses.replace(
        base.experiment.training,
        epochs=4,
        learning_rate=1e-4,
        optimizer=dataclasses.replace(base.experiment.training.optimizer, ema=0.0),
    )
    experiment = with_model(base.experiment, quantized=True, weights=str(base.path))
    run = train(dataclasses.replace(experiment, training=training), tmp_path / "run")
    assert dict(seen) == {0: LEARN, 1: LEARN, 2: LEARN, 3: FIXED}
    # features are decibels below the loudest: the lowest is that of -top_db, whatever was drawn
    assert measured[0] < -20 and float(run.build_model().get_layer("features_range").low) < -20


def test_one_epoch_has_ranges_that_stay():
    assert [qat.RangeSchedule(None, epochs).n_learn for epochs in (1, 2, 3, 5, 9)] == [0, 1, 2, 3, 6]


def test_ranges_without_axes_are_saved_and_read(tmp_path):
    experiment = with_model(EXPERIMENT, quantized=True, weights="run")
    run = save_run(tmp_path / "run", experiment, ("a", "b"), model_weights(build_network(experiment, 2)))
    assert float(load_run(run.path).build_model().get_layer("logits_range").high) == 1


@pytest.mark.parametrize("name", ["vit/tiny", "rnn/gru", "convnext/tiny", "prototypical/v2"])
def test_other_families_are_refused_with_what_to_do(name, tmp_path):
    experiment = Experiment(frontend=FrontEnd(segment_s=0.6, n_mels=32), model=Model(name))
    save_run(tmp_path / "run", experiment, ("a", "b"), {"none": np.zeros(1, np.float32)})
    result = CliRunner().invoke(app, ["quantize", str(tmp_path / "run"), "-o", str(tmp_path / "int8")])
    assert isinstance(result.exception, UserError)
    assert str(result.exception).startswith("model.quantized is for the families cnn, ")
    assert "birdnet-fs export RUN --precision int8" in str(result.exception)
    assert not (tmp_path / "int8").exists()


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"model": {"quantized": True}}, "set model.weights to a run folder, or pretrain"),
        ({"model": {"quantized": True, "weights": "x"}, "training": {"precision": "bfloat16"}}, "precision=float32"),
        ({"model": {"quantized": True, "weights": "x", "head": "sed"}}, "needs head=linear"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(settings, words):
    with pytest.raises(UserError, match=words):
        Experiment(model=Model(**settings["model"]), training=Training(**settings.get("training", {})))


def test_the_verb_leaves_the_float_run_and_quantized_runs_alone(base, run):
    invoke = CliRunner().invoke
    for arguments, words in (
        ([str(base.path)], "add -o FOLDER"),
        ([str(base.path), "-o", str(base.path), "--overwrite"], "is the float run itself"),
        ([str(run.path), "-o", str(Path(run.path) / "x")], "is quantized already"),
    ):
        result = invoke(app, ["quantize", *arguments])
        assert isinstance(result.exception, UserError) and words in str(result.exception), result.output
    result = invoke(app, ["quantize", str(base.path), "training.epochs=7", "--cfg"])
    assert "training.epochs=7" in result.output.replace(" ", "") and "model.quantized=true" in result.output.replace(
        " ", ""
    )
    assert torch.is_grad_enabled()
