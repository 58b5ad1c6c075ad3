"""The data set: recordings, labels, segments and splits."""

from dataclasses import dataclass
from typing import Literal

from birdnet_fs.schema.checks import check, check_largest

# upper bounds, far above any use, so that a stranger's settings cannot take all memory or time
LARGEST = {
    "n_folds": 100_000,  # leave-one-recording-out on the largest collections
    "fold": 100_000,
    "limit": 1_000_000_000,
    "segment_s": 3600.0,
    "segment_hop_s": 86_400.0,  # one day
    "clip_hop_s": 3600.0,
    "min_overlap_s": 86_400.0,
    "cache_gb": 1_000_000.0,
}
SHORTEST_HOP_S = 0.001  # one hour is then 3.6 million windows


@dataclass(frozen=True)
class Data:
    """Location of the recordings and their labels, and their division into segments and splits."""

    root: str = "."  # folder that all paths in the table are relative to
    table: str = ""  # table of labels inside root, or a folder of them; empty = the only one there, or one of the usual
    # names manifest, metadata, train, train_metadata, labels and annotations; times are seconds unless their column
    # names another unit (start_ms, end (min), start_samples)
    layout: Literal[
        "auto",
        "manifest",
        "folders",
        "csv",
        "raven",
        "birdclef",
        "birdclef_soundscapes",
        "dcase",
        "animal_spot",
        "audacity",
    ] = "auto"  # layout of the labels; auto: detected
    audio: str = ""  # folder inside root with the audio files, for tables without that folder in their paths
    where: str = ""  # filter of the rows: "set=birds10" or "set=xc171,role=base|val|novel"; empty = all rows
    background: str = ""  # filter of the rows used as background noise in training, or a folder; empty = none
    # a head on model.encoder is fitted to them too: as negatives with multi_label, as a class with noise_label=class
    label_column: str = "label"  # column of the class name
    group_column: str = "group"  # column of the recording or individual; a split never divides a group
    split: Literal["folds", "table", "80/20", "70/15/15", "classes"] = "folds"
    # folds: one of n_folds is held out; table: split_column holds train, val and test (or base, val and novel)
    # 80/20: groups drawn for training and held-out; 70/15/15: groups for training, validation and held-out
    # classes: classes drawn 70/15/15 for training, validation and held-out, for training in episodes
    split_column: str = "split"  # column used by split=table
    fold_column: str = "fold"  # column of the fold numbers, where the table has it; else n_folds folds are drawn
    multi_label: bool = False  # true: any number of labels per segment, sigmoid; false: exactly one, softmax
    secondary: Literal["label", "soft", "mask", "ignore"] = "label"  # training target of secondary labels (multi_label)
    # label: 1, as for primary labels; soft: secondary_target; mask: excluded from the loss; ignore: 0
    secondary_target: float = 0.5  # target for secondary=soft, above 0, up to 1
    noise_label: Literal["negative", "class"] = "negative"  # clips labeled noise, nocall, background, nothing, empty
    # negative: no class is present in them (with multi_label); class: noise is a class like any other
    binary_label: str = ""  # name of the single class that replaces every label, as "call"; needs multi_label
    # negatives are clips labeled as noise (noise, nocall, ...) and segments without an event; empty = off
    segment_s: float = 0.0  # seconds of a labeled segment of recordings with timed events; 0 = the window of the model
    # longer than the window: the score of a segment is the mean of its windows, as of a clip
    segment_hop_s: float = 0.0  # seconds between starts of segments in recordings with timed events; 0 = segment_s
    clip_hop_s: float = 0.0  # seconds between starts of the windows of a clip that are scored; 0 = half a window
    timed_rows: Literal["auto", "events", "clips"] = "auto"  # what a row with times is, with multi_label
    # events: all that is in its recording, so that the rest has no label; clips: a labeled excerpt, and the rest is
    # unknown; auto: clips in a table of birdnet-fs search, else events where a recording has several rows
    min_overlap_s: float = 0.1  # shortest overlap in seconds for an event to label a segment
    n_folds: int = 5  # number of folds to draw, 2 or more
    fold: int = 0  # number of the held-out fold; -1 = none, train on everything
    val_fraction: float = 0.0  # fraction of the training groups used for validation, 0 (none) to below 1
    limit: int = 0  # largest number of segments to use; 0 = all (debug uses 1000)
    spectrograms: str = ""  # folder of .npy files of `birdnet-fs cache precompute`, read for training and validation in
    # the place of features of the audio; needs augmentation.crop=center and no change of the waveform; empty = none
    cache: str = ""  # folder in which decoded clips are kept, shared by runs, folds and trials; empty = off
    cache_gb: float = 100.0  # largest size of that folder, GB (1e9 bytes), above 0; the least recently used goes first

    def __post_init__(self) -> None:
        check(self.n_folds >= 2, "data.n_folds must be 2 or more", self.n_folds)
        check(self.fold >= -1, "data.fold must be -1 (none held out) or the number of a fold", self.fold)
        check(self.limit >= 0, "data.limit must be 0 (all) or more", self.limit)
        check(0 < self.secondary_target <= 1, "data.secondary_target must be in (0, 1]", self.secondary_target)
        check(
            self.secondary == "label" or self.multi_label,
            f"data.secondary={self.secondary} needs data.multi_label=true (otherwise secondary labels are not used)",
            self.multi_label,
        )
        check(
            not self.binary_label or self.multi_label,
            f"data.binary_label={self.binary_label} needs data.multi_label=true (one class, present or absent)",
            self.multi_label,
        )
        check(
            not self.binary_label or self.noise_label == "negative",
            f"data.binary_label={self.binary_label} needs data.noise_label=negative (noise is not a call)",
            self.noise_label,
        )
        check(0 <= self.val_fraction < 1, "data.val_fraction must be in [0, 1)", self.val_fraction)
        check(self.segment_s >= 0, "data.segment_s must be 0 (the window of the model) or more seconds", self.segment_s)
        check(self.segment_hop_s >= 0, "data.segment_hop_s must be 0 or more seconds", self.segment_hop_s)
        check(
            self.segment_hop_s == 0 or self.segment_hop_s >= SHORTEST_HOP_S,
            f"data.segment_hop_s must be 0 (a whole segment), or {SHORTEST_HOP_S:g} or more seconds",
            self.segment_hop_s,
        )
        check(
            self.clip_hop_s == 0 or self.clip_hop_s >= SHORTEST_HOP_S,
            f"data.clip_hop_s must be 0 (half a window), or {SHORTEST_HOP_S:g} or more seconds",
            self.clip_hop_s,
        )
        check(self.min_overlap_s >= 0, "data.min_overlap_s must be 0 or more seconds", self.min_overlap_s)
        check(self.cache_gb > 0, "data.cache_gb must be above 0", self.cache_gb)
        check_largest(self, "data.", LARGEST)

    @property
    def activation(self) -> str:
        """Activation from logits to probabilities: "sigmoid" with `multi_label`, else "softmax"."""
        return "sigmoid" if self.multi_label else "softmax"
