"""The learning rate of every step against torch's own schedulers."""

import numpy as np
import pytest
import tolerances
import torch
from torch.optim import lr_scheduler

from birdnet_fs.training.schedule import Plateau, learning_rate

N_EPOCHS, N_BATCHES, PEAK = 7, 5, 2e-3


def rates_of_torch(make, every: int) -> list[float]:
    """The rate of every step of a torch scheduler that is stepped after each `every` steps."""
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=PEAK)
    scheduler, rates = make(optimizer), []
    for step in range(N_EPOCHS * N_BATCHES):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        if (step + 1) % every == 0:
            scheduler.step()
    return rates


def ours(**settings) -> list[float]:
    n_steps = N_EPOCHS * N_BATCHES
    return [learning_rate(s, peak=PEAK, n_steps=n_steps, **{"n_warmup": 0, **settings}) for s in range(n_steps)]


@pytest.mark.parametrize(("n_epochs", "factor"), [(1, 0.65), (3, 0.1), (10, 0.65)])
def test_schedules_equal_those_of_torch(n_epochs: int, factor: float) -> None:
    found = ours(schedule="step", n_steps_per_drop=n_epochs * N_BATCHES, factor=factor)
    expected = rates_of_torch(lambda o: lr_scheduler.StepLR(o, n_epochs, factor), N_BATCHES)
    assert found == pytest.approx(expected, rel=tolerances.RATE)


def test_a_cosine_ends_at_the_lowest_rate_as_torchs() -> None:
    found = ours(schedule="cosine", minimum=1e-5)
    expected = rates_of_torch(lambda o: lr_scheduler.CosineAnnealingLR(o, N_EPOCHS * N_BATCHES, 1e-5), 1)
    assert found == pytest.approx(expected, rel=tolerances.RATE)
    after = learning_rate(N_EPOCHS * N_BATCHES, peak=PEAK, n_steps=N_EPOCHS * N_BATCHES, n_warmup=0, minimum=1e-5)
    assert after == pytest.approx(1e-5)


def test_a_constant_rate_stays_and_all_rise_first() -> None:
    assert ours(schedule="constant") == [PEAK] * (N_EPOCHS * N_BATCHES)
    for settings in (
        {"schedule": "constant"},
        {"schedule": "step", "n_steps_per_drop": 5, "factor": 0.5},
        {"minimum": 1e-3},
    ):
        rates = ours(n_warmup=4, **settings)
        assert rates[:4] == pytest.approx([PEAK / 4, PEAK / 2, 3 * PEAK / 4, PEAK])
        assert rates[4] == PEAK


def test_one_cycle_is_torchs() -> None:
    n_steps = N_EPOCHS * N_BATCHES
    expected = rates_of_torch(
        lambda o: lr_scheduler.OneCycleLR(
            o, PEAK, total_steps=n_steps, pct_start=0.3, div_factor=10, final_div_factor=100, cycle_momentum=False
        ),
        1,
    )
    # torch ends its list with a step beyond the last, which it refuses to make
    assert ours(schedule="onecycle") == pytest.approx(expected, rel=tolerances.RATE)
    assert ours(schedule="onecycle")[-1] == pytest.approx(PEAK / 1000)


def test_a_plateau_lowers_the_rate_when_torchs_does() -> None:
    scores = [0.5, 0.6, 0.6005, 0.599, 0.61, 0.61, 0.60, 0.60, 0.60, float("nan"), 0.60, 0.7, 0.1]
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    reference = lr_scheduler.ReduceLROnPlateau(
        optimizer, mode="max", factor=0.5, patience=2, threshold=1e-3, threshold_mode="abs"
    )
    plateau = Plateau(factor=0.5, patience=2)
    for score in scores:
        reference.step(score)
        plateau.update(score)
        assert plateau.scale == optimizer.param_groups[0]["lr"]
    assert plateau.scale < 0.5


def test_cosine_schedule_warms_up_and_ends_near_zero() -> None:
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
