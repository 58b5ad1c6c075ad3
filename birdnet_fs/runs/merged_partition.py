"""The partition of an ensemble, from those of its members."""

from collections.abc import Sequence
from pathlib import Path

from birdnet_fs.data.copies import match_recordings, recording_key, with_fingerprints
from birdnet_fs.data.ledger import Ledger
from birdnet_fs.data.manifest import Clip, Manifest
from birdnet_fs.data.partition import (
    HELD_OUT,
    INHERITED,
    PARTITION,
    PSEUDO_LABELS,
    TRAIN,
    VAL,
    Partition,
    read_partition,
)
from birdnet_fs.runs.run import Run


def merged_partition(runs: Sequence[Run]) -> Partition:
    """The partition of an ensemble: each clip is in the first part that it has in any member.

    The order of the parts is train, pseudo-labels, inherited, validation, held out. A recording belongs to one part,
    whatever its path is in each run. Where members cut it differently (segments of another length), validation and
    held-out clips are those of the first member with the recording. An ensemble of all folds of an experiment has no
    held-out clips, since each was a training clip of the other folds. A UserError of `read_partition` is passed on.

    Args:
        runs: The members.

    Returns:
        Their clips by part, each with the fingerprint of its recording where that is known.
    """
    placed: list[Clip] = []
    by_part: dict[str, tuple[Clip, ...]] = {}
    for name in (TRAIN, PSEUDO_LABELS, INHERITED, VAL, HELD_OUT):
        found: list[Clip] = []
        for run in runs:
            clips = with_fingerprints(read_partition(run.path / PARTITION, name))
            new = [c for c, known in zip(clips, match_recordings(clips, placed), strict=True) if not known]
            found += new
            placed += new if name in (VAL, HELD_OUT) else []
        placed += found
        by_part[name] = tuple({(recording_key(clip), clip.onset_s, clip.offset_s): clip for clip in found}.values())
    manifest = Manifest((), runs[0].classes, Ledger(), Path())
    return Partition(
        manifest,
        train=by_part[TRAIN],
        val=by_part[VAL],
        held_out=by_part[HELD_OUT],
        pseudo_labels=by_part[PSEUDO_LABELS],
        inherited=by_part[INHERITED],
    )
