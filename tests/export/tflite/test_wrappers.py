"""Models joined behind the network in a TFLite file, against their definitions in long doubles."""

from pathlib import Path

import numpy as np
import preloaded
import pytest
import tolerances
from installed import need
from on_runtime import run_tflite
from other_pythons import python_with

from birdnet_fs.export.parity.compare import expected_outputs
from birdnet_fs.export.tflite import edit as flatbuffer
from birdnet_fs.export.tflite.wrappers import SMALLEST_POSITIVE

N_CLASSES = 4
WAYS = [("probabilities", "sigmoid"), ("probabilities", "softmax"), ("log_odds", "softmax")]
# written once on the TensorFlow backend: a network of two outputs, and each output model
WORK = """
import sys, keras
from pathlib import Path
from keras import layers
from birdnet_fs.export.tflite import convert, wrappers
folder = Path(sys.argv[1])
x = keras.Input((4,), name="x")
network = keras.Model(x, {"predictions": layers.Rescaling(1.0)(x), "embeddings": layers.Rescaling(2.0)(x)})
convert.convert_model(network, (None, 4), "x", folder / "network.tflite")
for way in sys.argv[2:]:
    output_kind, activation = way.split(",")
    model, file = wrappers.output_model(output_kind, activation, 4), folder / f"{output_kind}_{activation}.tflite"
    convert.convert_model(model, (None, 4), "logits", file)
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    need("tensorflow")
    place = tmp_path_factory.mktemp("ends")
    random = np.random.default_rng(1)
    logits = random.normal(0, 1, (12, N_CLASSES)) * np.geomspace(0.1, 30, 12)[:, None]
    logits[0] = 2.5  # all equal
    logits[1] = [7, 7, -3, 1]  # two are the best
    logits[2] = [300, -300, 20, 10]  # as silence drives some networks
    logits[3] = [18, 0, 0, 0]  # 1 - p has no digit left in float32
    np.save(place / "x.npy", logits.astype(np.float32))
    run = preloaded.run_python(["-c", WORK, place, *(",".join(way) for way in WAYS)])
    assert run.returncode == 0, run.stderr
    flatbuffer.order_outputs(place / "network.tflite", ["predictions", "embeddings"])
    return place


def defined(logits: np.ndarray, output_kind: str, activation: str) -> np.ndarray:
    """Class by class: its sigmoid, its share of the powers, or the logarithm of that share against what is left."""
    found = np.zeros(logits.shape, np.longdouble)
    for row, given in zip(found, logits.astype(np.longdouble), strict=True):
        for i, own in enumerate(given):
            others = np.delete(np.exp(given - given.max()), i).sum()
            if activation == "sigmoid":
                row[i] = 1 / (1 + np.exp(-own))
            elif output_kind == "probabilities":
                row[i] = np.exp(own - given.max()) / np.exp(given - given.max()).sum()
            else:
                row[i] = own - given.max() - np.log(max(others, np.longdouble(SMALLEST_POSITIVE)))
    return found.astype(np.float64)


@pytest.mark.parametrize(("output_kind", "activation"), WAYS)
def test_first_output_of_two_follows_the_definition(folder, tmp_path, output_kind, activation):
    logits, file = np.load(folder / "x.npy"), tmp_path / "joined.tflite"
    wanted = defined(logits, output_kind, activation)
    scale = np.maximum(1, np.abs(wanted))
    asked = expected_outputs(logits, output_kind, activation)  # as used in the comparison
    assert np.abs(asked - wanted).max() <= tolerances.LOG_ODDS_FLOAT64
    flatbuffer.join_models(folder / "network.tflite", folder / f"{output_kind}_{activation}.tflite", file)
    for batch in (1, 4):
        found, doubled = run_tflite(file, folder / "x.npy", tmp_path / "o.npz", batch=batch)
        assert (np.abs(found - wanted) / scale).max() <= tolerances.LOG_ODDS and (doubled == 2 * logits).all()
    from ai_edge_litert.interpreter import Interpreter

    runner = Interpreter(model_path=str(file)).get_signature_runner()
    by_name = runner(x=logits[:1])
    assert (by_name["predictions"] == found[:1]).all() and (by_name["embeddings"] == doubled[:1]).all()


def test_sigmoid_of_log_odds_is_the_softmax(folder):
    logits = np.load(folder / "x.npy")
    sigmoid = 1 / (1 + np.exp(-expected_outputs(logits, "log_odds", "softmax")))
    assert np.abs(sigmoid - defined(logits, "probabilities", "softmax")).max() <= tolerances.FLOAT64_SUMS


@pytest.mark.slow
def test_tflite_runtime_computes_log_odds(folder, tmp_path):
    python = str(python_with("tflite-runtime", "requirements-tflite_runtime.txt"))
    logits, file = np.load(folder / "x.npy"), tmp_path / "joined.tflite"
    wanted = defined(logits, "log_odds", "softmax")
    flatbuffer.join_models(folder / "network.tflite", folder / "log_odds_softmax.tflite", file)
    for batch in (1, 4):
        found, _ = run_tflite(file, folder / "x.npy", tmp_path / "o.npz", batch=batch, python=python)
        assert (np.abs(found - wanted) / np.maximum(1, np.abs(wanted))).max() <= tolerances.LOG_ODDS
