"""Summaries of the trials of a study, read from its journal."""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState

# attributes of a trial in the journal; `continues` is the number of the trial from whose state it goes on
RETRY, CONTINUES, REASON, LOST, SETTINGS = "again", "continues", "reason", "lost", "settings"


@dataclasses.dataclass(frozen=True)
class TrialSummary:
    """State of a trial in the journal.

    Attributes:
        number: Number of the trial, from 0.
        state: "finished", "pruned", "impossible" (settings that exclude one another), "failed", "lost" (its process
            ended), "running" or "waiting".
        value: Value of the best epoch; None when there is none.
        best_epoch: The best epoch, from 1.
        values: Values by epoch.
        seconds: Duration.
        reason: Reason for an unfinished trial, else "".
        params: Drawn values by key.
        settings: Settings `key=value`, drawn and derived.
    """

    number: int
    state: str
    value: float | None
    best_epoch: int | None
    values: dict[int, float]
    seconds: float | None
    reason: str
    params: dict[str, Any]
    settings: tuple[str, ...]

    @classmethod
    def of(cls, trial: FrozenTrial) -> "TrialSummary":
        """Summarize one of Optuna's trials."""
        values = {epoch: value for epoch, value in sorted(trial.intermediate_values.items()) if math.isfinite(value)}
        best = max(values, key=values.__getitem__, default=None)
        states = {TrialState.COMPLETE: "finished", TrialState.PRUNED: "pruned" if values else "impossible"}
        states |= {TrialState.FAIL: "lost" if trial.user_attrs.get(LOST) else "failed"}
        return cls(
            number=trial.number,
            state=states.get(trial.state, trial.state.name.lower()),
            value=None if best is None else values[best],
            best_epoch=best,
            values=values,
            seconds=trial.duration.total_seconds() if trial.duration else None,
            reason=str(trial.user_attrs.get(REASON, "")),
            params=dict(trial.params),
            settings=tuple(trial.user_attrs.get(SETTINGS, ())),
        )

    @property
    def over(self) -> bool:
        """Whether the trial has ended."""
        return self.state not in ("running", "waiting")

    @property
    def counts(self) -> bool:
        """Whether it counts as one of the requested trials."""
        return self.state in ("finished", "pruned", "impossible")


def summaries(study: optuna.Study) -> list[TrialSummary]:
    """Summarize all trials of a study, by number."""
    return [TrialSummary.of(trial) for trial in study.get_trials(deepcopy=False)]


def best_first(trials: Sequence[TrialSummary]) -> list[TrialSummary]:
    """Sort the trials that were trained to their end by decreasing value, equal ones by number."""
    finished = [trial for trial in trials if trial.state == "finished" and trial.value is not None]
    return sorted(finished, key=lambda trial: (-(trial.value or 0.0), trial.number))
