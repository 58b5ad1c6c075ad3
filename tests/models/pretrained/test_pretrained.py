"""Published weights: files as keras.applications and torchvision write them, read into ours, answers compared."""

import dataclasses
import functools
import os
import zipfile
from pathlib import Path

import convnext_twin
import h5py
import keras
import narrow_panns
import numpy as np
import pytest
import resnet_twin
import tolerances
import torch
import torch_twin
from keras.src.applications.convnext import ConvNeXt
from keras.src.applications.efficientnet_v2 import EfficientNetV2
from keras.src.legacy.saving import legacy_h5_format
from torch import nn

from birdnet_fs import models
from birdnet_fs.core.errors import UserError
from birdnet_fs.models import convnext, efficientnet_v2, panns, pretrained

MEAN, DEVIATION = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])  # of ImageNet's colors, in 0..1


def of_pictures(variant: str, pictures: np.ndarray) -> np.ndarray:
    """What keras.applications makes of pictures in 0..255 before its first convolution."""
    if variant == "efficientnet_v2/s":
        return pictures / 128 - 1
    return (pictures / 255 - MEAN) / DEVIATION


def varied(network: keras.Model, pictures: np.ndarray) -> keras.Model:
    """The network with no vector at its initial value, and moving statistics that fit the pictures."""
    generator = np.random.default_rng(0)
    norms = [layer for layer in network.layers if isinstance(layer, keras.layers.BatchNormalization)]
    for v in network.trainable_weights:
        if len(v.shape) == 1:
            factor = "gamma" in v.name or "layer_scale" in v.path
            v.assign(generator.uniform(0.8, 1.2, v.shape) if factor else generator.normal(0, 0.2, v.shape))
    for norm in norms:
        norm.momentum = 0.0
    with torch.no_grad():
        network(torch.from_numpy(pictures), training=True)
        for norm in norms:
            norm.moving_variance.assign(norm.moving_variance * 1.1 + 0.01)
    return network


def legacy(network: keras.Model, file: Path) -> Path:
    """As the published *_notop.h5 are laid out."""
    with h5py.File(file, "w") as opened:
        legacy_h5_format.save_weights_to_hdf5_group(opened, network)
    return file


def keras_2(network: keras.Model, file: Path) -> Path:
    """The same from Keras 2: weights are named LAYER/WEIGHT:0, in a Sequential too, tf.Variables without a name."""
    with h5py.File(file, "w") as opened:
        opened.attrs["layer_names"] = [layer.name.encode() for layer in network.layers]
        for layer in network.layers:
            group = opened.create_group(layer.name)
            named = [
                (f"{inner.name}/{'Variable' if 'layer_scale' in inner.name else v.name}:0", v)
                for inner in getattr(layer, "layers", [layer])
                for v in (*inner.trainable_weights, *inner.non_trainable_weights)
                if "seed_generator" not in v.path
            ]
            group.attrs["weight_names"] = [name.encode() for name, _ in named]
            for name, v in named:
                group.create_dataset(name, data=v.numpy())
    return file


def new(network: keras.Model, file: Path) -> Path:
    network.save_weights(file)
    return file


def archive(network: keras.Model, file: Path) -> Path:
    network.save(file)
    return file


WRITERS = {"legacy.h5": legacy, "keras_2.h5": keras_2, "new.weights.h5": new, "archive.keras": archive}


def embedding(name: str, n_channels: int, side: int = 64) -> tuple[keras.Model, keras.Model]:
    whole = models.build(name, input_shape=(side, side, n_channels), n_classes=3)
    return whole, keras.Model(whole.input, whole.get_layer("embedding").output)


def difference(ours: keras.Model, x: np.ndarray, expected: torch.Tensor) -> float:
    with torch.no_grad():
        got = ours(torch.from_numpy(x.astype(np.float32)), training=False)
    assert float(expected.std(0).max()) > 1e-3
    return float((got - expected).abs().max() / expected.abs().max())


@pytest.fixture(scope="module")
def pictures() -> np.ndarray:
    return np.random.default_rng(0).uniform(0, 255, (4, 64, 64, 3)).astype(np.float32)


