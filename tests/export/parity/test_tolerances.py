"""The table of tolerances and its scaling."""

import dataclasses

import pytest

from birdnet_fs.export.parity.tolerances import TOLERANCES
from birdnet_fs.export.spec import PRECISIONS


def test_every_precision_has_a_tolerance_and_lower_precision_a_larger_one() -> None:
    assert tuple(TOLERANCES) == PRECISIONS
    assert all(row.reason for row in TOLERANCES.values())
    for name in ("max_abs", "mean_abs"):
        assert getattr(TOLERANCES["fp32"], name) < getattr(TOLERANCES["fp16"], name)
        assert getattr(TOLERANCES["dynamic"], name) < getattr(TOLERANCES["int8"], name)


def test_scaled_grows_with_the_logit_scale_beyond_30() -> None:
    row = TOLERANCES["fp32"]
    assert row.scaled(30.0, spread=5.0) == row
    larger = row.scaled(60.0, spread=5.0, max_slope=0.5)
    assert (larger.max_abs, larger.tie) == pytest.approx((row.max_abs, row.tie))
    assert (larger.top1, larger.auroc, larger.reason) == (row.top1, row.auroc, row.reason)


def test_scaled_makes_shares_of_the_spread_absolute() -> None:
    row = TOLERANCES["int8"]
    found = row.scaled(1000.0, spread=3.0)
    assert found.max_abs == pytest.approx(3 * row.max_abs) and found.device == pytest.approx(3 * row.device)
    assert not found.of_spread and dataclasses.replace(found, of_spread=True).real_only
