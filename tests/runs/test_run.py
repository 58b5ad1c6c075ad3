import json
import math
import os
import pickle
import shutil
import struct
import time
from pathlib import Path

import keras
import numpy as np
import preloaded
import pytest
from killed import contents, killed_at_every_change, leftovers, sampled, small_disk
from small_runs import write_run

from birdnet_fs.core.errors import UserError
from birdnet_fs.core.settings import to_dict
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
    with pytest.raises(UserError, match="one line of printable text"):
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


def tiny_run(folder: Path, value: float, extra: str) -> None:
    """A run with two arrays as weights, and a file that training adds."""
    weights = {"a": np.full((50, 40), value, np.float32), "b": np.full(7, value, np.float32)}
    save_run(
        folder, EXPERIMENT, (f"x{value:g}", "y"), weights,
        write_extra=lambda new: [(new / name).write_text(extra) for name in ("partition.csv", "history.csv")],
    )  # fmt: skip


def old_run(place: Path) -> Path:
    """A run that was evaluated, with a checkpoint and an export, and nothing else in the folder."""
    for other in place.iterdir():
        shutil.rmtree(other)
    tiny_run(place / "run", 1.0, "old")
    tiny_run(place / "run" / "checkpoints" / "last", 1.0, "old")
    for name in ("metrics.json", "report.html", "export/run.tflite"):
        (place / "run" / name).parent.mkdir(exist_ok=True)
        (place / "run" / name).write_text("old")
    return place / "run"


@sampled(7)
def test_a_kill_while_a_run_is_replaced_leaves_the_old_or_the_new_one(tmp_path: Path, every: int) -> None:
    folder = old_run(tmp_path)
    old, artifact = contents(folder), {"export/run.tflite": b"old"}
    tiny_run(folder, 2.0, "new")
    new = contents(folder)
    assert set(new) == set(old) - {name for name in old if name.startswith(("checkpoints", "metrics", "report"))}
    found = []
    attempts = killed_at_every_change(
        tmp_path, lambda: old_run(tmp_path), lambda: tiny_run(folder, 2.0, "new"), every=every
    )
    for n in attempts:
        opened = load_run(folder)
        assert contents(folder) in (old, new) and artifact.items() <= contents(folder).items(), n
        found.append(opened.classes)
        tiny_run(folder, 2.0, "new")
        assert contents(folder) == new and leftovers(tmp_path) == [], n
    assert len(found) >= 60 // every and (every > 1 or set(found) == {("x1", "y"), ("x2", "y")})


def test_a_full_disk_keeps_the_old_run(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk") as resize:
        old = contents(old_run(tmp_path / "disk"))
        sizes = range(120, 320, 10)
        for kib in sizes:
            resize(kib)
            with pytest.raises(OSError, match=r"No space left on device: '.*disk/run'"):
                save_run(tmp_path / "disk" / "run", EXPERIMENT, CLASSES, {"a": np.ones(60_000, np.float32)})
            assert contents(tmp_path / "disk" / "run") == old and leftovers(tmp_path) == []
        assert len(sizes) == 20


def test_weights_that_do_not_fit_a_large_network_are_refused_before_it_is_made(tmp_path: Path) -> None:
    """Random weights of vit/base take 4 s, and a file of its size is refused by its header."""
    place = write_run(tmp_path / "run")
    experiment = Experiment(name="run", model=Model("vit/base"))
    (place / "config.json").write_text(json.dumps(to_dict(experiment)))
    shapes = {"logits/kernel": (768, 2), "other": (30_000_000,)}
    header, end = {}, 0
    for name, shape in shapes.items():
        begin, end = end, end + 4 * math.prod(shape)
        header[name] = {"dtype": "F32", "shape": shape, "data_offsets": [begin, end]}
    text = json.dumps(header).encode()
    with (place / "weights.safetensors").open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        file.truncate(8 + len(text) + end)  # zeros, which take no room on the disk
    before = time.process_time()
    with pytest.raises(UserError, match="do not fit"):
        load_run(place).build_model()
    assert time.process_time() - before < 5
