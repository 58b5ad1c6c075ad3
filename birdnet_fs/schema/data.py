"""Recordings, labels, segments and splits."""

from dataclasses import dataclass
from typing import Literal

from birdnet_fs.schema.checks import check


@dataclass(frozen=True)
class Data:
    """Where the recordings and their labels are, and how they become segments and splits."""

    root: str = "."  # folder every path in the table is relative to
    table: str = ""  # CSV inside root; empty = look at the folder itself
    layout: Literal["auto", "manifest", "folders", "csv", "raven", "birdclef", "dcase", "animal_spot", "audacity"] = (
        "auto"
    )
    audio: str = ""  # folder inside root that holds the audio, when the table does not say
    where: str = ""  # rows to use: "set=birds10" or "set=xc171,role=base|val|novel"
    background: str = ""  # rows used as background noise in training, same syntax, or a folder; never labeled
    label_column: str = "label"
    group_column: str = "group"  # segments of one group never sit on both sides of a split
    split: Literal["folds", "table", "80/20", "70/15/15", "classes"] = "folds"
    # folds: one of n_folds is held out; table: split_column says train, val and test (or base, val and novel); else
    # drawn by groups: 80/20 train and held out, 70/15/15 train, validation and held out
    # classes: whole classes are drawn, 70/15/15 of them, for training in episodes
    split_column: str = "split"  # of split=table
    fold_column: str = "fold"  # folds of the table, used when it has them; else n_folds are drawn
    multi_label: bool = False  # sigmoid and any number of labels, else softmax and one
    secondary: Literal["label", "soft", "mask", "ignore"] = "label"  # what training makes of secondary labels,
    # with multi_label: a label like the first; one of secondary_target; not known, so that neither answer costs; none
    secondary_target: float = 0.5
    binary_label: str = ""  # the one class that any label becomes, as "call": a detector of target against noise, with
    # multi_label; clips of noise are those labeled so (noise, nocall, ...) and what no event covers
    segment_hop_s: float = 0.0  # between windows of recordings with timed events; 0 = segment_s
    min_overlap_s: float = 0.1  # an event labels a segment when they share at least this much
    n_folds: int = 5  # to draw
    fold: int = 0  # held-out fold of `train`; -1 trains on everything
    val_fraction: float = 0.0  # of the training groups of a fold, for keep="best" and the curves; 0 = none
    limit: int = 0  # use at most this many segments; 0 = all (debug uses 1000)

    def __post_init__(self) -> None:
        check(self.n_folds >= 2, "data.n_folds must be 2 or more", self.n_folds)
        check(self.fold >= -1, "data.fold must be -1 (none held out) or the number of a fold", self.fold)
        check(self.limit >= 0, "data.limit must be 0 (all) or more", self.limit)
        check(0 < self.secondary_target <= 1, "data.secondary_target must be in (0, 1]", self.secondary_target)
        check(
            self.secondary == "label" or self.multi_label,
            f"data.secondary={self.secondary} needs data.multi_label=true (else secondary labels are left out)",
            self.multi_label,
        )
        check(
            not self.binary_label or self.multi_label,
            f"data.binary_label={self.binary_label} needs data.multi_label=true (one class that is there or not)",
            self.multi_label,
        )
        check(0 <= self.val_fraction < 1, "data.val_fraction must be in [0, 1)", self.val_fraction)
        check(self.segment_hop_s >= 0, "data.segment_hop_s must be 0 or more seconds", self.segment_hop_s)

    @property
    def activation(self) -> str:
        """What turns logits into probabilities: "sigmoid" with `multi_label`, else "softmax"."""
        return "sigmoid" if self.multi_label else "softmax"
