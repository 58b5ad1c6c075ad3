"""Weights of images in networks of other channels, and what does not fit."""

import functools

import h5py
import narrow_panns
import numpy as np
import pytest
import tolerances
import torch
from image_networks import difference, embedding, legacy

from birdnet_fs import models
from birdnet_fs.core.errors import UserError
from birdnet_fs.models import panns, pretrained


@pytest.mark.parametrize("n_channels", [1, 2])
def test_equal_channels_answer_as_a_gray_picture(n_channels, saved, small_convnext, tmp_path):
    gray = np.random.default_rng(1).normal(size=(4, 64, 64, 1)).astype(np.float32)
    files = {"efficientnet_v2/b0": saved, "convnext/tiny": legacy(small_convnext, tmp_path / "convnext.h5")}
    for name, file in files.items():
        (in_color, color), (in_gray, ours) = embedding(name, 3), embedding(name, n_channels)
        pretrained.load(in_color, file, name=name)
        pretrained.load(in_gray, file, name=name)
        stem = in_color.get_layer("stem_conv").kernel.numpy()
        for i in range(n_channels):
            np.testing.assert_allclose(in_gray.get_layer("stem_conv").kernel.numpy()[:, :, i], stem.mean(2), rtol=1e-6)
        if name.startswith("efficientnet"):  # what is added to a variance has to shrink with it
            color.get_layer("stem_bn").epsilon *= (3 / n_channels) ** 2
        with torch.no_grad():
            expected = color(torch.from_numpy(gray.repeat(3, -1)), training=False)
        assert difference(ours, gray.repeat(n_channels, -1), expected) <= tolerances.KERAS_TWIN, name


def test_what_does_not_fit_is_named_and_nothing_is_set(saved):
    model, _ = embedding("efficientnet_v2/b0", 3)
    with h5py.File(saved, "a") as odd:
        odd.attrs["layer_names"] = [
            b"extra" if name == "block2b_project_conv" else name.encode() for name in odd.attrs["layer_names"]
        ]
        odd.create_group("extra").attrs["weight_names"] = [b"extra/kernel"]
        odd["extra"]["extra/kernel"] = np.zeros(3, np.float32)
        del odd["top_bn/top_bn/beta"]
        odd["top_bn/top_bn/beta"] = np.zeros(7, np.float32)
    before = [v.numpy().copy() for v in model.weights]
    with pytest.raises(UserError) as caught:
        pretrained.load(model, saved, name="efficientnet_v2/b0")
    assert str(caught.value).endswith(
        "w.h5 do not fit the network efficientnet_v2_b0: 1 missing: block2b_project_conv/kernel; 1 too many: extra; "
        "1 of another shape: top_bn/beta (7,) (here (1280,))."
    )
    assert all(np.array_equal(a, v.numpy()) for a, v in zip(before, model.weights, strict=True))
    other, _ = embedding("efficientnet_v2/b1", 1)
    with pytest.raises(UserError, match=r"missing: block2b_project_conv/kernel, .*, \.\.\.; 1 too many: extra; "):
        pretrained.load(other, saved, name="efficientnet_v2/b1")


@pytest.mark.parametrize(
    ("name", "file", "words"),
    [
        (
            "convnext/tiny",
            "none.h5",
            "or a run folder that exists; convnext/tiny takes torchvision's .*Received: '.*none.h5'",
        ),
        ("resnet/18", "w.h5", r"of resnet/18 must be a file of \.pth, \.pt, \.bin, \.safetensors or a run folder of"),
        ("convnext", "w.npz", r"of convnext/tiny must be a file of \.h5, \.keras, \.pth, .* or a run folder"),
        ("cnn", "w.h5", "of cnn/small must be a run folder of cnn/small"),
    ],
)
def test_files_of_no_known_kind_are_refused(name, file, words, tmp_path):
    for known in ("w.h5", "w.npz"):
        (tmp_path / known).touch()
    with pytest.raises(UserError, match=words):
        pretrained.load(embedding(name, 1)[0], tmp_path / file, name=name)


def test_an_embedding_that_the_head_does_not_use_is_left_out(monkeypatch):
    monkeypatch.setitem(panns.VARIANTS, "mobilenet_v1", narrow_panns.narrow("mobilenet_v1", 16))
    build = functools.partial(models.build, "panns/mobilenet_v1", input_shape=(64, 64, 1), n_classes=3)
    linear, sed = build(), build(head="sed")
    values = {v.path: v.numpy() for v in linear.weights if "seed_generator" not in v.path}
    assert "embedding/kernel" in values and "embedding/kernel" not in {v.path for v in sed.weights}
    assert not pretrained.set_weights(sed, values, source="a run", head=False)
    np.testing.assert_array_equal(
        sed.get_layer("block1_pointwise_conv").kernel.numpy(), values["block1_pointwise_conv/kernel"]
    )
    with pytest.raises(UserError, match="2 missing: embedding/kernel, embedding/bias"):
        pretrained.set_weights(linear, {v.path: v.numpy() for v in sed.weights}, source="a run", head=False)
