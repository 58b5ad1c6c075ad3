"""Initial weights from an earlier run: which are set, what the sentence says, what is refused."""

import dataclasses

import keras
import numpy as np
import pytest

from birdnet_fs.core.errors import UserError
from birdnet_fs.data.synthetic.aviary import make_aviary
from birdnet_fs.models import vit
from birdnet_fs.runs.initial_weights import load_initial_weights
from birdnet_fs.runs.resolve import is_finished, resolved
from birdnet_fs.runs.run import build_network, load_run, model_weights, save_run
from birdnet_fs.schema import Data, Experiment, Finetuning, FrontEnd, Model, Training
from birdnet_fs.training.trainer import train

EXPERIMENT = Experiment(frontend=FrontEnd(segment_s=0.6, n_mels=32), model=Model("cnn/tiny"))
CLASSES = ("amsel", "buchfink", "star")


def changed(experiment: Experiment = EXPERIMENT, **model) -> Experiment:
    return dataclasses.replace(experiment, model=dataclasses.replace(experiment.model, **model))


def network(experiment: Experiment, n_classes: int, seed: int = 1) -> keras.Model:
    keras.utils.set_random_seed(seed)
    return build_network(experiment, n_classes)


def saved(folder, experiment: Experiment = EXPERIMENT):
    return save_run(folder, experiment, CLASSES, model_weights(network(experiment, 3, seed=0)))


@pytest.mark.parametrize(
    ("head", "classes", "taken", "words"),
    [
        ("linear", CLASSES, True, "including the head."),
        ("linear", ("amsel", "star"), False, "the run has 3 classes and head linear, this experiment 2 and linear"),
        ("linear", ("star", "amsel", "buchfink"), False, "this experiment 3 and linear, or their names differ)"),
        ("cosine", CLASSES, False, "head linear, this experiment 3 and cosine"),
        ("sed", CLASSES, False, "head linear, this experiment 3 and sed"),
    ],
)
def test_all_but_the_head_is_taken_and_the_head_where_it_fits(head, classes, taken, words, tmp_path):
    run, experiment = saved(tmp_path), changed(head=head)
    model = network(experiment, len(classes))
    before, stored = model_weights(model), model_weights(run.build_model())
    sentence = load_initial_weights(tmp_path, model, experiment, classes)
    assert sentence.startswith(f"Initial weights are from {tmp_path}") and words in sentence
    heads = ("logits/", "frame_")
    for path, value in model_weights(model).items():
        fresh = path.startswith(heads) and not taken
        np.testing.assert_array_equal(value, (before if fresh else stored)[path], err_msg=path)
    assert any((before[path] != stored[path]).any() for path in stored if not path.startswith(heads))


def test_a_vit_takes_positions_of_another_grid(tmp_path, monkeypatch):
    monkeypatch.setitem(vit.VARIANTS, "tiny", dataclasses.replace(vit.VARIANTS["tiny"], width=12, depth=1))
    short = dataclasses.replace(EXPERIMENT, frontend=FrontEnd(segment_s=0.6, n_mels=40), model=Model("vit/tiny"))
    long = dataclasses.replace(short, frontend=FrontEnd(segment_s=1.1, n_mels=64))
    run = saved(tmp_path, short)
    model = network(long, 3)
    load_initial_weights(tmp_path, model, long, CLASSES)
    stored, ours = model_weights(run.build_model()), model_weights(model)
    assert run.input_shape == (38, 40, 1) and model.input_shape == (None, 69, 64, 1)
    expected = vit.resize_positions(stored.pop("tokens/positions"), (3, 3), (5, 4))
    np.testing.assert_array_equal(ours.pop("tokens/positions"), expected)
    assert ours.keys() == stored.keys()
    for path, value in ours.items():
        np.testing.assert_array_equal(value, stored[path])