STAGES = (  # fused, expand, channels, blocks, stride: every kind of block that B0-B3 and S have
    (True, 1, 8, 2, 1),
    (True, 4, 16, 2, 2),
    (True, 4, 16, 1, 2),
    (False, 4, 24, 2, 2),
    (False, 6, 24, 1, 1),
    (False, 6, 32, 1, 2),
)


@pytest.fixture
def small_stages(monkeypatch) -> None:
    """Our B0 and S of the size of STAGES."""
    size = efficientnet_v2.Size(tuple(efficientnet_v2.Stage(*row) for row in STAGES), stem=8)
    for variant in ("b0", "s"):
        monkeypatch.setitem(efficientnet_v2.VARIANTS, variant, size)


@pytest.fixture
def small_efficientnet(small_stages, pictures) -> keras.Model:
    """keras.applications' B0 of the size of STAGES."""
    names = ("conv_type", "expand_ratio", "output_filters", "num_repeat", "strides")
    rows = [dict(zip(names, row, strict=True)) for row in STAGES]
    for row, n_in in zip(rows, (8, *(row["output_filters"] for row in rows)), strict=False):
        row |= {"conv_type": int(row["conv_type"]), "kernel_size": 3, "input_filters": n_in}
        row["se_ratio"] = 0 if row["conv_type"] else 0.25
    keras.utils.set_random_seed(0)
    options = {"include_top": False, "weights": None, "input_shape": (64, 64, 3), "pooling": "avg"}
    return varied(EfficientNetV2(1.0, 1.0, 64, blocks_args=rows, name="efficientnetv2-b0", **options), pictures)


@pytest.fixture
def small_convnext(monkeypatch, pictures) -> keras.Model:
    """keras.applications' ConvNeXt, and ours of the same size."""
    size = dataclasses.replace(convnext.VARIANTS["tiny"], n_blocks=(1, 1, 2, 1), channels=(8, 12, 16, 24))
    monkeypatch.setitem(convnext.VARIANTS, "tiny", size)
    keras.utils.set_random_seed(0)
    options = {"include_top": False, "input_shape": (64, 64, 3), "pooling": "avg"}
    return varied(ConvNeXt(size.n_blocks, size.channels, name="convnext_tiny", **options), pictures)


@pytest.fixture
def saved(small_efficientnet, tmp_path) -> Path:
    return legacy(small_efficientnet, tmp_path / "w.h5")


@pytest.mark.parametrize("kind", WRITERS)
def test_efficientnet_answers_as_keras_network_that_was_saved(kind, small_efficientnet, pictures, tmp_path):
    whole, ours = embedding("efficientnet_v2/b0", 3)
    assert not pretrained.load(whole, WRITERS[kind](small_efficientnet, tmp_path / kind), name="efficientnet_v2/b0")
    with torch.no_grad():
        expected = small_efficientnet(torch.from_numpy(pictures), training=False)
    assert difference(ours, of_pictures("efficientnet_v2/b0", pictures), expected) <= tolerances.KERAS_TWIN


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


# ---------------------------------------------------------------- torchvision


