"""Losses on cosine similarities against their formulas in NumPy."""

import numpy as np
import pytest
import tolerances
import torch

from birdnet_fs.training.cosine_losses import arcface, circle
from birdnet_fs.training.losses import cross_entropy

HARD = torch.eye(4)[[0, 1, 2, 3, 0, 1]]
LABELS = HARD.argmax(1).numpy()
# cosines of all sizes; those of the true classes lie on both sides of -cos(margin)
COSINES = np.random.default_rng(2).uniform(-0.8, 0.8, (6, 4))
COSINES[np.arange(6), LABELS] = [-0.99, -0.9, -0.5, 0.0, 0.7, 0.999]


def by_angles(cosines: np.ndarray, scale: float, margin: float) -> float:
    """ArcFace as it is written: cos(angle + margin) while that angle stays below pi."""
    rows = []
    for row, label in zip(cosines, LABELS, strict=True):
        angle = np.arccos(row[label])
        inside = angle + margin < np.pi
        moved = np.cos(angle + margin) if inside else row[label] - margin * np.sin(np.pi - margin)
        others = np.exp(scale * np.delete(row, label)).sum()
        rows.append(-np.log(np.exp(scale * moved) / (np.exp(scale * moved) + others)))
    return float(np.mean(rows))


@pytest.mark.parametrize(("scale", "margin"), [(30.0, 0.5), (10.0, 0.2)])
def test_arcface_moves_the_angle(scale: float, margin: float) -> None:
    logits = torch.tensor(scale * COSINES)
    found = arcface(logits, HARD, scale=scale, margin=margin).item()
    assert found == pytest.approx(by_angles(COSINES, scale, margin), rel=tolerances.LOSS_FLOAT64)
    assert found > cross_entropy(logits, HARD).item()
    narrow = arcface(logits.float(), HARD, scale=scale, margin=margin).item()
    assert narrow == pytest.approx(found, rel=tolerances.LOSS)


def by_pairs(cosines: np.ndarray, scale: float, margin: float, alphas: np.ndarray | None = None) -> float:
    """Circle loss as the paper's equation 6 has it: log(1 + sum over negatives x sum over positives)."""
    alphas = cosines if alphas is None else alphas  # the cosines that the weights are made of
    rows = []
    for row, fixed, label in zip(cosines, alphas, LABELS, strict=True):
        weight = max(0.0, (1 + margin) - fixed[label])
        positive = np.exp(-scale * weight * (row[label] - (1 - margin)))
        weights = np.maximum(0.0, np.delete(fixed, label) - -margin)
        negative = np.exp(scale * weights * (np.delete(row, label) - margin)).sum()
        rows.append(np.log(1 + negative * positive))
    return float(np.mean(rows))


@pytest.mark.parametrize(("scale", "margin"), [(80.0, 0.4), (32.0, 0.25)])
def test_circle_weighs_every_cosine(scale: float, margin: float) -> None:
    logits = torch.tensor(scale * COSINES, requires_grad=True)
    loss = circle(logits, HARD, scale=scale, margin=margin)
    assert loss.item() == pytest.approx(by_pairs(COSINES, scale, margin), rel=tolerances.LOSS_FLOAT64)
    loss.backward()
    for place in np.ndindex(COSINES.shape):  # by central differences, the weights held still
        step = np.zeros(COSINES.shape)
        step[place] = 1e-6
        rise = by_pairs(COSINES + step, scale, margin, COSINES) - by_pairs(COSINES - step, scale, margin, COSINES)
        expected = rise / 2e-6 / scale
        assert logits.grad[place].item() == pytest.approx(expected, abs=tolerances.SLOPE)


@pytest.mark.parametrize("loss", [arcface, circle])
def test_a_perfect_or_opposite_cosine_has_a_finite_gradient(loss) -> None:
    logits = torch.tensor([[30.0, -30.0], [-30.0, 30.0], [30.00001, 0.0], [0.0, 0.0]], requires_grad=True)
    targets = torch.tensor([[1.0, 0.0], [1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    value = loss(logits, targets, scale=30.0, margin=0.4)
    value.backward()
    assert bool(torch.isfinite(value)) and bool(torch.isfinite(logits.grad).all())
