"""Score the recordings of a competition and write the submission: the work of `birdnet-fs submission`.

The file is complete from its first writing on, before any recording is scored, and is written again every minute and
at the end, also after an interrupt: a row is never lost. A recording that is missing, broken, short or out of time
leaves rows without scores, which `SubmissionTable` fills and counts.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from birdnet_fs.analysis.competition.budget import TimeBudget, shown_time
from birdnet_fs.analysis.competition.class_names import ClassMatch
from birdnet_fs.analysis.competition.folder import WINDOW_S, CompetitionTest
from birdnet_fs.analysis.competition.table import SubmissionReport, SubmissionTable
from birdnet_fs.analysis.grid_scores import GridScores, grid_rule, grid_scores_of
from birdnet_fs.core.errors import UserError
from birdnet_fs.core.lock import locked
from birdnet_fs.core.progress import say
from birdnet_fs.data.ledger import Ledger
from birdnet_fs.inference.engine import Engine

WRITE_EVERY_S = 60.0
FALLBACKS = ("none", "hop", "models")
OUT_OF_TIME = "the time budget had ended"
OpenEngine = Callable[[int], Engine]  # number of members, 0 = all -> engine


@dataclass
class Plan:
    """Settings of the scoring, which change when the time is short.

    Attributes:
        engine: The model.
        hop_s: Seconds from one window to the next.
        n_members: Members of the ensemble; 1 for any other model.
    """

    engine: Engine
    hop_s: float
    n_members: int = 1


@locked("output")
def submit(
    open_engine: OpenEngine,
    test: CompetitionTest,
    match: ClassMatch,
    output: Path,
    *,
    n_members: int = 1,
    hop_s: float = 0.0,
    threshold: float = 0.5,
    batch_size: int = 32,
    n_workers: int = 1,
    budget: TimeBudget | None = None,
    fallback: str = "none",
) -> tuple[SubmissionReport, Ledger]:
    """Score recordings and write the submission.

    Args:
        open_engine: Opens the model; its argument is the number of members of an ensemble to use, 0 = all.
        test: Rows and recordings, from `read_competition`.
        match: Classes of the competition in the model, from `match_classes`.
        output: CSV file to write.
        n_members: Members of the ensemble; 1 for any other model. Default: 1.
        hop_s: Seconds from one window to the next, as in `grid_rule`. Default: 0, one window per row.
        threshold: Lowest probability of a True in the long form, 0..1. Default: 0.5.
        batch_size: Windows per call of the model. Default: 32.
        n_workers: Threads that decode and score; scores do not depend on it. Default: 1.
        budget: Time after which no further recording is scored. Default: no limit.
        fallback: Measure that makes the rest faster when the budget would not do: "hop" (a longer hop), "models" (fewer
            members of the ensemble) or "none" (only a warning). Default: "none".

    Returns:
        What is missing, and the ledger of the recordings that the rows name.

    Raises:
        UserError: The hop is out of range, or "models" is asked for without an ensemble.
    """
    if fallback == "models" and n_members < 2:
        raise UserError("--fallback models needs an ensemble; this model has no members to leave out.")
    table = SubmissionTable(test.rows, match.columns, threshold=threshold)
    names = tuple(dict.fromkeys(name for name, _ in test.rows.windows))
    there = [name for name in names if name in test.recordings.paths]
    ledger = Ledger()
    for name in names:
        if name not in test.recordings.paths:
            ledger.add(test.recordings.folder / name, "quarantined", test.recordings.why_not(name), source=name)
    table.write(output)
    if not there:
        return table.report(), ledger
    engine = open_engine(0)
    plan = Plan(engine, grid_rule(engine, WINDOW_S, hop_s).hop / engine.sample_rate_hz, n_members)
    budget = budget or TimeBudget(float("inf"))
    budget.n_recordings = len(there)
    paths = [test.recordings.paths[name] for name in there]
    written, changed = time.monotonic(), True
    try:
        while changed:  # the recordings that follow are scored by another plan
            changed = False
            given = (plan.engine, _in_time(paths, budget), WINDOW_S)
            scored = grid_scores_of(*given, hop_s=plan.hop_s, batch_size=batch_size, n_workers=n_workers)
            with closing(scored):
                for path, found in scored:
                    _add(table, ledger, there[budget.n_done], path, found)
                    changed = budget.done() and _adapt(plan, budget, fallback, open_engine)
                    if time.monotonic() - written >= WRITE_EVERY_S:
                        start = time.monotonic()
                        table.write(output)
                        written = time.monotonic()
                        budget.written(written - start)
                    if changed:
                        break
    finally:
        report = table.write(output)
    for name, path in zip(there[budget.n_done :], paths[budget.n_done :], strict=True):
        ledger.add(path, "quarantined", OUT_OF_TIME, source=name)
    return report, ledger


def _in_time(paths: Sequence[Path], budget: TimeBudget) -> Iterator[Path]:
    """The recordings that follow, until the budget has no room for those that are begun and one more."""
    for number in range(budget.n_done, len(paths)):
        n_begun = number - budget.n_done
        if budget.left_s <= budget.per_recording_s * (n_begun + 1):
            return
        yield paths[number]


def _add(table: SubmissionTable, ledger: Ledger, name: str, path: Path, found: GridScores | str) -> None:
    """Add the scores of a recording, or the reason why it has none."""
    if isinstance(found, str):
        ledger.add(path, "quarantined", found, source=name)
        return
    table.add([(name, round(end)) for end in found.ends_s.tolist()], found.scores)
    ledger.add(path, found.status, found.reason, duration_s=found.duration_s, source=name)


def _adapt(plan: Plan, budget: TimeBudget, fallback: str, open_engine: OpenEngine) -> bool:
    """Say when the work will end, and change the plan if that is too late and a fallback is asked for."""
    expected = shown_time(budget.expected_s)
    if budget.seconds == float("inf"):
        say(f"submission: {budget.per_recording_s:.2g} s per recording, expected end after {expected}")
        return False
    times = f"expected end after {expected} of {shown_time(budget.seconds)}"
    factor = budget.too_slow_by
    if factor <= 1:
        say(f"submission: {budget.per_recording_s:.2g} s per recording, {times}")
        return False
    change = ""
    if fallback == "hop":
        longest = plan.engine.segment_s
        hop_s = plan.hop_s
        while hop_s * 2 <= longest and hop_s < plan.hop_s * factor:
            hop_s *= 2
        if hop_s > plan.hop_s:
            change, plan.hop_s = f"the hop is now {hop_s:g} s instead of {plan.hop_s:g} s", hop_s
    elif fallback == "models" and plan.n_members > 1:
        kept = max(1, min(plan.n_members - 1, int(plan.n_members / factor)))
        change = f"the first {kept} of {plan.n_members} members of the ensemble score the rest"
        plan.engine, plan.n_members = open_engine(kept), kept
    if change:
        say(f"submission: {times}; {change}.")
        budget.restart()
        return True
    advice = {
        "none": "--fallback hop or --fallback models would make the rest faster",
        "hop": "the hop cannot be longer",
        "models": "one member is left",
    }
    say(
        f"submission: {times}, too late: about {budget.n_in_time} of {budget.n_recordings} recordings will have "
        f"scores; {advice[fallback]}."
    )
    return False
