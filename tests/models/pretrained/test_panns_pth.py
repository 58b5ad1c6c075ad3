"""PANNs' checkpoints: made by plain PyTorch networks, read into ours, compared layer by layer; and what is refused."""

import os
import re
from pathlib import Path

import keras
import numpy as np
import pytest
import tolerances
import torch
from narrow_panns import decibels, narrow
from reference_panns import NETWORKS, Panns, with_fitting_statistics
from torch import nn

from birdnet_fs import models
from birdnet_fs.core.errors import UserError
from birdnet_fs.models import panns, pretrained
from birdnet_fs.models.pretrained import panns_pth, torch_file

WIDTH = 4  # divides all channels
FRONT_END = {  # of the published Cnn14 at 32 kHz
    "spectrogram_extractor.stft.conv_real.weight": (513, 1, 1024),
    "spectrogram_extractor.stft.conv_imag.weight": (513, 1, 1024),
    "logmel_extractor.melW": (513, 64),
}


@pytest.fixture(params=NETWORKS)
def variant(request, monkeypatch) -> str:
    monkeypatch.setitem(panns.VARIANTS, request.param, narrow(request.param, WIDTH))
    return request.param


def trained(variant: str, n_classes: int = 5, n_mels: int = 64) -> Panns:
    torch.manual_seed(0)
    return with_fitting_statistics(NETWORKS[variant](n_mels, n_classes, WIDTH), decibels(4, 40, n_mels))


def checkpoint(network: Panns, file: Path, **saving) -> Path:
    """As the authors' trainer writes it: front-end kernels in the state dict, the sampler's NumPy arrays beside it."""
    state = {**{name: torch.zeros(shape) for name, shape in FRONT_END.items()}, **network.state_dict()}
    sampler = {"indexes_per_class": [np.arange(3), np.arange(4)], "queue": [1, 2], "pointers_of_classes": [0, 1]}
    torch.save({"iteration": 600_000, "model": state, "sampler": sampler, "seen": np.float64(0.5)}, file, **saving)
    return file


def network_of(variant: str, n_classes: int = 5, n_mels: int = 64, **settings) -> keras.Model:
    return models.build(f"panns/{variant}", input_shape=(40, n_mels, 1), n_classes=n_classes, **settings)


def test_every_layer_answers_as_the_network_that_was_saved(variant, tmp_path):
    network, model, x = trained(variant), network_of(variant), decibels(2, 40, 64)
    assert pretrained.load(model, checkpoint(network, tmp_path / "m.pth"), name=f"panns/{variant}")
    norm, dense = nn.BatchNorm2d, nn.Linear
    kinds = {"Conv2D": nn.Conv2d, "DepthwiseConv2D": nn.Conv2d, "BatchNormalization": norm, "Dense": dense}
    expected: dict[type, list[torch.Tensor]] = {kind: [] for kind in kinds.values()}
    for module in network.modules():
        if type(module) in expected:
            module.register_forward_hook(lambda module, _, output: expected[type(module)].append(output.detach()))
    logits = network(x)
    layers = [layer for layer in model.layers if type(layer).__name__ in kinds]
    with torch.no_grad():
        got = keras.Model(model.input, [layer.output for layer in layers])(x, training=False)
    for layer, ours in zip(layers, got, strict=True):
        theirs = expected[kinds[type(layer).__name__]].pop(0)
        if layer.name == "bn0":  # [batch, mel, time, 1] there
            theirs = theirs.transpose(1, 3)
        elif layer.name == "embedding":
            theirs = theirs.relu()
        theirs = theirs.permute(0, 2, 3, 1) if theirs.ndim == 4 else theirs
        error = (ours - theirs).abs().max() / theirs.abs().max()
        assert float(error) <= tolerances.PYTORCH_TWIN, layer.name
    assert not any(expected.values()) and torch.equal(theirs, logits)


def test_files_of_old_and_new_torch_hold_the_same(tmp_path, monkeypatch):
    monkeypatch.setitem(panns.VARIANTS, "mobilenet_v2", narrow("mobilenet_v2", WIDTH))
    network = trained("mobilenet_v2")
    files = [checkpoint(network, tmp_path / "new.pth")]
    files.append(checkpoint(network, tmp_path / "old.pth", _use_new_zipfile_serialization=False))
    files.append(tmp_path / "old_numpy.pth")  # NumPy 1 named its functions so
    files[-1].write_bytes(files[1].read_bytes().replace(b"numpy._core.", b"numpy.core."))
    files.append(tmp_path / "bare.pth")
    torch.save(network.state_dict(), files[-1])
    expected = panns_pth.mapped(torch_file.read(files[0]), "mobilenet_v2")
    for file in files[1:]:
        values = panns_pth.mapped(torch_file.read(file), "mobilenet_v2")
        assert values.keys() == expected.keys()
        assert all(np.array_equal(values[path], expected[path]) for path in values)


