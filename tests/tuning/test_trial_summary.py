"""Summaries of trials in each state."""

import math

import optuna
import pytest
from optuna.trial import TrialState, create_trial

from birdnet_fs.tuning.trial_summary import LOST, REASON, TrialSummary, best_first, summaries


@pytest.mark.parametrize(
    ("state", "values", "attributes", "expected"),
    [
        (TrialState.COMPLETE, {1: 0.2, 2: 0.7, 3: 0.6}, {}, ("finished", 0.7, 2, True, True)),
        (TrialState.PRUNED, {1: math.nan, 2: 0.3}, {}, ("pruned", 0.3, 2, True, True)),
        (TrialState.PRUNED, {}, {REASON: "excluded"}, ("impossible", None, None, True, True)),
        (TrialState.FAIL, {1: 0.4}, {REASON: "NaN"}, ("failed", 0.4, 1, True, False)),
        (TrialState.FAIL, {}, {LOST: True}, ("lost", None, None, True, False)),
        (TrialState.RUNNING, {}, {}, ("running", None, None, False, False)),
        (TrialState.WAITING, {}, {}, ("waiting", None, None, False, False)),
    ],
)
def test_summary_of_each_state(state, values: dict, attributes: dict, expected: tuple) -> None:
    trial = create_trial(
        state=state,
        value=0.5 if state == TrialState.COMPLETE else None,
        intermediate_values=values,
        user_attrs=attributes,
    )
    summary = TrialSummary.of(trial)
    assert (summary.state, summary.value, summary.best_epoch, summary.over, summary.counts) == expected
    assert summary.reason == attributes.get(REASON, "")


def test_best_first_prefers_the_earlier_of_equal_values_and_only_finished_ones() -> None:
    study = optuna.create_study(direction="maximize")
    for value, state in ((0.5, "COMPLETE"), (0.9, "PRUNED"), (0.7, "COMPLETE"), (0.7, "COMPLETE")):
        done = TrialState[state]
        study.add_trial(create_trial(state=done, value=value, intermediate_values={1: value}))
    assert [trial.number for trial in best_first(summaries(study))] == [2, 3, 0]
