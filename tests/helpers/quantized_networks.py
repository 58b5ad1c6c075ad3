"""Float and 8-bit networks of every quantizable family, and their features."""

import keras
import numpy as np
import torch
from reduced import code_paths, reduced, shape_of

from birdnet_fs import models
from birdnet_fs.models.quantization.convert import set_phase
from birdnet_fs.models.quantization.fake_quant import (
    FIXED,
    MEASURE,
)

SHAPE, N_CLASSES = (48, 40, 1), 5


NAMES = [name for name in code_paths() if models.family_row(name).quantizable]


RANGES = {"range/wide": (-3.0, 5.0), "range/positive": (0.0, 6.0), "range/far": (-0.013, 7.1), "range/low": (-4.0, 0.0)}


def random_norms(model: keras.Model, seed: int = 0) -> keras.Model:
    """Moving statistics and factors that are not those of a fresh network."""
    rng = np.random.default_rng(seed)
    for variable in model.weights:
        if variable.path.endswith(("gamma", "moving_variance", "/variance")):
            variable.assign(rng.uniform(0.5, 1.5, variable.shape))
        if variable.path.endswith(("beta", "moving_mean", "/mean")):
            variable.assign(rng.normal(0, 0.2, variable.shape))
    return model


def network(name: str, shape: tuple[int, int, int] = SHAPE) -> keras.Model:
    keras.utils.set_random_seed(0)
    with reduced(name):
        return random_norms(models.build(name, input_shape=shape_of(name, shape), n_classes=N_CLASSES))


def features(model: keras.Model, n: int = 4, seed: int = 0) -> torch.Tensor:
    return torch.randn((n, *model.input_shape[1:]), generator=torch.Generator().manual_seed(seed))


def measured(model: keras.Model, x: torch.Tensor) -> keras.Model:
    set_phase(model, MEASURE)
    with torch.no_grad():
        model(x)
    set_phase(model, FIXED)
    return model
