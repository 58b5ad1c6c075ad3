"""The trials of a study, read from its journal: state, value of the best epoch, settings, reason of a failure."""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState

RETRY, REASON, LOST, SETTINGS = "again", "reason", "lost", "settings"  # attributes of a trial in the journal


@dataclasses.dataclass(frozen=True)
class TrialSummary:
    """A trial as it stands in the journal."""

    number: int
    state: str  # finished, pruned, impossible, failed, lost, running or waiting
    value: float | None  # of its best epoch
    best_epoch: int | None  # from 1
    values: dict[int, float]  # by epoch
    seconds: float | None
    reason: str  # why it did not finish
    params: dict[str, Any]  # what was drawn
    settings: tuple[str, ...]  # key=value, drawn and derived

    @classmethod
    def of(cls, trial: FrozenTrial) -> "TrialSummary":
        """Summarize a trial of Optuna's."""
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
        """Whether nothing more happens to it."""
        return self.state not in ("running", "waiting")

    @property
    def counts(self) -> bool:
        """Whether it is one of the trials that were asked for."""
        return self.state in ("finished", "pruned", "impossible")


def summaries(study: optuna.Study) -> list[TrialSummary]:
    """All trials of a study, by number."""
    return [TrialSummary.of(trial) for trial in study.get_trials(deepcopy=False)]


def best_first(trials: Sequence[TrialSummary]) -> list[TrialSummary]:
    """Those that were trained to their end, the highest value first; of equal ones the earlier."""
    finished = [trial for trial in trials if trial.state == "finished" and trial.value is not None]
    return sorted(finished, key=lambda trial: (-(trial.value or 0.0), trial.number))
