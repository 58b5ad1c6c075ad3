"""Front-ends on TensorFlow, in a separate process: in_keras, in_tf, TFLite, .keras files, tf.image.resize."""

import json
import os
from pathlib import Path

import keras
import numpy as np
import preloaded
import pytest
import reference_frontend as reference
import tolerances
from signals import SPECTRUM, TFLITE_PRESETS, short_clips, sounds

from birdnet_fs.frontend import PRESETS, in_keras
from birdnet_fs.frontend.in_numpy import log_mel
from birdnet_fs.frontend.matrices import resize_weights

HELPERS = Path(__file__).resolve().parents[1] / "helpers"
RESIZES = [(m, a, b) for m in ("lanczos5", "bilinear") for a, b in ((1200, 260), (261, 260), (100, 333))]


@pytest.fixture(scope="module")
def waveforms():
    image = np.random.default_rng(3).uniform(-80, 40, (1200, 7)).astype(np.float32)
    every = {**PRESETS, "spectrum": SPECTRUM}
    short = short_clips(PRESETS["fewshot"])
    return {**{name: sounds(spec, 3) for name, spec in every.items()}, "image": image, "short_clips": short}


@pytest.fixture(scope="module")
def folder(waveforms, tmp_path_factory):
    folder = tmp_path_factory.mktemp("tensorflow")
    np.savez(folder / "waveforms.npz", **waveforms)
    layer_model().save(folder / "torch.keras")
    environment = {"PYTHONPATH": os.pathsep.join([str(HELPERS.parents[1]), str(HELPERS)])}
    done = preloaded.run_python([HELPERS / "on_tensorflow.py", folder], environment=environment)
    assert done.returncode == 0, done.stderr[-3000:]
    return folder


@pytest.fixture(scope="module")
def results(folder):
    return np.load(folder / "tensorflow.npz")


def layer_model():
    """A network of the layer and a Dense, which has the only weights."""
    spec = PRESETS["birdnet_3s_48k"]
    inputs = keras.Input((spec.n_samples,), name="waveform")
    x = in_keras.FrontEndLayer(spec, "dft", name="frontend")(inputs)
    x = keras.layers.GlobalAveragePooling1D(name="pool")(x)
    return keras.Model(inputs, keras.layers.Dense(3, kernel_initializer="ones", name="logits")(x))


@pytest.mark.parametrize("name", PRESETS)
@pytest.mark.parametrize("execution", ["rfft", "dft", "in_tf"])
def test_features_agree_with_in_numpy(name, execution, waveforms, results):
    spec = PRESETS[name]
    expected = log_mel(waveforms[name], spec)
    tolerance = tolerances.FRONTEND_FLOAT32[name] if execution == "dft" else tolerances.FRONTEND_FLOAT64
    assert np.abs(results[f"{name}/{execution}"] - expected).max() <= tolerance


@pytest.mark.parametrize("execution", ["rfft", "dft", "rfft2d", "in_tf"])
def test_power_spectra_agree_with_in_numpy(execution, waveforms, results):
    expected = log_mel(waveforms["spectrum"], SPECTRUM)
    assert results[f"spectrum/{execution}"].shape == expected.shape == (3, 65, 2049)
    assert np.abs(results[f"spectrum/{execution}"] - expected).max() <= tolerances.SPECTRUM * expected.max()


@pytest.mark.parametrize("name", PRESETS)
@pytest.mark.parametrize("execution", ["rfft", "in_tf"])
def test_features_do_not_depend_on_the_batch(name, execution, results):
    assert np.array_equal(results[f"{name}/{execution}/neighbors"], results[f"{name}/{execution}"][0])


@pytest.mark.parametrize("name", TFLITE_PRESETS)
@pytest.mark.parametrize("transform", ["dft", "rfft2d"])
def test_tflite_file_has_builtins_only_and_agrees(name, transform, folder, waveforms, results):
    operators = json.loads((folder / "operators.json").read_text())[f"{name}/{transform}"]
    assert not [op for op in operators if op.startswith("Flex") or op == "CUSTOM"]
    assert ("RFFT2D" in operators) == (transform == "rfft2d")
    difference = np.abs(results[f"{name}/tflite/{transform}"] - log_mel(waveforms[name], PRESETS[name])).max()
    assert difference <= (tolerances.FRONTEND_RFFT2D if transform == "rfft2d" else tolerances.FRONTEND_FLOAT32[name])


@pytest.mark.parametrize("execution", ["in_tf", "rfft", "tflite/dft", "tflite/rfft2d"])
def test_short_clips_have_librosas_features_in_every_form(execution, waveforms, results, folder):
    spec = PRESETS["fewshot"]
    expected = np.stack([reference.features(clip, spec) for clip in waveforms["short_clips"]])
    assert np.abs(results[f"short_clips/{execution}"] - expected).max() <= tolerances.SHORT_CLIPS
    operators = json.loads((folder / "operators.json").read_text())
    assert not [op for t in ("dft", "rfft2d") for op in operators[f"short_clips/{t}"] if op.startswith("Flex")]


def test_tf_data_pipeline_agrees_with_in_numpy(waveforms, results):
    spec = PRESETS["birdnet_3s_48k"]
    assert np.abs(results["dataset"] - log_mel(waveforms[spec.preset], spec)).max() <= tolerances.FRONTEND_FLOAT64


def test_keras_file_from_torch_runs_on_tensorflow_and_back(folder, waveforms, results):
    x = waveforms["birdnet_3s_48k"]
    here = layer_model().predict(x, verbose=0)
    assert np.abs(results["from_torch"] - here).max() <= tolerances.FRONTEND_POOLED
    back = keras.models.load_model(folder / "tensorflow.keras")
    assert np.abs(back.predict(x, verbose=0) - here).max() <= tolerances.FRONTEND_POOLED
    assert back.get_layer("frontend").spec == PRESETS["birdnet_3s_48k"]


@pytest.mark.parametrize(("method", "n_in", "n_out"), RESIZES)
def test_resize_equals_tf_image_resize(method, n_in, n_out, waveforms, results):
    expected = results[f"resize/{method}/{n_in}/{n_out}"]
    ours = resize_weights(n_in, n_out, method) @ waveforms["image"][:n_in]
    assert np.abs(ours - expected).max() <= tolerances.FRONTEND_RESIZE * np.abs(expected).max()
