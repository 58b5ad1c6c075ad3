"""TFLite files changed from outside: joined, looked through."""

from pathlib import Path

import numpy as np
import preloaded
import pytest
import tolerances
from installed import need
from on_runtime import run_tflite

from birdnet_fs.encoders.tflite_graph import read_model
from birdnet_fs.export.tflite import edit as flatbuffer

# written once on the TensorFlow backend: two halves of a network, a loop among them, a convolution that is computed
# wrongly, the same one as the writer writes it, and a file with an operator that is no builtin
WORK = """
import sys, numpy as np, keras
from pathlib import Path
from keras import layers
from birdnet_fs.export.tflite import convert
folder = Path(sys.argv[1])
keras.utils.set_random_seed(3)
x = keras.Input((12, 6), name="x")
dense = keras.Model(x, {"middle": layers.Dense(5, activation="tanh")(x)})
loop = keras.Model(x, {"middle": layers.LSTM(5, return_sequences=True)(x)})
y = keras.Input((12, 5), name="y")
flat = layers.GlobalAveragePooling1D()(layers.Conv1D(8, 3)(y))
two = keras.Model(y, {"b": layers.Dense(4)(flat), "a": layers.Dense(3)(flat)})
after = keras.Model(y, {"a": layers.Dense(3)(layers.GRU(4)(y))})
for batch, name in ((None, "open"), (1, "one")):
    convert.convert_model(dense, (batch, 12, 6), "x", folder / f"{name}_first.tflite")
    convert.convert_model(two, (batch, 12, 5), "y", folder / f"{name}_second.tflite")
convert.convert_model(loop, (1, 12, 6), "x", folder / "loop_first.tflite")
convert.convert_model(after, (1, 12, 5), "y", folder / "loop_second.tflite")
given = np.load(folder / "x.npy")
np.savez(folder / "keras.npz", **two(dense(given)["middle"]))
np.save(folder / "keras_loop.npy", after(loop(given)["middle"])["a"])

image = keras.Input((23, 18, 2), name="image")
z = layers.Conv2D(4, 3, strides=4, padding="same", name="skips")(image)
z = layers.DepthwiseConv2D((2, 3), strides=3, padding="same", name="deep")(z)
skips = keras.Model(image, {"answer": layers.Conv2D(3, 1, strides=2, padding="same")(z)})
pictures = np.load(folder / "image.npy")
np.save(folder / "skips.npy", skips(pictures)["answer"])
convert.convert_model(skips, (1, 23, 18, 2), "image", folder / "skips.tflite")
skips.export(str(folder / "as_it_is.tflite"), format="litert", verbose=False)
loop.export(str(folder / "odd.tflite"), format="litert", verbose=False)  # a loop and an open batch: no builtins
for name in ("as_it_is", "odd"):
    try:
        convert.check_operators(folder / f"{name}.tflite")
    except convert.CannotConvert as error:
        (folder / f"{name}.txt").write_text(str(error))
convert.check_operators(folder / "skips.tflite")
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    need("tensorflow")
    place = tmp_path_factory.mktemp("flatbuffer")
    random = np.random.default_rng(0)
    np.save(place / "x.npy", random.normal(0, 1, (8, 12, 6)).astype("float32"))
    np.save(place / "image.npy", random.normal(0, 1, (4, 23, 18, 2)).astype("float32"))
    run = preloaded.run_python(["-c", WORK, place])
    assert run.returncode == 0, run.stderr
    for name in ("open", "one"):
        flatbuffer.order_outputs(place / f"{name}_second.tflite", ["b", "a"])
        flatbuffer.join_models(
            place / f"{name}_first.tflite", place / f"{name}_second.tflite", place / f"{name}.tflite"
        )
    flatbuffer.join_models(place / "loop_first.tflite", place / "loop_second.tflite", place / "loop.tflite")
    return place


def close(found: np.ndarray, expected: np.ndarray) -> bool:
    return bool(np.abs(found - expected).max() <= tolerances.BACKENDS * np.abs(expected).max())


@pytest.mark.parametrize(("name", "batch"), [("one", 1), ("open", 1), ("open", 3), ("open", 8)])
def test_join_models_equals_both_parts_in_sequence(folder, tmp_path, name, batch):
    (middle,) = run_tflite(folder / f"{name}_first.tflite", folder / "x.npy", tmp_path / "o.npz")
    np.save(tmp_path / "middle.npy", middle)
    expected = run_tflite(folder / f"{name}_second.tflite", tmp_path / "middle.npy", tmp_path / "o.npz")
    found = run_tflite(folder / f"{name}.tflite", folder / "x.npy", tmp_path / "o.npz", batch=batch)
    with np.load(folder / "keras.npz") as keras_says:
        for i, output in enumerate(("b", "a")):
            assert close(found[i], expected[i]) and close(found[i], keras_says[output])


def test_join_models_keeps_the_bodies_of_loops(folder, tmp_path):
    assert flatbuffer.operators(folder / "loop.tflite").count("WHILE") == 2
    (found,) = run_tflite(folder / "loop.tflite", folder / "x.npy", tmp_path / "o.npz")
    assert close(found, np.load(folder / "keras_loop.npy"))


def test_join_models_gives_one_signature_and_unique_names(folder):
    from ai_edge_litert.interpreter import Interpreter

    runtime = Interpreter(model_path=str(folder / "open.tflite"))
    assert runtime.get_signature_list() == {"serving_default": {"inputs": ["x"], "outputs": ["a", "b"]}}
    assert list(runtime.get_input_details()[0]["shape_signature"]) == [-1, 12, 6]
    assert [list(output["shape_signature"]) for output in runtime.get_output_details()] == [[-1, 4], [-1, 3]]
    model = read_model(folder / "open.tflite")
    names = [bytes(tensor.name) for tensor in model.subgraphs[0].tensors]
    assert len(set(names)) == len(names)
    parts = [flatbuffer.operators(folder / f"open_{part}.tflite") for part in ("first", "second")]
    assert flatbuffer.operators(folder / "open.tflite") == parts[0] + parts[1]


def test_join_models_refuses_parts_that_do_not_fit(folder, tmp_path):
    for first, second in (("one_second", "one_first"), ("open_first", "one_second")):
        with pytest.raises(ValueError):
            flatbuffer.join_models(folder / f"{first}.tflite", folder / f"{second}.tflite", tmp_path / "no.tflite")
    assert not (tmp_path / "no.tflite").exists()


def test_convolutions_that_skip_values_are_found_and_replaced(folder, tmp_path):
    wrong = flatbuffer.wrong_on_tflite_runtime(folder / "as_it_is.tflite")
    assert [sentence.partition(" ")[0] for sentence in wrong] == ["CONV_2D", "DEPTHWISE_CONV_2D"]
    assert "kernel [3, 3] and stride [4, 4]" in wrong[0] and "kernel [2, 3] and stride [3, 3]" in wrong[1]
    assert "tflite-runtime would compute it wrongly: CONV_2D" in (folder / "as_it_is.txt").read_text()
    assert flatbuffer.wrong_on_tflite_runtime(folder / "skips.tflite") == []
    (found,) = run_tflite(folder / "skips.tflite", folder / "image.npy", tmp_path / "o.npz")
    assert close(found, np.load(folder / "skips.npy"))


def test_operators_of_tensorflow_itself_are_refused(folder):
    foreign = flatbuffer.foreign_operators(folder / "odd.tflite")
    assert foreign and all(name.startswith("Flex") for name in foreign)
    assert ", ".join(foreign) in (folder / "odd.txt").read_text()
    assert flatbuffer.foreign_operators(folder / "loop.tflite") == []
