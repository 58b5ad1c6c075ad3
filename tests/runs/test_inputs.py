"""What a run was trained from: corrected labels and moved, added, removed and replaced files are found and named."""

import dataclasses
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile

from birdnet_fs import schema
from birdnet_fs.data.partition import PARTITION, partition, write_partition
from birdnet_fs.runs.inputs import INPUTS, input_changes, training_inputs, write_inputs
from birdnet_fs.runs.resolve import is_finished, resolved
from birdnet_fs.runs.run import save_run


def write(path: Path, seed: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, np.random.default_rng(seed).normal(0, 0.1, 4_000), 8_000)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Two classes of four recordings in folders, another one in a table, and background."""
    for i in range(4):
        for k, name in enumerate(("wren", "owl")):
            write(tmp_path / "data" / "clips" / name / f"{name}{i}.wav", 10 * k + i)
    write(tmp_path / "data" / "quiet" / "q.wav", 50)
    return tmp_path / "data"


def experiment(root: Path, **changes: object) -> schema.Experiment:
    data = schema.Data(root=str(root / "clips"), split="80/20")
    return resolved(dataclasses.replace(schema.Experiment(name="x", data=data), **changes))


def finished(folder: Path, one: schema.Experiment) -> Path:
    """A run folder as a training leaves it, without a network."""
    parts = partition(one)
    made_from = training_inputs(one, parts)

    def others(place: Path) -> None:
        write_partition(place / PARTITION, parts.with_fingerprints())
        write_inputs(place, made_from)

    save_run(folder, one, parts.classes, {"kernel": np.zeros(2, np.float32)}, write_extra=others)
    return folder


def correct_label(clips: Path) -> None:
    shutil.move(clips / "owl" / "owl0.wav", clips / "wren" / "owl0.wav")


def replace_recording(clips: Path) -> None:
    write(clips / "owl" / "owl0.wav", 99)
    os.utime(clips / "owl" / "owl0.wav", (1, 1))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda clips: None, []),
        (lambda clips: [os.utime(path, (1, 1)) for path in clips.rglob("*.wav")], []),
        (correct_label, ["1 label changed", "1 file moved"]),
        (lambda clips: (clips / "owl" / "owl0.wav").rename(clips / "owl" / "late.wav"), ["1 file moved"]),
        (lambda clips: write(clips / "owl" / "new.wav", 98), ["1 recording added"]),
        (lambda clips: (clips / "wren" / "wren1.wav").unlink(), ["1 recording removed"]),
        (replace_recording, ["1 recording replaced"]),
        (lambda clips: (clips / "wren").rename(clips / "robin"), ["4 labels changed", "4 files moved"]),
    ],
)
@pytest.mark.parametrize("earlier", [False, True])
def test_changes_are_named(
    root: Path,
    tmp_path: Path,
    change: Callable[[Path], object],
    said: list[str],
    earlier: bool,
    capsys: pytest.CaptureFixture[str],
) -> None:
    one = experiment(root)
    run = finished(tmp_path / "run", one)
    if earlier:  # a run of a version that wrote no inputs.json
        (run / INPUTS).unlink()
    change(root / "clips")
    assert input_changes(run, one) == said
    assert is_finished(run, one) == (not said)
    assert ("has no readable inputs.json" in capsys.readouterr().err) == earlier


def test_table_of_labels_is_compared_row_by_row(root: Path, tmp_path: Path) -> None:
    rows = [f"{name}/{name}{i}.wav,{i / 10},0.4,{name},{i % 2}" for i in range(4) for name in ("wren", "owl")]

    def table(*lines: str) -> None:
        (root / "clips" / "labels.csv").write_text("\n".join(["path,onset,offset,label,fold", *lines]) + "\n")

    table(*rows)
    data = schema.Data(root=str(root / "clips"), table="labels.csv", label_column="label", split="folds", fold=0)
    one = experiment(root, data=data)
    run = finished(tmp_path / "run", one)
    table(*reversed(rows))
    assert input_changes(run, one) == []
    for old, new, said in (
        ("wren1.wav,0.1,0.4,wren,1", "wren1.wav,0.1,0.4,owl,1", "1 label changed"),
        ("wren1.wav,0.1,0.4,wren,1", "wren1.wav,0.2,0.4,wren,1", "1 clip with other times"),
        ("wren1.wav,0.1,0.4,wren,1", "wren1.wav,0.1,0.4,wren,0", "1 clip in another part"),
    ):
        table(*(row.replace(old, new) for row in rows))
        [text] = input_changes(run, one)
        assert text.startswith(said)
    table(*rows[1:])
    assert input_changes(run, one) == ["1 recording removed"]


def test_background_start_teacher_and_pretraining_are_compared(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    start, teacher = finished(tmp_path / "start", experiment(root)), finished(tmp_path / "teacher", experiment(root))
    shutil.copytree(root / "clips", root / "others")
    first = schema.Experiment(name="first", data=schema.Data(root=str(root / "others"), split="80/20"))
    one = experiment(
        root,
        data=schema.Data(root=str(root / "clips"), split="80/20", background="../quiet"),
        model=schema.Model(weights=str(start)),
        distillation=schema.Distillation(teacher=str(teacher)),
    )
    pretrained = experiment(root, pretrain=first)
    run, other = finished(tmp_path / "run", one), finished(tmp_path / "other", pretrained)
    assert input_changes(run, one) == input_changes(other, pretrained) == []
    write(root / "quiet" / "r.wav", 51)
    (start / "weights.safetensors").write_bytes(b"other weights")
    (teacher / "classes.txt").write_text("owl\nrobin\n")
    assert input_changes(run, one) == [
        "background: 1 recording added",
        "the initial weights changed",
        "the teacher changed",
    ]
    shutil.rmtree(start)
    shutil.rmtree(teacher)
    capsys.readouterr()
    assert input_changes(run, one) == ["background: 1 recording added"]
    assert "the initial weights" in capsys.readouterr().err  # gone, and said
    correct_label(root / "others")
    assert input_changes(other, pretrained) == [
        "pretraining: labels or clips changed",
        "pretraining: 1 file moved",
    ]


def test_run_without_a_partition_is_kept_and_said(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one = experiment(root)
    run = finished(tmp_path / "run", one)
    (run / PARTITION).unlink()
    correct_label(root / "clips")
    assert is_finished(run, one)
    assert "whether its labels and recordings have changed is unknown" in capsys.readouterr().err
