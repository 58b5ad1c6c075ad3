import numpy as np
import pytest
import tolerances
import torch

from birdnet_fs.training.losses import binary_cross_entropy, cross_entropy
from birdnet_fs.training.schedule import learning_rate

LOGITS = torch.tensor(np.random.default_rng(0).normal(0, 3, (6, 4)), dtype=torch.float32)
HARD = torch.eye(4)[[0, 1, 2, 3, 0, 1]]
SOFT = torch.softmax(torch.tensor(np.random.default_rng(1).normal(size=(6, 4)), dtype=torch.float32), 1)


def test_cross_entropy_is_torchs_own() -> None:
    expected = torch.nn.functional.cross_entropy(LOGITS, HARD.argmax(1))
    assert cross_entropy(LOGITS, HARD).item() == pytest.approx(expected.item(), rel=tolerances.LOSS)
    for smoothing in (0.0, 0.1):
        expected = torch.nn.functional.cross_entropy(LOGITS, SOFT, label_smoothing=smoothing)
        assert cross_entropy(LOGITS, SOFT, smoothing).item() == pytest.approx(expected.item(), rel=tolerances.LOSS)


def test_binary_cross_entropy_by_its_formula() -> None:
    p = 1 / (1 + np.exp(-LOGITS.numpy().astype(np.float64)))
    y = SOFT.numpy().astype(np.float64) * 0.9 + 0.05
    expected = -(y * np.log(p) + (1 - y) * np.log(1 - p)).mean()
    assert binary_cross_entropy(LOGITS, SOFT, 0.1).item() == pytest.approx(expected, rel=tolerances.LOSS)


def test_the_rate_rises_then_falls_to_zero() -> None:
    rates = [learning_rate(s, peak=2.0, n_steps=100, n_warmup=10) for s in range(100)]
    assert rates[9] == rates[10] == max(rates) == 2.0
    assert all(np.diff(rates[:10]) > 0)
    assert all(np.diff(rates[10:]) < 0)
    assert 0 < rates[-1] < 0.01
    reference = torch.optim.lr_scheduler.CosineAnnealingLR
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=2.0)
    scheduler = reference(optimizer, T_max=90)
    for step in range(10, 100):
        assert rates[step] == pytest.approx(optimizer.param_groups[0]["lr"], rel=1e-9)  # both are float64
        optimizer.step()
        scheduler.step()