@pytest.mark.parametrize("name", NETWORKS)
def test_the_published_shapes_fill_every_variable_of_the_full_network(name):
    with torch.device("meta"):
        published = NETWORKS[name]().state_dict()
    shapes = {**FRONT_END, **{tensor: tuple(value.shape) for tensor, value in published.items()}}
    if name == "cnn14":  # as a checkpoint's listing shows them
        assert shapes["conv_block1.conv1.weight"] == (64, 1, 3, 3)
        assert shapes["conv_block6.bn2.running_var"] == (2048,)
        assert shapes["fc_audioset.weight"] == (527, 2048)
    state = {tensor: np.broadcast_to(np.float32(0), shape) for tensor, shape in shapes.items()}
    values = panns_pth.mapped(state, name)
    model = network_of(name, n_classes=527)
    assert {path: value.shape for path, value in values.items()} == {v.path: tuple(v.shape) for v in model.weights}


def test_the_class_layer_is_set_only_where_it_fits(tmp_path, monkeypatch):
    monkeypatch.setitem(panns.VARIANTS, "mobilenet_v1", narrow("mobilenet_v1", WIDTH))
    network = trained("mobilenet_v1", n_classes=527)
    file = checkpoint(network, tmp_path / "m.pth")
    own, other = network_of("mobilenet_v1", n_classes=527), network_of("mobilenet_v1", n_classes=3)
    before = other.get_layer("logits").get_weights()
    assert pretrained.load(own, file, name="panns/mobilenet_v1")
    assert not pretrained.load(other, file, name="panns/mobilenet_v1")
    assert np.array_equal(own.get_layer("logits").get_weights()[0], network.fc_audioset.weight.detach().numpy().T)
    assert all(np.array_equal(a, b) for a, b in zip(before, other.get_layer("logits").get_weights(), strict=True))
    for model in (own, other):
        embedding = model.get_layer("embedding").get_weights()
        assert np.array_equal(embedding[0], network.fc1.weight.detach().numpy().T)


def test_tensors_that_do_not_fit_are_named(tmp_path, monkeypatch):
    monkeypatch.setitem(panns.VARIANTS, "mobilenet_v2", narrow("mobilenet_v2", WIDTH))
    file = checkpoint(trained("mobilenet_v2"), tmp_path / "m.pth")
    state = torch_file.read(file)
    state["att_block.att.weight"] = state.pop("features.1.conv.4.weight")
    with pytest.raises(UserError, match=re.escape("1 missing: features.1.conv.4.weight; 1 unexpected: att_block.att")):
        panns_pth.mapped(state, "mobilenet_v2")
    with pytest.raises(UserError, match=r"panns/cnn14\..* missing: conv_block1.*, \.\.\.; .* unexpected: features"):
        panns_pth.mapped(state, "cnn14")
    with pytest.raises(UserError, match=re.escape("bn0/gamma (64,) (here (80,))")):
        pretrained.load(network_of("mobilenet_v2", n_mels=80), file, name="panns/mobilenet_v2")


class Code:
    """What a pickle may hold: a call of anything."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self):
        return os.mkdir, (str(self.file),)


def test_files_that_are_no_checkpoints_are_refused_and_run_nothing(tmp_path):
    marker, file = tmp_path / "ran", tmp_path / "m.pth"
    for saving in ({}, {"_use_new_zipfile_serialization": False}):
        torch.save({"model": Code(marker)}, file, **saving)
        with pytest.raises(UserError, match=r"it holds \w+\.mkdir, which is never executed"):
            torch_file.read(file)
        assert not marker.exists()
        torch.save({"model": {"bn0.weight": torch.ones(1000)}}, file, **saving)
        whole = file.read_bytes()
        for n in (0, 1, len(whole) // 3, len(whole) - 100):
            file.write_bytes(whole[:n])
            with pytest.raises(UserError, match=r"m\.pth is not a readable state dict of torch"):
                torch_file.read(file)
    for content in (torch.ones(3), {"model": 3}, {"epoch": 1}, [torch.ones(3)]):
        torch.save(content, file)
        with pytest.raises(UserError, match="it holds no tensors by name"):
            torch_file.read(file)
    with pytest.raises(UserError, match="No such file"):
        torch_file.read(tmp_path / "none.pth")
