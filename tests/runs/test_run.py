import json
import os
import pickle
from pathlib import Path

import keras
import numpy as np
import preloaded
import pytest

from birdnet_fs.core.errors import UserError
from birdnet_fs.runs.run import build_network, load_run, model_weights, save_run
from birdnet_fs.schema import Experiment, FrontEnd, Model

EXPERIMENT = Experiment(frontend=FrontEnd(segment_s=0.6, n_mels=32), model=Model("cnn/tiny"))
CLASSES = ("Parus major_Great tit", "Grünspecht", "a,b")


@pytest.fixture
def run(tmp_path: Path):
    keras.utils.set_random_seed(0)
    return save_run(tmp_path / "run", EXPERIMENT, CLASSES, model_weights(build_network(EXPERIMENT, 3)))


def test_what_is_saved_comes_back(run) -> None:
    keras.utils.set_random_seed(0)
    original = build_network(EXPERIMENT, 3)
    keras.utils.set_random_seed(1)
    again = load_run(run.path)
    assert (again.experiment, again.classes, again.activation) == (EXPERIMENT, CLASSES, "softmax")
    model = again.build_model()
    assert model.input_shape == (None, *again.input_shape)
    x = np.random.default_rng(0).normal(size=(2, *again.input_shape)).astype(np.float32)
    np.testing.assert_array_equal(model.predict(x, verbose=0), original.predict(x, verbose=0))


def test_a_run_holds_no_pickle_and_names_its_versions(run) -> None:
    assert sorted(os.listdir(run.path)) == ["classes.txt", "config.json", "versions.json", "weights.safetensors"]
    assert {"birdnet_fs", "keras", "torch", "python"} <= set(json.loads((run.path / "versions.json").read_text()))
    for file in run.path.iterdir():
        with pytest.raises((pickle.UnpicklingError, ValueError, KeyError, EOFError, IndexError, AttributeError)):
            pickle.loads(file.read_bytes())


def test_tensorflow_builds_the_same_network(run) -> None:
    x = np.random.default_rng(0).normal(size=(2, *run.input_shape)).astype(np.float32)
    np.save(run.path / "x.npy", x)
    code = (
        "import sys, numpy as np; from birdnet_fs.runs.run import load_run; import keras; "
        "assert keras.backend.backend() == 'tensorflow'; run = load_run(sys.argv[1]); "
        "np.save(sys.argv[1] + '/y.npy', run.build_model()(np.load(sys.argv[1] + '/x.npy')).numpy())"
    )
    preloaded.run_python(["-c", code, run.path]).check_returncode()
    import tolerances

    ours = run.build_model().predict(x, verbose=0)
    np.testing.assert_allclose(np.load(run.path / "y.npy"), ours, atol=tolerances.BACKENDS_LOGITS)


@pytest.mark.parametrize(
    ("break_it", "words"),
    [
        (lambda p: (p / "classes.txt").unlink(), "there is no such file"),
        (lambda p: (p / "config.json").write_text("{"), "not readable JSON"),
        (lambda p: (p / "config.json").write_text("[]"), "must hold a JSON object"),
        (lambda p: (p / "config.json").write_text('{"modle": {}}'), "Did you mean 'model'"),
        (lambda p: (p / "classes.txt").write_text("a\na\n"), "each once"),
        (lambda p: (p / "weights.safetensors").write_bytes(b"x" * 100), "not a readable safetensors file"),
        (lambda p: (p / "classes.txt").write_text("a\nb\n"), "'logits/kernel' has shape"),
        (lambda p: (p / "config.json").write_text('{"model": {"name": "cnn/small"}}'), "do not fit"),
    ],
)
def test_a_damaged_run_is_named_in_one_sentence(run, break_it, words: str) -> None:
    break_it(run.path)
    with pytest.raises(UserError) as caught:
        load_run(run.path).build_model()
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_bad_weights_and_names_are_not_saved(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="must be finite; 'w'"):
        save_run(tmp_path / "run", EXPERIMENT, CLASSES, {"w": np.array([1.0, np.nan])})
    with pytest.raises(UserError, match="one line of UTF-8 text"):
        save_run(tmp_path / "run", EXPERIMENT, ("a\nb",), {"w": np.ones(1)})
    with pytest.raises(UserError, match="rename the label 'Junco; hyemalis'"):
        save_run(tmp_path / "run", EXPERIMENT, ("Junco; hyemalis",), {"w": np.ones(1)})
    with pytest.raises(UserError, match="was expected at"):
        load_run(tmp_path / "run")


def test_folders_that_are_no_run_are_refused_with_the_reason(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="there is no such folder"):
        load_run(tmp_path / "nowhere")
    with pytest.raises(UserError, match="there is no such file"):
        load_run(tmp_path)
    save_run(tmp_path / "fold0", EXPERIMENT, CLASSES, {"w": np.ones(1)})
    with pytest.raises(UserError, match="it holds folds; use one of them, or all as one model"):
        load_run(tmp_path)
