"""The learning rate of every step against torch's own schedulers."""

import numpy as np
import pytest
import tolerances
import torch
from command_line import ROOT
from torch.optim import lr_scheduler

from birdnet_fs.cli.experiment import load_experiment
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


@pytest.mark.parametrize(("div", "final_div"), [(10, 100), (25, 1e4), (1, 1)])
def test_one_cycle_is_torchs(div: float, final_div: float) -> None:
    n_steps = N_EPOCHS * N_BATCHES
    expected = rates_of_torch(
        lambda o: lr_scheduler.OneCycleLR(
            o,
            PEAK,
            total_steps=n_steps,
            pct_start=0.3,
            div_factor=div,
            final_div_factor=final_div,
            cycle_momentum=False,
        ),
        1,
    )
    # torch ends its list with a step beyond the last, which it refuses to make
    found = ours(schedule="onecycle", div=div, final_div=final_div)
    assert found == pytest.approx(expected, rel=tolerances.RATE)
    assert found[-1] == pytest.approx(PEAK / div / final_div)


def test_animal_spot_runs_one_cycle_from_the_rate_to_ten_times_and_a_hundredth() -> None:
    """`--scheduler onecycle --lr 3e-4` of its fork: 3e-4, 3e-3, 3e-6."""
    settings = ["training.schedule=onecycle", "training.learning_rate=3e-4"]
    training = load_experiment(f"{ROOT / 'config.py'}:animal_spot", settings).training
    rates = [
        learning_rate(
            step,
            peak=training.highest_learning_rate,
            n_steps=100_000,
            n_warmup=0,
            schedule="onecycle",
            div=training.schedule.div,
            final_div=training.schedule.final_div,
        )
        for step in (0, 30_000, 99_999)
    ]
    assert rates == pytest.approx([3e-4, 3e-3, 3e-6], rel=1e-3)  # the highest rate lies between two steps


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