def sequence(n_in: int, n_out: int, kernel: int, stride: int = 1, groups: int = 1, act: bool = True) -> nn.Sequential:
    conv = nn.Conv2d(n_in, n_out, kernel, stride, kernel // 2, groups=groups, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(n_out, eps=1e-3), *[nn.SiLU()] * act)


class SqueezeExcitation(nn.Module):
    def __init__(self, width: int, squeezed: int) -> None:
        super().__init__()
        self.fc1, self.fc2 = nn.Conv2d(width, squeezed, 1), nn.Conv2d(squeezed, width, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = x.mean((2, 3), keepdim=True)
        return x * torch.sigmoid(self.fc2(nn.functional.silu(self.fc1(y))))


class MBConv(nn.Module):
    """torchvision's MBConv and FusedMBConv."""

    def __init__(self, n_in: int, n_out: int, expand: int, stride: int, fused: bool) -> None:
        super().__init__()
        wide, self.same = n_in * expand, stride == 1 and n_in == n_out
        if fused:
            first = sequence(n_in, wide if expand > 1 else n_out, 3, stride)
            self.block = nn.Sequential(first, *([sequence(wide, n_out, 1, act=False)] if expand > 1 else []))
        else:
            depthwise = sequence(wide, wide, 3, stride, groups=wide)
            squeeze = SqueezeExcitation(wide, max(1, n_in // 4))
            self.block = nn.Sequential(sequence(n_in, wide, 1), depthwise, squeeze, sequence(wide, n_out, 1, act=False))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.block(x) + (x if self.same else 0)


class TorchEfficientNetV2(nn.Module):
    """torchvision's efficientnet_v2_s, smaller."""

    def __init__(self) -> None:
        super().__init__()
        stages, n_in = [sequence(3, 8, 3, 2)], 8
        for fused, expand, channels, n_blocks, stride in STAGES:
            blocks = []
            for i in range(n_blocks):
                blocks.append(MBConv(n_in, channels, expand, 1 if i else stride, fused))
                n_in = channels
            stages.append(nn.Sequential(*blocks))
        self.features = nn.Sequential(*stages, sequence(n_in, 1280, 1))
        self.classifier = nn.Sequential(nn.Dropout(0.2), nn.Linear(1280, 5))

    def embed(self, x: torch.Tensor) -> torch.Tensor:
        return self.features(x).mean((2, 3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.classifier(self.embed(x))


def torchvision(name: str, monkeypatch) -> nn.Module:
    """A network for three channels whose state dict is named as torchvision's."""
    if name == "resnet/18":
        network = resnet_twin.ResNet18(5, max_pool=1)
        network.conv1 = nn.Conv2d(3, 64, 7, 2, 3, bias=False)
    elif name == "convnext/tiny":
        size = dataclasses.replace(convnext.VARIANTS["tiny"], n_blocks=(1, 1, 2, 1), channels=(8, 12, 16, 24))
        monkeypatch.setitem(convnext.VARIANTS, "tiny", size)
        network = convnext_twin.ConvNeXt(5, size.n_blocks, size.channels)
        network.features[0][0] = nn.Conv2d(3, 8, 4, 4)
    else:
        network = TorchEfficientNetV2()
    return network


TORCHVISION = ("resnet/18", "convnext/tiny", "efficientnet_v2/s")


@pytest.mark.parametrize("name", TORCHVISION)
def test_same_answers_as_torchvision_network_that_was_saved(name, monkeypatch, small_stages, tmp_path):
    torch.manual_seed(0)
    x = torch.randn(3, 3, 65, 65)  # odd at every halving: Keras' padding is torch's there
    network = torch_twin.with_fitting_statistics(torchvision(name, monkeypatch), x)
    torch.save(network.state_dict(), tmp_path / "w.pth")
    whole, ours = embedding(name, 3, side=65)
    assert not pretrained.load(whole, tmp_path / "w.pth", name=name)
    last = network.classifier[-1] if name.startswith("eff") else network.fc
    seen = []
    last.register_forward_hook(lambda module, inputs, output: seen.append(inputs[0]))
    with torch.no_grad():
        network(x)
    assert difference(ours, x.permute(0, 2, 3, 1).numpy(), seen[0]) <= tolerances.PYTORCH_TWIN


# ---------------------------------------------------------------- refusals


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


class Code:
    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self):
        return os.mkdir, (str(self.file),)


def test_a_torch_file_with_code_or_without_tensors_is_refused(tmp_path):
    model, _ = embedding("resnet/18", 1)
    for content in (Code(tmp_path / "ran"), {"conv1.weight": Code(tmp_path / "ran")}, {"epoch": 1}, [1, 2]):
        torch.save(content, tmp_path / "w.pth")
        with pytest.raises(UserError, match=r"w\.pth is not a readable state dict of torch \(it holds (\w+\.mkdir|no)"):
            pretrained.load(model, tmp_path / "w.pth", name="resnet/18")
        assert not (tmp_path / "ran").exists()
    (tmp_path / "w.pth").write_bytes(b"PK\x03\x04")
    with pytest.raises(UserError, match="not a readable state dict"):
        pretrained.load(model, tmp_path / "w.pth", name="resnet/18")


@pytest.mark.parametrize(
    ("name", "file", "words"),
    [
        ("convnext/tiny", "none.h5", "must be a file or a run folder that exists. Received: '.*none.h5'"),
        ("resnet/18", "w.h5", r"of resnet/18 must be a file of \.pth or a run folder of resnet/18"),
        ("convnext", "w.npz", r"of convnext/tiny must be a file of \.h5, \.keras, \.pth or a run folder"),
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
