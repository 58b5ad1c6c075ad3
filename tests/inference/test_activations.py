"""Probabilities of logits and back, against scipy; the receiving side's own copy agrees."""

import numpy as np
import pytest
import tolerances
import torch
from receiving import module
from scipy.special import expit, log_softmax, logit, softmax

from birdnet_fs.inference.activations import (
    ACTIVATIONS,
    LEAST_REST,
    SMALLEST,
    tensor_mean_logits,
    tensor_to_logits,
    tensor_to_probabilities,
    to_logits,
    to_probabilities,
)
from birdnet_fs.schema import Data

RNG = np.random.default_rng(0)
LOGITS = np.concatenate(
    [
        RNG.normal(0, 8, (200, 5)),
        [[1000, 999, -1000, 0, 1], [0, 0, 0, 0, 0], [-700, -710, -745, -800, -1e30], [88, 89, 90, 104, -104]],
    ]
).astype(np.float32)


def reference(logits: np.ndarray, activation: str) -> np.ndarray:
    x = logits.astype(np.float64)
    return expit(x) if activation == "sigmoid" else softmax(x, axis=-1)


def probabilities_float32() -> np.ndarray:
    """Every binade of the normal float32 numbers up to 1, both ends of the range and their neighbors."""
    bits = np.concatenate([np.arange(0x00800000, 0x3F800000, 9973), np.arange(0x3F7FFF00, 0x3F800001)])
    return bits.astype(np.int32).view(np.float32)


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_to_probabilities_is_scipys(activation: str) -> None:
    with np.errstate(all="raise", under="ignore"):
        found = to_probabilities(LOGITS, activation)
    assert found.dtype == np.float64
    np.testing.assert_allclose(
        found, reference(LOGITS, activation), rtol=tolerances.ACTIVATION_FLOAT64, atol=tolerances.SUBNORMAL
    )
    by_clip = to_probabilities(LOGITS.reshape(4, 51, 5), activation)
    np.testing.assert_array_equal(by_clip.reshape(found.shape), found)


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_torch_gives_the_probabilities_of_numpy(activation: str) -> None:
    found = tensor_to_probabilities(torch.from_numpy(LOGITS), activation)
    assert found.dtype == torch.float32
    wanted = to_probabilities(LOGITS, activation)
    np.testing.assert_allclose(found.numpy(), wanted, atol=tolerances.ACTIVATION)


def test_sigmoid_round_trip_is_exact_for_every_stored_probability() -> None:
    p = probabilities_float32()
    assert p.min() == SMALLEST and p.max() == 1
    np.testing.assert_array_equal(to_probabilities(to_logits(p, "sigmoid"), "sigmoid").astype(np.float32), p)
    inner = p[(p < 1)].astype(np.float64)
    np.testing.assert_allclose(to_logits(inner, "sigmoid"), logit(inner), atol=tolerances.LOGITS_FLOAT64)


def test_softmax_round_trip_keeps_every_stored_probability() -> None:
    p = softmax(RNG.normal(0, 12, (500, 7)), axis=1).astype(np.float32)
    back = to_probabilities(to_logits(p, "softmax"), "softmax")
    np.testing.assert_allclose(back, p, rtol=tolerances.SOFTMAX_OF_LOGS)
    x = RNG.normal(0, 12, (500, 7))
    found = to_logits(softmax(x, axis=1), "softmax")
    np.testing.assert_allclose(found, log_softmax(x, axis=1), atol=tolerances.LOGITS_FLOAT64)


def test_limits_are_those_of_float32() -> None:
    assert np.float32(SMALLEST) == np.finfo(np.float32).tiny
    found = to_logits(np.array([0.0, 1e-42, SMALLEST, 1.0]), "sigmoid")
    assert np.isfinite(found).all()
    assert found[:3].tolist() == [found[2]] * 3  # what runtimes flush to 0 is taken for the smallest normal number
    assert to_probabilities(found[2:], "sigmoid").astype(np.float32).tolist() == [SMALLEST, 1.0]
    # 1 in float32 is anything of which 1 - p is up to 2 ** -25; its logit stays 1 in float32 also after rounding
    assert LEAST_REST == 2.0**-25 / 2
    assert expit(np.float64(np.float32(found[3]))).astype(np.float32) == 1
    assert to_logits([0.0, 1.0], "softmax").tolist() == [np.log(SMALLEST), 0.0]


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_torch_gives_the_logits_of_numpy(activation: str, dtype: torch.dtype) -> None:
    p = np.concatenate([[0.0], probabilities_float32()])
    found = tensor_to_logits(torch.tensor(p, dtype=dtype), activation)
    assert found.dtype == dtype
    atol = tolerances.LOGITS_FLOAT32 if dtype == torch.float32 else tolerances.LOGITS_FLOAT64
    np.testing.assert_allclose(found.numpy(), to_logits(p, activation), atol=atol)


def test_torch_raises_half_precision_before_the_logarithm() -> None:
    found = tensor_to_logits(torch.tensor([0.0, 1.0], dtype=torch.float16), "sigmoid")
    assert found.dtype == torch.float32 and bool(torch.isfinite(found).all())


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_mean_logits_are_those_of_the_mean_probability(activation: str) -> None:
    logits = RNG.normal(0, 4, (6, 3, 5))
    found = tensor_mean_logits(torch.tensor(logits), activation).numpy()
    mean = reference(logits, activation).mean(1)
    np.testing.assert_allclose(to_probabilities(found, activation), mean, rtol=tolerances.FLOAT64_SUMS)
    constant = 0.0 if activation == "sigmoid" else -np.log(3)  # of a softmax: the sum in the place of the mean
    np.testing.assert_allclose(to_logits(mean, activation) - found, constant, atol=tolerances.LOGITS_FLOAT64)
    one = torch.tensor(logits[:, :1])
    assert torch.equal(tensor_mean_logits(one, activation), one[:, 0])


def test_unknown_activations_are_refused() -> None:
    for fails in (to_probabilities, to_logits):
        with pytest.raises(ValueError, match=r"must be one of softmax, sigmoid\. Received: 'Softmax'"):
            fails(np.zeros((1, 2)), "Softmax")
    for fails in (tensor_to_probabilities, tensor_to_logits, tensor_mean_logits):
        with pytest.raises(ValueError, match="Received: ''"):
            fails(torch.zeros(1, 1, 2), "")


def test_data_names_the_activation() -> None:
    assert (Data().activation, Data(multi_label=True).activation) == ACTIVATIONS


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_the_receiving_side_agrees(activation: str) -> None:
    """export/reading.py imports NumPy alone and repeats the formula; its tanh keeps no relative digits near 0."""
    found = module("reading").probabilities(LOGITS, activation)
    np.testing.assert_allclose(found, to_probabilities(LOGITS, activation), atol=tolerances.ACTIVATION_FLOAT64)
