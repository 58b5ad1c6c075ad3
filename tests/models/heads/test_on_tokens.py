"""Layers on tokens against NumPy."""

import ast
from collections import Counter
from pathlib import Path

import numpy as np
import tolerances
from scipy.special import softmax

from birdnet_fs import models
from birdnet_fs.models.heads.on_tokens import SHARPNESS, STEP, ProbeLogits, TokenAttention

RNG = np.random.default_rng(0)


def unit(x: np.ndarray, axis: int) -> np.ndarray:
    return x / np.linalg.norm(x, axis=axis, keepdims=True)


def test_attention_pooling_is_a_weighted_mean_for_each_query():
    tokens, layer = RNG.standard_normal((3, 5, 4)).astype(np.float32), TokenAttention(2)
    found = layer(tokens).detach().numpy()
    queries = layer.queries.value.detach().numpy()
    attention = softmax(tokens @ queries * STEP / 2, axis=1)
    expected = np.concatenate([(attention[:, :, [q]] * tokens).sum(1) for q in range(2)], axis=1)
    np.testing.assert_allclose(found, expected, atol=tolerances.PROTOTYPE_LOGITS)


def test_probe_takes_the_best_token_of_each_prototype():
    for shape in ((4, 6), (4, 5, 6)):
        x, layer = RNG.standard_normal(shape).astype(np.float32), ProbeLogits(3, 2, 7.0)
        found = layer(x).detach().numpy()
        layer.bias.assign([0.0, 1.0, -1.0])
        shifted = layer(x).detach().numpy()
        cosines = unit(x, -1) @ unit(layer.prototypes.value.detach().numpy(), 0)
        best = (cosines.max(1) if x.ndim == 3 else cosines).reshape(4, 3, 2)
        expected = 7 * np.log(np.exp(SHARPNESS * best).mean(2)) / SHARPNESS
        np.testing.assert_allclose(found, expected, atol=tolerances.PROTOTYPE_LOGITS)
        np.testing.assert_allclose(shifted - found, [[0, 1, -1]] * 4, atol=tolerances.PROTOTYPE_LOGITS)
        assert np.abs(found).max() <= 7


def test_layers_are_registered_under_names_of_their_own() -> None:
    """Keras lets the last registration of a name replace the others without a word."""
    folder = Path(models.__file__).parents[1]
    found = Counter(
        node.name
        for file in folder.rglob("*.py")
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if isinstance(node, ast.ClassDef) and any("register_keras" in ast.unparse(d) for d in node.decorator_list)
    )
    assert len(found) > 10 and [name for name, n in found.items() if n > 1] == []
