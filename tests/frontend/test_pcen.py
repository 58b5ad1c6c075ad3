"""PCEN against librosa, its running mean against scipy's filter, and settings that conflict."""

import dataclasses
import json

import keras
import numpy as np
import pytest
import reference_frontend as reference
import scipy.signal
import tolerances
from installed import need
from receiving import module
from signals import sounds

from birdnet_fs.core.errors import UserError
from birdnet_fs.frontend import in_keras, preset
from birdnet_fs.frontend.definition import define
from birdnet_fs.frontend.in_numpy import log_mel, log_mel_reference
from birdnet_fs.frontend.pcen import _running_mean, smoother
from birdnet_fs.schema import FrontEnd

BARE = dataclasses.replace(preset("fewshot_pcen"), normalize="none", keep_frames=0, segment_s=1.0)
SETTINGS = {
    "librosa": {},
    "long mean from the first frame": {"pcen_start": "first", "pcen_time_constant_s": 2.0},
    "flight calls": {  # Lostanlen et al. 2019, "Robust sound event detection in bioacoustic sensor networks"
        "pcen_gain": 0.8, "pcen_bias": 10.0, "pcen_power": 0.25, "pcen_time_constant_s": 0.06, "pcen_scale": 2.0**62
    },
    "logarithm": {"pcen_power": 0.0, "pcen_eps": 1e-3},
    "no gain control": {"pcen_gain": 0.0, "pcen_scale": 1.0},
    "mean of one frame": {"pcen_time_constant_s": 1e-4, "pcen_gain": 0.5, "pcen_scale": 1.0},
    "waveform in +-1": {"pcen_scale": 1.0},
}  # fmt: skip
ALL = pytest.mark.parametrize("changes", SETTINGS.values(), ids=SETTINGS)


@ALL
def test_every_execution_agrees_with_librosa(changes):
    spec = dataclasses.replace(BARE, **changes)
    x = sounds(spec, 2)
    expected = np.stack([reference.decibels(row, spec) for row in x])
    largest = max(1.0, np.abs(expected).max() / 13)  # without gain control as large as the energies
    for given in (log_mel(x, spec), log_mel_reference(x, spec), *(in_graph(x, spec, t) for t in ("rfft", "dft"))):
        assert given.shape == expected.shape and given.min() >= 0
        assert np.abs(given - expected).max() <= tolerances.FRONTEND_PCEN * largest


@ALL
def test_stand_alone_reader_agrees_with_librosa(changes):
    spec = dataclasses.replace(BARE, **changes)
    row, definition = sounds(spec, 1)[0], define(spec, spec.n_samples)
    given = module("reading").log_mel(row, spec.to_artifact(), {"window": definition.window, "bands": definition.bands})
    expected = reference.decibels(row, spec)
    assert np.abs(given - expected).max() <= tolerances.FRONTEND_PCEN * max(1.0, np.abs(expected).max() / 13)


def in_graph(x, spec, transform):
    return keras.ops.convert_to_numpy(in_keras.log_mel(x, spec, transform))


@pytest.mark.parametrize("start", ["one", "first"])
@pytest.mark.parametrize("n_frames", [1, 2, 3, 10, 23, 512, 530, 3000])
def test_running_mean_equals_scipys_filter(n_frames, start):
    spec = dataclasses.replace(BARE, pcen_start=start)
    x = np.random.default_rng(0).exponential(size=(2, n_frames, 3))
    x[:, n_frames // 3 :] *= 1e-6  # rounding errors of loud frames must not remain in a quiet mean
    rate = smoother(spec, n_frames).rate
    before = np.ones((2, 1, 3)) if start == "one" else x[:, :1]
    expected, _ = scipy.signal.lfilter([rate], [1, rate - 1], x, axis=1, zi=(1 - rate) * before)
    given = _running_mean(x.astype(np.float32), spec, smoother(spec, n_frames), np)
    assert (np.abs(given - expected) <= tolerances.FRONTEND_SMOOTHER * np.maximum(expected, 1e-3)).all()


def test_silence_after_a_sound_gives_zero():
    x = sounds(BARE, 1)[0]
    x[len(x) // 2 :] = 0
    for given in (log_mel(x, BARE), in_graph(x, BARE, "dft")):
        assert given[0, len(given[0]) // 2 + 3 :].max() == 0


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"top_db": 60.0}, "frontend.top_db is for a logarithm and must be 80.0 with frontend.compression=pcen"),
        ({"ref": "max"}, "frontend.ref is for a logarithm and must be 'one'"),
        ({"amin": 1e-8}, "frontend.amin is for a logarithm"),
        ({"normalize": "db_range"}, "normalize=db_range is for dB; set none, min_max or z_score"),
        ({"pcen_bias": 0.0}, "frontend.pcen_bias must be above 0. Received: 0.0"),
        ({"pcen_time_constant_s": 0.0}, "frontend.pcen_time_constant_s must be above 0"),
        ({"pcen_eps": 0.0}, "frontend.pcen_eps must be above 0"),
        ({"pcen_eps": 1e-30}, "set a larger frontend.pcen_eps. Received: 1e-30"),
        ({"pcen_gain": -0.1}, "frontend.pcen_gain must be in [0, 2]"),
        ({"pcen_power": 3.0}, "frontend.pcen_power must be in [0, 2]"),
        ({"pcen_scale": 0.0}, "frontend.pcen_scale must be above 0"),
        (
            {"compression": "db", "pcen_gain": 0.8},
            "frontend.pcen_gain needs frontend.compression=pcen; it must be 0.98 with",
        ),
    ],
)
def test_conflicting_settings_are_refused(changes, words):
    with pytest.raises(UserError) as caught:
        dataclasses.replace(BARE, **changes)
    assert words in str(caught.value) and "\n" not in str(caught.value)


def test_pcen_on_presets_without_top_db():
    assert dataclasses.replace(preset("panns"), compression="pcen").top_db == 0  # no limit stays no limit
    assert dataclasses.replace(preset("fewshot"), compression="pcen", preset="fewshot_pcen") == preset("fewshot_pcen")
    assert FrontEnd.from_artifact({"compression": "pcen"}).pcen_scale == 2**31


@pytest.mark.slow
@pytest.mark.shared
def test_exported_pcen_network_passes_verification(tmp_path, shared_data):
    """A TFLite file with the front-end inside, on real recordings with bands 140 dB below their calls."""
    need("tensorflow")
    from birdnet_fs import schema
    from birdnet_fs.export import export as exporter
    from birdnet_fs.runs.run import build_network, model_weights, save_run

    keras.utils.set_random_seed(7)
    experiment = schema.Experiment(frontend=preset("fewshot_pcen"), model=schema.Model(name="cnn/tiny"))
    weights = model_weights(build_network(experiment, 3))
    weights["logits/kernel"] = weights["logits/kernel"] * 50  # logits apart by about as much as trained ones
    run = save_run(tmp_path / "run", experiment, ("a", "b", "c"), weights)
    exporter.export_run(
        run, tmp_path / "out", input="waveform", precision=("fp32",), audio=shared_data / "audio", n_segments=60
    )
    proof = json.loads((tmp_path / "out" / "parity.json").read_text())["run.tflite"]
    (parity,) = proof["runtimes"].values()
    assert not parity["faults"] and parity["max_abs_logit"] > 3
    assert parity["max_abs"] <= tolerances.EXPORT_FP32_LOGITS
