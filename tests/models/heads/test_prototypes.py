"""The distance head against scipy, under mixed precision too."""

import keras
import numpy as np
import pytest
import scipy.spatial.distance as reference
import tolerances
import torch

from birdnet_fs.models.heads.prototypes import PrototypeLogits


@pytest.mark.parametrize(("distance", "name"), [("euclidean", "sqeuclidean"), ("cosine", "cosine")])
@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
def test_distances_are_those_of_scipy_also_under_autocast(distance, name, precision):
    rng = np.random.default_rng(0)
    x, points = (rng.normal(5, 1, (n, 64)).astype("float32") for n in (7, 4))
    layer = PrototypeLogits(4, distance, scale=1.0)
    layer.build((None, 64))
    layer.prototypes.assign(points)
    with torch.no_grad(), torch.autocast("cpu", dtype=precision, enabled=precision is not torch.float32):
        found = keras.ops.convert_to_numpy(layer(torch.from_numpy(x)))
    expected = reference.cdist(x.astype("float64"), points.astype("float64"), name)
    expected = 1 - expected if distance == "cosine" else -expected
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, rtol=0, atol=tolerances.DISTANCES * np.abs(x).max() ** 2 * 64)
