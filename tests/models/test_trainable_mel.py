"""The trainable mel matrix: published numbers of weights, librosa's energies, gradients, and as part of a run."""

from pathlib import Path

import keras
import librosa
import numpy as np
import pytest
import tolerances
import torch
from signals import SPECTRUM, sounds

from birdnet_fs import models, schema
from birdnet_fs.core.errors import UserError
from birdnet_fs.frontend.in_numpy import log_mel, network_input
from birdnet_fs.frontend.presets import preset
from birdnet_fs.models.lowering.lower import as_module, lower
from birdnet_fs.models.trainable_mel import TrainableMel
from birdnet_fs.motifs.tile2vec.settings import Tile2VecSettings
from birdnet_fs.runs.run import load_run, model_weights, save_run


def encoder(variant: str, mel: str = "log") -> keras.Model:
    spec = Tile2VecSettings(variant=variant).frontend
    whole = models.build(f"tilenet/{variant}", input_shape=(*spec.shape, 1), n_classes=1, trainable_mel=mel)
    return keras.Model(whole.input, whole.get_layer("embedding").output)


@pytest.mark.parametrize(
    ("variant", "n_mel", "n_convolutions"),
    [("v2", 131_136, 867_392), ("v4", 131_136, 20_872_128), ("v5", 262_272, 20_872_128)],
)
def test_parameter_counts_are_the_published_ones(variant: str, n_mel: int, n_convolutions: int) -> None:
    with keras.device("meta"):
        model = encoder(variant)
    count = {v.path: int(np.prod(v.shape)) for v in model.trainable_weights}
    assert count.pop("mel/kernel") == n_mel
    assert sum(count.values()) == n_convolutions
    assert variant != "v2" or n_mel + n_convolutions == 998_528


def test_front_end_of_the_published_network_is_the_power_spectrum() -> None:
    assert Tile2VecSettings().frontend == SPECTRUM


def test_power_spectrum_and_first_mel_matrix_are_those_of_librosa() -> None:
    x = sounds(SPECTRUM, 3)
    power = log_mel(x, SPECTRUM)
    for row, segment in zip(power, x, strict=True):
        expected = (
            np.abs(librosa.stft(segment.astype(np.float64), n_fft=4096, hop_length=2474, pad_mode="reflect")) ** 2
        )
        np.testing.assert_allclose(row, expected.T, rtol=1e-3, atol=tolerances.SPECTRUM * expected.max())
    published = preset("tilenet")
    for log, compression in ((True, "log"), (False, "none")):
        layer = TrainableMel(64, log=log)
        got = keras.ops.convert_to_numpy(layer(network_input(power, SPECTRUM)))[..., 0]
        wanted = log_mel(x, schema.FrontEnd(**{**vars(published), "compression": compression}))
        limit = tolerances.FRONTEND_FLOAT32["tilenet"] if log else tolerances.SPECTRUM * wanted.max()
        assert np.abs(got - wanted).max() <= limit


def test_logarithm_ignores_negative_weights_and_bands_do_not_widen() -> None:
    layer = TrainableMel(8)
    power = torch.rand(2, 5, 65, 1) + 0.1
    layer.build(tuple(power.shape))
    outside = layer.kernel.value.detach() == 0
    with torch.no_grad():
        layer.kernel.value[10, 3] = -5.0
    out = layer(power)
    assert torch.isfinite(out).all()
    out.sum().backward()
    assert torch.isfinite(layer.kernel.value.grad).all()
    assert float(layer.kernel.value.grad[outside].abs().max()) == 0.0
    assert float(layer.kernel.value.grad[~outside].abs().max()) > 0.0
    silent = layer(torch.zeros(1, 5, 65, 1))
    silent.sum().backward()
    assert torch.isfinite(layer.kernel.value.grad).all() and torch.isfinite(silent).all()
    twin = TrainableMel.from_config(layer.get_config())
    assert (twin.n_mels, twin.log) == (8, True)


def test_lowered_network_and_module_for_exports_agree_with_keras() -> None:
    model = models.build("tilenet/v2", input_shape=(65, 129, 1), n_classes=2, trainable_mel="log")
    x = torch.rand(2, 65, 129, 1)
    with torch.no_grad():
        expected = model(x, training=False)
        for network in (lower(model), lower(model, fold=True), as_module(model)):
            torch.testing.assert_close(network(x), expected, rtol=0.0, atol=tolerances.PYTORCH_TWIN)
        with torch.autocast("cpu", torch.bfloat16):
            mel = model.get_layer("mel")(x)
        torch.testing.assert_close(mel, model.get_layer("mel")(x), rtol=0.0, atol=0.0)


def test_run_is_opened_with_its_trained_matrix(tmp_path: Path) -> None:
    experiment = Tile2VecSettings().experiment("run")
    run = save_run(tmp_path / "run", experiment, ("a",), _changed_weights(experiment))
    model = load_run(run.path).build_model()
    assert float(model.get_layer("mel").kernel.value.detach().max()) == 7.0


def _changed_weights(experiment: schema.Experiment) -> dict[str, np.ndarray]:
    from birdnet_fs.runs.run import build_network

    weights = model_weights(build_network(experiment, 1))
    weights["mel/kernel"][3, 5] = 7.0
    return weights


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"name": "cnn/small", "trainable_mel": "log"}, r"model\.trainable_mel is for model\.name=tilenet/v2"),
        ({"name": "tilenet/v2", "trainable_mel": "log", "quantized": True}, "set model.trainable_mel=none"),
    ],
)
def test_networks_without_the_option_and_8_bits_are_refused(settings: dict, words: str) -> None:
    with pytest.raises(UserError, match=words):
        models.check_model(schema.Model(**settings))


def test_front_end_must_be_the_power_spectrum() -> None:
    model = schema.Model(name="tilenet/v2", trainable_mel="log")
    with pytest.raises(UserError, match=r"reads the power spectrum: set frontend\.bands=spectrum"):
        schema.Experiment(model=model)
    with pytest.raises(UserError, match=r"must be 513, 0 and 16000\. Received: \(128, 50"):
        schema.FrontEnd(bands="spectrum")