@pytest.mark.parametrize(
    ("model", "mels", "words"),
    [
        ("cnn/small", 32, "is a run of cnn/tiny, whose weights do not fit cnn/small; set model.name=cnn/tiny "),
        ("rnn", 32, "whose weights do not fit rnn/"),
    ],
)
def test_another_network_is_refused(model, mels, words, tmp_path):
    saved(tmp_path)
    experiment = changed(name=model)
    with pytest.raises(UserError, match=words) as caught:
        load_initial_weights(tmp_path, network(experiment, 3), experiment, CLASSES)
    assert "\n" not in str(caught.value)


def test_weights_that_hang_on_the_bands_are_named(tmp_path):
    experiment = changed(name="rnn")
    saved(tmp_path, experiment)
    wider = dataclasses.replace(experiment, frontend=FrontEnd(segment_s=0.6, n_mels=48))
    model = network(wider, 3)
    before = model_weights(model)
    with pytest.raises(UserError, match=r"weights\.safetensors do not fit .* of another shape: input_bn/gamma \(32,\)"):
        load_initial_weights(tmp_path, model, wider, CLASSES)
    assert all((value == before[path]).all() for path, value in model_weights(model).items())


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("run", "there is no such file"),
        ("none", "must be a file or a run folder that exists"),
        ("run/x.h5", "run folder"),
    ],
)
def test_what_is_no_run_is_refused(name, words, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "x.h5").touch()
    with pytest.raises(UserError, match=words):
        load_initial_weights(tmp_path / name, network(EXPERIMENT, 3), EXPERIMENT, CLASSES)


def test_settings_that_contradict_each_other_are_refused():
    with pytest.raises(UserError, match=r"set model\.weights or pretrain\. Received: -1"):
        Experiment(training=Training(finetuning=Finetuning(freeze_blocks=-1)))
    with pytest.raises(UserError, match=r"pretrain\.model\.weights instead of model\.weights\. Received: 'run'"):
        Experiment(model=Model(weights="run"), pretrain=Experiment())
    Experiment(
        training=Training(finetuning=Finetuning(freeze_blocks=-1)), pretrain=Experiment(model=Model(weights="run"))
    )
    for training in ({"freeze_blocks": -2}, {"layer_decay": 0.0}, {"layer_decay": 1.1}):
        with pytest.raises(UserError, match=f"training.finetuning.{next(iter(training))} must be"):
            Finetuning(**training)


def test_a_run_starts_from_another_with_its_backbone_frozen(tmp_path, monkeypatch):
    make_aviary(tmp_path / "aviary", n_species=3, clips_per_species=5, n_soundscapes=1, soundscape_s=5.0)
    first = dataclasses.replace(
        EXPERIMENT,
        data=Data(
            str(tmp_path / "aviary"), "metadata.csv", audio="audio", where="set=aviary", n_folds=2, fold_column=""
        ),
        training=Training(epochs=1, learning_rate=0.01, finetuning=Finetuning(freeze_blocks=0)),
    )
    run = train(first, tmp_path / "first")
    monkeypatch.chdir(tmp_path)
    second = dataclasses.replace(
        changed(first, weights="first"),
        training=dataclasses.replace(
            first.training, finetuning=dataclasses.replace(first.training.finetuning, freeze_blocks=-1)
        ),
    )
    ours = model_weights(train(second, tmp_path / "second").build_model())
    for path, value in model_weights(run.build_model()).items():
        assert (ours[path] == value).all() != path.startswith("logits/"), path
    assert load_run(tmp_path / "second").experiment == resolved(second)
    assert load_run(tmp_path / "second").experiment.model.weights == str(tmp_path / "first")
    assert is_finished(tmp_path / "second", second)
    with pytest.raises(UserError, match=r"first was trained on .* clips that are held out here"):
        train(dataclasses.replace(second, data=dataclasses.replace(second.data, fold=1)), tmp_path / "third")
    too_many = dataclasses.replace(
        second,
        training=dataclasses.replace(
            second.training, finetuning=dataclasses.replace(second.training.finetuning, freeze_blocks=9)
        ),
    )
    with pytest.raises(UserError, match=r"training\.finetuning\.freeze_blocks must be at most 5"):
        train(too_many, tmp_path / "third")
