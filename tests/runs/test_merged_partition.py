"""The partition of an ensemble: the part of a recording is the first that it has in any member."""

from pathlib import Path
from types import SimpleNamespace

from birdnet_fs.data.ledger import Ledger
from birdnet_fs.data.manifest import Clip, Manifest
from birdnet_fs.data.partition import PARTITION, Partition, write_partition
from birdnet_fs.runs.merged_partition import merged_partition


def member(folder: Path, **parts: str) -> SimpleNamespace:
    """A folder with a partition of clips of one letter, as much of a run as is read."""
    folder.mkdir()
    clips = {
        part: tuple(Clip(folder.parent / f"{name}.wav", 0.0, 1.0, labels=("x",), fingerprint=name) for name in names)
        for part, names in {"train": "", "val": "", "held_out": "", **parts}.items()
    }
    write_partition(folder / PARTITION, Partition(Manifest((), ("x",), Ledger(), folder), **clips))
    return SimpleNamespace(path=folder, classes=("x",))


def test_merged_parts_are_disjoint_and_training_comes_first(tmp_path: Path) -> None:
    one = member(tmp_path / "1", train="ab", held_out="cdefg")
    two = member(tmp_path / "2", train="b", val="c", held_out="ad", pseudo_labels="f", inherited="eg")
    merged = merged_partition([one, two])
    parts = {
        part: "".join(clip.path.stem for clip in getattr(merged, part))
        for part in ("train", "pseudo_labels", "inherited", "val", "held_out")
    }
    assert parts == {"train": "ab", "pseudo_labels": "f", "inherited": "eg", "val": "c", "held_out": "d"}
    assert merged.classes == ("x",)
