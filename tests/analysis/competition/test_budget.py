"""Time budgets, with a clock that the tests move."""

import pytest

from birdnet_fs.analysis.competition.budget import TimeBudget, parse_time
from birdnet_fs.core.errors import UserError


class Clock:
    now = 100.0

    def __call__(self):
        return self.now


def worked(budget, clock, *seconds):
    """Spend seconds on each of several recordings; returns after which estimates were due."""
    due = []
    for each in seconds:
        clock.now += each
        due.append(budget.done())
    return due


def test_first_recording_is_not_measured():
    budget = TimeBudget(1000.0, clock := Clock())
    budget.n_recordings = 100
    assert worked(budget, clock, 50, 2, 2, 2) == [False, False, False, True]
    assert budget.per_recording_s == 2
    assert budget.expected_s == 56 + 2 * 96
    assert budget.left_s == 1000 - 56 - 10  # one hundredth is kept for writing
    assert budget.too_slow_by < 1 and budget.n_in_time == 100


def test_estimates_come_at_every_tenth():
    budget = TimeBudget(1000.0, clock := Clock())
    budget.n_recordings = 40
    assert [i for i, due in enumerate(worked(budget, clock, *[1] * 12), 1) if due] == [4, 8, 12]


def test_work_that_takes_too_long_is_seen_early():
    budget = TimeBudget(100.0, clock := Clock())
    budget.n_recordings = 50
    worked(budget, clock, 10, 5, 5, 5)
    assert budget.left_s == 100 - 1 - 25
    assert budget.too_slow_by == pytest.approx(5 * 46 / 74)
    assert budget.n_in_time == 4 + 14
    budget.restart()
    assert budget.per_recording_s == 0
    worked(budget, clock, 3, 1)
    assert budget.per_recording_s == 1


def test_writing_is_kept_room_for():
    budget = TimeBudget(1000.0, Clock())
    budget.written(30.0)
    assert budget.left_s == 940


@pytest.mark.parametrize("text", ["90", "0min", "90 days", "-5s", "soon"])
def test_other_times_are_refused(text):
    with pytest.raises(UserError, match="--time_budget must be a number above 0 with s, min or h"):
        parse_time(text)
