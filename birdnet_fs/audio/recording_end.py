"""Clips that end past their recording, the one rule of `manifest`, training and evaluation.

A clip that ends later than its recording is cut at the end of the recording and is `partial` in the ledger; up to
`TOLERANCE_S`, the rounding of times in tables, it is cut without a remark. A clip that starts at or after the end is
quarantined.
"""

from collections.abc import Sequence
from typing import NamedTuple

from birdnet_fs.core.text import escaped

TOLERANCE_S = 0.05  # times in tables have one digit after the point or more
PAST_END = "past_end"  # flag in the ledger


class CutTimes(NamedTuple):
    """Times of a clip within its recording."""

    offset_s: float | None  # at most the length of the recording
    problem: str = ""  # why no part of the clip is in the recording
    reason: str = ""  # why the clip is partial


def cut_at_end(onset_s: float, offset_s: float | None, duration_s: float) -> CutTimes:
    """Cut a clip at the end of its recording.

    Args:
        onset_s: Start of the clip in seconds.
        offset_s: End in seconds; None = the end of the recording.
        duration_s: Length of the recording in seconds.

    Returns:
        The end of the clip, and a sentence when it was wrong.

    >>> cut_at_end(0.0, 6.02, 6.0), cut_at_end(1.0, 600.0, 6.0).offset_s
    (CutTimes(offset_s=6.0, problem='', reason=''), 6.0)
    """
    if onset_s >= duration_s:
        return CutTimes(offset_s, f"it starts at {onset_s:g} s, but the recording ends at {duration_s:.3f} s.")
    if offset_s is None or offset_s <= duration_s:
        return CutTimes(offset_s)
    if offset_s <= duration_s + TOLERANCE_S:
        return CutTimes(duration_s)
    reason = f"it ends at {offset_s:g} s, but the recording ends at {duration_s:.3f} s; it is cut there."
    return CutTimes(duration_s, reason=reason)


def past_end_message(reasons: Sequence[tuple[object, str]]) -> str:
    """Sum up the clips that end past their recordings.

    Args:
        reasons: (row or path, reason of `cut_at_end`) of each clip.

    Returns:
        One sentence; "" when there are none.
    """
    if not reasons:
        return ""
    where, reason = reasons[0]
    return (
        f"Clips that end past their recording: {len(reasons)} (the first: {escaped(where)}: {reason.rstrip('.')}). "
        "Check the unit of the times."
    )
