"""Partitions of generated tables: folds, splits, classes, leaks, and partition.csv."""

import csv
from pathlib import Path

import numpy as np
import pytest
import soundfile

from birdnet_fs.core.errors import UserError
from birdnet_fs.core.random_streams import Stream, generator
from birdnet_fs.data.partition import HELD_OUT, TRAIN, VAL, fold_numbers, partition, read_partition, write_partition
from birdnet_fs.data.splits import split_by_groups
from birdnet_fs.data.targets import clip_targets
from birdnet_fs.schema import Checkpoints, Data, Episodes, Experiment, FrontEnd, Model, Training

SPEC = FrontEnd(segment_s=0.5)


@pytest.fixture
def table(tmp_path: Path):
    """Write a table of 40 clips: 4 species, 20 individuals with 2 clips each."""

    def write(**columns) -> Path:
        rng = np.random.default_rng(0)
        rows = []
        for i in range(40):
            path = tmp_path / f"{i}.wav"
            if not path.exists():
                soundfile.write(path, rng.normal(0, 0.1, 1600 + i), 16_000)
            row = {"filename": path.name, "label": f"species{i % 4}", "group": f"bird{i % 20}"}
            rows.append(row | {name: give(i) for name, give in columns.items()})
        with open(tmp_path / "table.csv", "w", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
        return tmp_path

    return write


def experiment(root: Path, **data) -> Experiment:
    training = Training(checkpoints=Checkpoints(select=data.pop("select", "last")))
    return Experiment(data=Data(root=str(root), table="table.csv", **data), frontend=SPEC, training=training)


def few_shot(root: Path, *, seed: int, **data) -> Experiment:
    return Experiment(
        seed=seed,
        data=Data(root=str(root), table="table.csv", **data),
        frontend=SPEC,
        model=Model(head="prototypes"),
        episodes=Episodes(),
    )


def groups(clips) -> set[str]:
    return {clip.group for clip in clips}


def test_drawn_folds_hold_out_every_clip_once_and_divide_no_group(table) -> None:
    root = table()
    parts = [partition(experiment(root, fold=fold)) for fold in fold_numbers(experiment(root))]
    held = [clip.path for part in parts for clip in part.held_out]
    assert len(parts) == 5
    assert len(held) == len(set(held)) == 40
    for part in parts:
        assert not groups(part.train) & groups(part.held_out)
        assert not part.leaks()
        assert {clip.labels[0] for clip in part.held_out} == {f"species{k}" for k in range(4)}


@pytest.mark.parametrize(("n", "n_folds"), [(3, 3), (2, 2), (1, 0)])
def test_few_recordings_have_fewer_folds(table, n: int, n_folds: int, capsys: pytest.CaptureFixture[str]) -> None:
    """Four species of n recordings each: the table has 40 rows, of which the first 4 n are used."""
    root = table(group=str, label=lambda i: f"species{i % 4}", split=lambda i: "in" if i < 4 * n else "out")
    asked = experiment(root, where="split=in")
    part = partition(asked)
    assert (len(part.train), len(part.held_out)) == ((4 * (n - 1), 4) if n_folds else (4, 0))
    assert ("The number of folds is" if n_folds else "Nothing is held out") in capsys.readouterr().err
    if not n_folds:
        with pytest.raises(UserError, match="needs classes with two recordings"):
            fold_numbers(asked)
        return
    assert fold_numbers(asked) == list(range(n_folds))
    with pytest.raises(UserError, match=r"data\.fold must be one of the folds \[0, 1.*Received: 4"):
        partition(experiment(root, where="split=in", fold=4))


def test_folds_of_the_table_are_used_with_any_numbers(table) -> None:
    root = table(fold=lambda i: i % 20 % 3 + 1)
    assert fold_numbers(experiment(root)) == [1, 2, 3]
    part = partition(experiment(root, fold=3))
    assert {int(clip.path.stem) % 20 % 3 for clip in part.held_out} == {2}
    with pytest.raises(UserError, match=r"data\.fold must be one of the folds \[1, 2, 3\]\. Received: 0"):
        partition(experiment(root, fold=0))


def test_fold_column_with_gaps_is_refused(table) -> None:
    root = table(fold=lambda i: "" if i == 7 else i % 5)
    with pytest.raises(UserError, match="1 of 40 rows have no fold"):
        partition(experiment(root))
    assert len(partition(experiment(root, fold_column="")).held_out) == 8


def test_split_of_the_table_is_used(table) -> None:
    root = table(split=lambda i: ("train", "val", "test", "train")[i % 20 % 4])
    part = partition(experiment(root, split="table"))
    assert [len(part.train), len(part.val), len(part.held_out)] == [20, 10, 10]
    with pytest.raises(UserError, match=r"Cross-validation needs data\.split=folds"):
        fold_numbers(experiment(root, split="table"))
    table(split=lambda i: "train" if i else "tset")
    with pytest.raises(UserError, match="1 of 40 rows have another value"):
        partition(experiment(root, split="table"))


def test_classes_are_divided_with_split_classes(table) -> None:
    root = table(label=lambda i: f"species{i % 20}")
    parts = [partition(few_shot(root, seed=seed, split="classes")) for seed in (0, 0, 1)]
    named = [[{c.labels[0] for c in clips} for clips in (p.train, p.val, p.held_out)] for p in parts]
    assert [len(names) for names in named[0]] == [14, 3, 3]
    assert len(set.union(*named[0])) == 20
    assert named[0] == named[1] != named[2]
    assert parts[0].classes_unseen_in_training and parts[0].classes == tuple(sorted(named[0][0]))
    with pytest.raises(UserError, match=r"needs three classes or more\. Received: 2 \(species0, species1\)"):
        partition(few_shot(table(label=lambda i: f"species{i % 2}"), seed=0, split="classes"))


def test_split_column_can_be_set(table) -> None:
    root = table(role=lambda i: ("base", "base", "val", "novel")[i % 4], split=lambda i: ("train", "test")[i % 20 % 2])
    part = partition(experiment(root, split="table", split_column="role"))
    assert [len(part.train), len(part.val), len(part.held_out)] == [20, 10, 10]
    assert part.classes == ("species0", "species1")
    other = partition(experiment(root, split="table"))
    assert len(other.held_out) == 20
    with pytest.raises(UserError, match=r"data\.split_column: table\.csv has no column 'rolle'.*'role'"):
        partition(experiment(root, split="table", split_column="rolle"))
    with pytest.raises(UserError, match=r"in the column 'label' \(data\.split_column\).*40 of 40"):
        partition(experiment(root, split="table", split_column="label"))


def test_classes_are_those_of_all_parts_where_parts_share_some(table) -> None:
    root = table(split=lambda i: ("train", "train", "test", "train")[i % 4] if i > 1 else "test")
    part = partition(experiment(root, split="table"))
    assert not part.classes_unseen_in_training and len(part.classes) == 4
    assert not partition(experiment(root, fold=-1)).classes_unseen_in_training


@pytest.mark.parametrize(("split", "sizes"), [("80/20", (32, 0, 8)), ("70/15/15", (28, 6, 6))])
def test_drawn_parts_have_their_shares(table, split: str, sizes: tuple[int, ...]) -> None:
    part = partition(experiment(table(), split=split))
    found = [len(part.train), len(part.val), len(part.held_out)]
    assert np.abs(np.subtract(found, sizes)).max() <= 4  # groups of two clips, four species to keep even
    assert sum(found) == 40
    assert not groups(part.train) & groups(part.held_out)
    assert not groups(part.train) & groups(part.val)


def test_validation_comes_from_the_training_groups(table) -> None:
    root = table()
    part = partition(experiment(root, val_fraction=0.25, select="best"))
    assert part.held_out == partition(experiment(root)).held_out
    assert part.val
    assert not groups(part.val) & groups(part.train)


def test_limit_and_validation_are_drawn_from_streams_of_their_own(table) -> None:
    root = table()
    kept = partition(experiment(root, fold=-1, limit=10)).train
    expected = generator(Experiment().seed, Stream.LIMIT).permutation(40)[:10]
    assert [int(clip.path.stem) for clip in kept] == sorted(expected.tolist())
    part = partition(experiment(root, fold=2, val_fraction=0.25))
    left = sorted((*part.train, *part.val), key=lambda clip: int(clip.path.stem))
    labels, own_groups = [clip.labels[0] for clip in left], [clip.group for clip in left]
    own, others = (
        split_by_groups(labels, own_groups, (0.75, 0.25), Experiment().seed, stream)
        for stream in (Stream.VALIDATION, Stream.SPLIT)
    )
    assert {clip.path for clip in part.val} == {left[i].path for i in np.flatnonzero(own)}
    assert not np.array_equal(own, others)


def test_no_clip_is_held_out_with_fold_minus_one(table) -> None:
    part = partition(experiment(table(), fold=-1))
    assert len(part.train) == 40
    assert not part.held_out


def test_same_recording_under_two_names_is_a_leak(table) -> None:
    root = table(group=lambda i: f"bird{i}", fold=lambda i: i % 5)
    (root / "1.wav").write_bytes((root / "0.wav").read_bytes())
    part = partition(experiment(root))
    assert [{path.name for path in same} for same in part.leaks().identical] == [{"0.wav", "1.wav"}]


def test_partition_is_read_back_as_written(table, tmp_path: Path) -> None:
    part = partition(experiment(table(), val_fraction=0.2))
    write_partition(tmp_path / "partition.csv", part)
    for name, clips in ((HELD_OUT, part.held_out), (VAL, part.val)):
        again = read_partition(tmp_path / "partition.csv", name)
        assert [(c.path, c.onset_s, c.offset_s, c.labels, c.group) for c in again] == [
            (c.path, c.onset_s, c.offset_s, c.labels, c.group) for c in clips
        ]
    with pytest.raises(UserError, match="does not exist"):
        read_partition(tmp_path / "nowhere.csv", VAL)


def test_secondary_labels_count_with_several_labels_only(table) -> None:
    root = table(secondary_labels=lambda i: f"species{(i + 1) % 4}")
    part = partition(experiment(root, multi_label=True))
    single = clip_targets(part.train, part.classes, multi_label=False)
    both = clip_targets(part.train, part.classes, multi_label=True)
    assert (single.sum(1) == 1).all()
    assert (both.sum(1) == 2).all()
    for how, value in (("mask", -1.0), ("soft", 0.3), ("ignore", 0.0), ("label", 1.0)):
        data = Data(multi_label=True, secondary=how, secondary_target=0.3)
        found = clip_targets(part.train, part.classes, multi_label=True, data=data)
        assert (found[single == 1] == 1).all()
        np.testing.assert_array_equal(found[(both == 1) & (single == 0)], np.float32(value))
        assert (found[both == 0] == 0).all()


def on_encoder(root: Path, **data) -> Experiment:
    return Experiment(data=Data(root=str(root), table="table.csv", **data), model=Model(encoder="x.onnx"))


@pytest.fixture
def forest(table) -> Path:
    """The table, and a folder with two background recordings, a copy of a labeled one, and a file that is no audio."""
    root = table()
    (root / "forest").mkdir()
    for i in range(2):
        soundfile.write(root / "forest" / f"quiet{i}.wav", np.random.default_rng(90 + i).normal(0, 0.1, 1600), 16_000)
    (root / "forest" / "copy.wav").write_bytes((root / "7.wav").read_bytes())
    return root


def test_background_recordings_are_training_clips_of_a_head_without_any_class(forest: Path) -> None:
    plain = partition(on_encoder(forest, multi_label=True, split="70/15/15"))
    parts = partition(on_encoder(forest, multi_label=True, split="70/15/15", background="forest"))
    added = parts.train[len(plain.train) :]
    assert parts.train[: len(plain.train)] == plain.train
    assert (parts.val, parts.held_out) == (plain.val, plain.held_out)
    assert [clip.path.name for clip in added] == ["quiet0.wav", "quiet1.wav"]  # the copy is labeled elsewhere
    assert parts.classes == plain.classes and not clip_targets(added, parts.classes, multi_label=True).any()
    assert len(parts.manifest.ledger.rows) == len(plain.manifest.ledger.rows) + 3


def test_background_recordings_have_a_class_of_their_own_where_each_clip_has_one_label(forest: Path) -> None:
    parts = partition(on_encoder(forest, noise_label="class", background="forest"))
    assert parts.classes == ("noise", "species0", "species1", "species2", "species3")
    added = [clip for clip in parts.train if clip.labels == ("noise",)]
    assert [clip.path.name for clip in added] == ["quiet0.wav", "quiet1.wav"]
    assert not any("noise" in clip.labels for clip in (*parts.val, *parts.held_out))
    write_partition(forest / "partition.csv", parts)
    assert [c.labels for c in read_partition(forest / "partition.csv", TRAIN)] == [c.labels for c in parts.train]


def test_background_recordings_are_of_the_class_of_noise_that_the_table_has(table, tmp_path: Path) -> None:
    root = table(label=lambda i: ("nocall", "owl", "tit", "wren")[i % 4], set=lambda i: "a" if i < 30 else "b")
    parts = partition(on_encoder(root, noise_label="class", where="set=a", background="set=b"))
    assert parts.classes == ("nocall", "owl", "tit", "wren")
    assert [clip.labels for clip in parts.train if int(clip.path.stem) >= 30] == [("nocall",)] * 10


def test_networks_and_heads_with_one_label_are_not_trained_on_background(forest: Path, capsys) -> None:
    network = experiment(forest, multi_label=True, background="forest")
    assert not any("quiet" in clip.path.name for clip in partition(network).train)
    head = partition(on_encoder(forest, background="forest"))
    assert not any("quiet" in clip.path.name for clip in head.train) and len(head.classes) == 4
    assert "data.noise_label=class makes them a class of their own" in capsys.readouterr().err
