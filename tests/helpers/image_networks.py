"""Small networks of keras.applications and files as Keras writes them."""

from pathlib import Path

import h5py
import keras
import numpy as np
import torch
from keras.src.legacy.saving import legacy_h5_format

from birdnet_fs import models

MEAN, DEVIATION = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])  # of ImageNet's colors, in 0..1


def of_pictures(variant: str, pictures: np.ndarray) -> np.ndarray:
    """Input of the first convolution of keras.applications for pictures in 0..255."""
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
    """Write a file in the layout of the published *_notop.h5."""
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


STAGES = (  # fused, expand, channels, blocks, stride: every kind of block that B0-B3 and S have
    (True, 1, 8, 2, 1),
    (True, 4, 16, 2, 2),
    (True, 4, 16, 1, 2),
    (False, 4, 24, 2, 2),
    (False, 6, 24, 1, 1),
    (False, 6, 32, 1, 2),
)
