"""Weights of keras.applications: every layout, equal outputs, and damaged or hostile files."""

import zipfile
from pathlib import Path

import h5py
import keras
import numpy as np
import pytest
import tolerances
import torch
from image_networks import DEVIATION, MEAN, WRITERS, difference, embedding, legacy, of_pictures, varied
from keras.src.applications.convnext import ConvNeXt
from keras.src.legacy.saving import legacy_h5_format

from birdnet_fs.core.errors import UserError
from birdnet_fs.models import pretrained


@pytest.mark.parametrize("kind", WRITERS)
def test_efficientnet_answers_as_keras_network_that_was_saved(kind, small_efficientnet, pictures, tmp_path):
    whole, ours = embedding("efficientnet_v2/b0", 3)
    assert not pretrained.load(whole, WRITERS[kind](small_efficientnet, tmp_path / kind), name="efficientnet_v2/b0")
    with torch.no_grad():
        expected = small_efficientnet(torch.from_numpy(pictures), training=False)
    assert difference(ours, of_pictures("efficientnet_v2/b0", pictures), expected) <= tolerances.KERAS_TWIN


def test_b0_answers_as_keras_network_behind_its_standardization(pictures, tmp_path):
    """The file of the published network: mean and variance are those of images (Keras' comment: the deviations)."""
    keras.utils.set_random_seed(0)
    network = varied(
        keras.applications.EfficientNetB0(include_top=False, weights=None, input_shape=(64, 64, 3), pooling="avg"),
        pictures,
    )
    standardize = network.get_layer(network.layers[2].name)
    standardize.adapt_mean.assign(MEAN)
    standardize.adapt_variance.assign(DEVIATION)
    whole, ours = embedding("efficientnet/b0", 3)
    pretrained.load(whole, legacy(network, tmp_path / "w.h5"), name="efficientnet/b0")
    x = of_pictures("efficientnet/b0", pictures).astype(np.float32)
    behind = keras.Model(network.layers[2].output, network.output)
    with torch.no_grad():
        expected = behind(torch.from_numpy(x), training=False)
    assert difference(ours, x, expected) <= tolerances.KERAS_TWIN


@pytest.mark.slow
@pytest.mark.parametrize("variant", ["b0", "b1", "b2", "b3", "s"])
def test_the_published_sizes_answer_as_keras_networks(variant, pictures, tmp_path):
    make = getattr(keras.applications, f"EfficientNetV2{variant.upper()}")
    keras.utils.set_random_seed(0)
    network = varied(make(include_top=False, weights=None, input_shape=(64, 64, 3), pooling="avg"), pictures)
    whole, ours = embedding(f"efficientnet_v2/{variant}", 3)
    pretrained.load(whole, legacy(network, tmp_path / "w.h5"), name=f"efficientnet_v2/{variant}")
    with torch.no_grad():
        expected = network(torch.from_numpy(pictures), training=False)
    assert difference(ours, of_pictures(f"efficientnet_v2/{variant}", pictures), expected) <= tolerances.KERAS_TWIN


@pytest.mark.parametrize("kind", WRITERS)
def test_convnext_answers_as_keras_network_that_was_saved(kind, small_convnext, pictures, tmp_path):
    whole, ours = embedding("convnext/tiny", 3)
    pretrained.load(whole, WRITERS[kind](small_convnext, tmp_path / kind), name="convnext")
    before_norm = keras.Model(small_convnext.input, small_convnext.layers[-2].output)
    with torch.no_grad():
        expected = before_norm(torch.from_numpy(pictures), training=False)
    assert difference(ours, of_pictures("convnext/tiny", pictures), expected) <= tolerances.KERAS_TWIN


def test_what_makes_classes_of_pictures_is_left_out(small_convnext, pictures, tmp_path):
    network = ConvNeXt((1, 1, 2, 1), (8, 12, 16, 24), name="convnext_tiny", weights=None, input_shape=(64, 64, 3))
    whole, _ = embedding("convnext/tiny", 3)
    assert not pretrained.load(whole, legacy(network, tmp_path / "w.h5"), name="convnext/tiny")
    kernel = network.get_layer("convnext_tiny_stage_3_block_0_pointwise_conv_2").kernel
    assert np.array_equal(whole.get_layer("block4a_project").kernel.numpy(), kernel.numpy())


def linked(file: Path) -> None:
    with h5py.File(file, "a") as opened:
        del opened["stem_conv"]
        opened["stem_conv"] = h5py.ExternalLink("elsewhere.h5", "stem_conv")


def compressed(file: Path) -> None:
    """A few bytes that would become gigabytes."""
    with h5py.File(file, "a") as opened:
        del opened["stem_conv/stem_conv/kernel"]
        opened.create_dataset("stem_conv/stem_conv/kernel", (10**6, 10**6), "float32", chunks=True, compression="gzip")


def elsewhere(file: Path) -> None:
    with h5py.File(file, "a") as opened:
        del opened["stem_conv/stem_conv/kernel"]
        opened.create_dataset("stem_conv/stem_conv/kernel", (4,), "float32", external=[("/etc/hostname", 0, 16)])


def truncate(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:100_000])


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (truncate, "truncated file"),
        (lambda file: file.write_bytes(b"no HDF5" * 100), "is not a readable file of Keras weights"),
        (lambda file: h5py.File(file, "w").close(), "it holds no layers"),
        (linked, "'stem_conv' is missing or a link"),
        (compressed, "is not stored as plain data"),
        (elsewhere, "is not stored as plain data"),
    ],
)
def test_a_damaged_or_hostile_keras_file_is_refused_in_one_sentence(spoil, words, saved):
    spoil(saved)
    with pytest.raises(UserError, match=r"w\.h5 is not a readable file of Keras weights") as caught:
        pretrained.load(embedding("efficientnet_v2/b0", 1)[0], saved, name="efficientnet_v2/b0")
    assert words in str(caught.value) and "\n" not in str(caught.value)


def test_an_archive_that_grows_or_is_none_is_refused(tmp_path):
    model, _ = embedding("convnext/tiny", 1)
    with zipfile.ZipFile(tmp_path / "w.keras", "w", zipfile.ZIP_DEFLATED) as opened:
        opened.writestr("model.weights.h5", bytes(10**6))
    with pytest.raises(UserError, match="compressed, which Keras does not do"):
        pretrained.load(model, tmp_path / "w.keras", name="convnext/tiny")
    (tmp_path / "w.keras").write_bytes(b"PK")
    with pytest.raises(UserError, match=r"w\.keras is not a readable file"):
        pretrained.load(model, tmp_path / "w.keras", name="convnext/tiny")


def test_names_too_long_for_one_attribute_are_put_together(small_convnext, tmp_path, monkeypatch):
    monkeypatch.setattr(legacy_h5_format, "HDF5_OBJECT_HEADER_LIMIT", 600)
    with h5py.File(legacy(small_convnext, tmp_path / "w.h5")) as opened:
        assert "layer_names1" in opened.attrs
    pretrained.load(embedding("convnext/tiny", 1)[0], tmp_path / "w.h5", name="convnext/tiny")
