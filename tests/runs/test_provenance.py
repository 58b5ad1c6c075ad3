"""Provenance: whether a run was trained on a sound, under any file name, for every command that needs it."""

import csv
import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf

from birdnet_fs.analysis import pseudo_labels as labeling
from birdnet_fs.cli.enroll import enroll
from birdnet_fs.cli.ensemble import make_ensemble
from birdnet_fs.cli.evaluate import evaluate
from birdnet_fs.cli.fewshot_eval import fewshot_eval
from birdnet_fs.cli.quantize import quantize
from birdnet_fs.core.errors import UserError
from birdnet_fs.core.settings import override
from birdnet_fs.data.copies import fingerprint
from birdnet_fs.data.manifest import Clip, read_manifest
from birdnet_fs.data.partition import (
    HELD_OUT,
    INHERITED,
    PARTITION,
    TRAIN,
    Partition,
    partition,
    read_partition,
    write_partition,
)
from birdnet_fs.inference.open import open_engine
from birdnet_fs.reports.held_out import evaluate_again
from birdnet_fs.runs.merged_partition import merged_partition
from birdnet_fs.runs.provenance import Provenance, inherited, provenance, refuse_trained_on
from birdnet_fs.runs.run import Run, build_network, load_run, model_weights, save_run
from birdnet_fs.schema import Data, Experiment, FrontEnd, Model, Schedule, Training
from birdnet_fs.training import trainer

RATE, NAMES, N = 16_000, ("a", "b", "c"), 6


def tone(seed: int, pitch_hz: float) -> np.ndarray:
    rng = np.random.default_rng(seed)
    t = np.arange(RATE) / RATE
    return 0.3 * np.sin(2 * np.pi * pitch_hz * t + rng.uniform(0, 6)) + rng.normal(0, 0.02, RATE)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """original/ and, with the same sounds, bytes/ (byte copies), link/ (a symlink), wav/ (made of the FLAC files)."""
    folder = tmp_path_factory.mktemp("provenance")
    for c, name in enumerate(NAMES):
        for kind in ("original", "bytes", "wav"):
            (folder / kind / name).mkdir(parents=True)
        for i in range(N):
            path = folder / "original" / name / f"{i}.flac"
            sf.write(path, tone(10 * c + i, 800.0 * (c + 1)), RATE, subtype="PCM_16")
            # the same order under other names, so that the folds that are drawn hold the same sounds
            shutil.copy(path, folder / "bytes" / name / f"copy{i}.flac")
            sf.write(folder / "wav" / name / f"made{i}.wav", sf.read(path, dtype="int16")[0], RATE, subtype="PCM_16")
    (folder / "link").symlink_to(folder / "original")
    return folder


COPIES = pytest.mark.parametrize("kind", ["original", "bytes", "link", "wav"])


def experiment(root: Path, *settings: str) -> Experiment:
    front_end = FrontEnd(segment_s=1.0, sample_rate_hz=RATE, n_mels=32, hop_length=512, fmin_hz=200.0, fmax_hz=6_000.0)
    plain = Experiment(
        name="tiny",
        data=Data(root=str(root), n_folds=3, fold=0),
        frontend=front_end,
        model=Model("cnn/tiny", dropout=0.0),
        training=Training(epochs=1, batch_size=9, schedule=Schedule(warmup_epochs=0), threads=1),
    )
    return override(plain, settings)


@pytest.fixture(scope="module")
def base(place: Path) -> Run:
    """A run trained on all recordings of original/."""
    return trainer.train(experiment(place / "original", "data.fold=-1"), place / "base")


def untrained(folder: Path, chosen: Experiment, parts: Partition) -> Run:
    """A run as its training would leave it, apart from its weights."""
    weights = model_weights(build_network(chosen, len(parts.classes)))
    return save_run(folder, chosen, parts.classes, weights, write_extra=lambda f: write_partition(f / PARTITION, parts))


def with_old_partition(run: Path, folder: Path) -> Path:
    """A copy of a run as it was written before partition.csv held fingerprints and what is inherited."""
    shutil.copytree(run, folder)
    with open(folder / PARTITION, newline="") as file:
        rows = [row[:-1] for row in csv.reader(file) if row[0] != INHERITED]
    with open(folder / PARTITION, "w", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows(rows)
    return folder


def test_a_run_keeps_the_fingerprint_of_every_recording(base: Run, place: Path) -> None:
    clips = read_partition(base.path / PARTITION, TRAIN)
    assert len(clips) == N * len(NAMES) and len({clip.fingerprint for clip in clips}) == len(clips)
    assert all(clip.fingerprint == fingerprint(clip.path) for clip in clips)
    with open(base.path / PARTITION) as file:
        assert file.readline().strip().split(",")[-1] == "fingerprint"


@COPIES
def test_weights_teachers_and_pretraining_are_refused(base: Run, place: Path, tmp_path: Path, kind: str) -> None:
    here = experiment(place / kind)
    for settings in (f"model.weights={base.path}", f"distillation.teacher={base.path}"):
        with pytest.raises(UserError, match=r"base was trained on 6 clips that are held out here \(the first: .*/"):
            trainer.train(override(here, [settings]), tmp_path / "run")
    first = experiment(place / "original", "data.fold=-1")
    with pytest.raises(UserError, match=r"pretrain was trained on 6 clips that are held out here .*pretrain\.data"):
        trainer.train(dataclasses.replace(here, pretrain=first), tmp_path / "run")
    assert not (tmp_path / "run" / "config.json").exists()


def test_a_run_of_the_same_fold_is_not_refused(base: Run, place: Path) -> None:
    parts = partition(experiment(place / "original")).with_fingerprints()
    same = untrained(place / "same", experiment(place / "original"), parts)
    refuse_trained_on(same.path, partition(experiment(place / "wav")).with_fingerprints(), "")
    with pytest.raises(UserError, match=r"has no partition\.csv, so its training recordings are unknown; do that\."):
        refuse_trained_on(place, parts, "do that")


@COPIES
def test_pseudo_labels_of_a_run_trained_on_held_out_sounds_are_refused(
    base: Run, place: Path, tmp_path: Path, kind: str
) -> None:
    (tmp_path / "field").mkdir()
    sf.write(tmp_path / "field" / "new.wav", tone(99, 1_000.0), RATE)
    table = labeling.label_recordings(
        open_engine(base.path), [tmp_path / "field"], tmp_path / "table", runs=[base.path]
    )
    with pytest.raises(UserError, match=r"base was trained on 6 clips that are held out here .*same fold"):
        trainer.train(experiment(place / kind, f"pseudo_labels.table={table}"), tmp_path / "run")


@COPIES
def test_held_out_sounds_are_no_unlabeled_windows_and_no_noise(
    place: Path, tmp_path: Path, kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    labeler = untrained(tmp_path / "labeler", experiment(place / "original"), partition(experiment(place / "original")))
    table = labeling.label_recordings(
        open_engine(labeler.path), [place / kind], tmp_path / "table", runs=[labeler.path]
    )
    settings = (f"pseudo_labels.table={table}", f"data.background={place / kind}", "augmentation.noise.p=1")
    capsys.readouterr()
    run = trainer.train(experiment(place / "original", *settings), tmp_path / "run")
    lines = capsys.readouterr().err
    assert f"6 recordings of {table} are held out and were not used" in lines
    assert "6 of 18 background recordings are held out and not used as noise." in lines
    held = {clip.fingerprint for clip in read_partition(run.path / PARTITION, HELD_OUT)}
    assert len(held) == 6 and not held & {clip.fingerprint for clip in provenance(run.path).own}


@COPIES
def test_an_ensemble_holds_out_what_no_member_was_trained_on(place: Path, tmp_path: Path, kind: str) -> None:
    runs = []
    for i, root in enumerate((place / "original", place / kind)):
        chosen = experiment(root, f"data.fold={i}")
        runs.append(untrained(tmp_path / str(i), chosen, partition(chosen).with_fingerprints()))
    parts = merged_partition(runs)
    assert parts.held_out == () and len({clip.fingerprint for clip in parts.train}) == len(parts.train) == 18
    made = make_ensemble([run.path for run in runs], tmp_path / "made", combine="mean")
    with pytest.raises(UserError, match="No clip was held out of all members"):
        evaluate_again(made.path)
    with pytest.raises(UserError, match="0 was trained on 6 clips that are held out here"):
        trainer.train(experiment(place / kind, "data.fold=2", f"distillation.teacher={made.path}"), tmp_path / "run")


@COPIES
def test_evaluation_on_training_sounds_is_reported(base: Run, place: Path, tmp_path: Path, kind: str, capsys) -> None:
    both = make_ensemble(
        [base.path, Path(shutil.copytree(base.path, tmp_path / "too"))], tmp_path / "both", combine="mean"
    )
    for path in (base.path, both.path):
        evaluate(path, place / kind, output=tmp_path / "o")
        assert "The run was trained on 18 of these recordings" in capsys.readouterr().err


@COPIES
def test_few_shot_episodes_hold_nothing_that_was_trained_on(base: Run, place: Path, tmp_path: Path, kind: str) -> None:
    with pytest.raises(UserError, match=r"was trained on 'a' \(3 such classes\)"):
        fewshot_eval(base.path, place / kind, [], 2, "1", 1, 5)
    with pytest.raises(UserError, match=r"was trained on .*/a/.* \(18 of 18 clips are of such recordings\)"):
        fewshot_eval(base.path, place / kind, [], 2, "1", 1, 5, known=True)
    for name in NAMES:  # the same sounds under labels that the run was not trained with
        shutil.copytree(place / kind / name, tmp_path / "other" / f"Latin {name}")
    with pytest.raises(UserError, match=r"\(18 of 18 clips are of such recordings\)"):
        fewshot_eval(base.path, tmp_path / "other", [], 2, "1", 1, 5)


@COPIES
def test_an_enrolled_run_inherits_the_training_sounds_of_its_encoder(
    base: Run, place: Path, tmp_path: Path, kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, pitch_hz in (("x", 500.0), ("y", 3_000.0), ("z", 4_000.0)):
        for i in range(2):
            path = tmp_path / name / name / f"{i}.flac"
            path.parent.mkdir(parents=True, exist_ok=True)
            sf.write(path, tone(100 + 10 * ord(name) + i, pitch_hz), RATE, subtype="PCM_16")
    moved = Path(shutil.copytree(base.path, tmp_path / "moved"))
    enroll(moved, tmp_path / "x", [], tmp_path / "first")
    shutil.rmtree(moved)
    enroll(tmp_path / "first", tmp_path / "y", [], tmp_path / "second")
    enroll(tmp_path / "second", tmp_path / "z", [], tmp_path / "third", remove=["x"])
    shutil.rmtree(tmp_path / "first")
    rows = read_partition(tmp_path / "third" / PARTITION, INHERITED)
    assert len(rows) == 18 and {label for clip in rows for label in clip.labels} == set(NAMES)
    assert [clip.labels[0] for clip in read_partition(tmp_path / "third" / PARTITION, TRAIN)] == ["y", "y", "z", "z"]
    with pytest.raises(UserError, match="third, through one of its base runs, was trained on 6 clips that are"):
        trainer.train(experiment(place / kind, f"model.weights={tmp_path / 'third'}"), tmp_path / "run")
    parts = partition(experiment(place / kind)).with_fingerprints()
    with pytest.raises(UserError, match="third, through one of its base runs, was trained on 6 clips that are"):
        refuse_trained_on(tmp_path / "third", parts, "")
    with pytest.raises(UserError, match=r"third was trained on 'a' \(3 such classes\)"):
        fewshot_eval(tmp_path / "third", place / kind, [], 2, "1", 1, 5)
    own = provenance(tmp_path / "third").trained_on([Clip(tmp_path / n / n / "0.flac") for n in "xyz"])
    assert [clip.path.parent.name for clip in own] == ["y", "z"]  # x was taken out again
    capsys.readouterr()
    for how in ("flac", "wav"):
        (tmp_path / how / "z").mkdir(parents=True)
        sound = sf.read(tmp_path / "z" / "z" / "0.flac", dtype="int16")[0]
        sf.write(tmp_path / how / "z" / f"again.{how}", sound, RATE, subtype="PCM_16")
        with pytest.raises(UserError, match="is in the support of 'z' already"):
            enroll(tmp_path / "third", _renamed(tmp_path / how, tmp_path / f"{how}2"), [], tmp_path / "no")
        enroll(tmp_path / "third", tmp_path / how, [], tmp_path / f"fourth_{how}", extend=True)
        assert "1 of 1 clips are in the support already and are not added again" in capsys.readouterr().err


def _renamed(source: Path, folder: Path) -> Path:
    shutil.copytree(source / "z", folder / "other")
    return folder


def test_what_is_learned_from_is_kept_by_every_kind_of_training(base: Run, place: Path, tmp_path: Path) -> None:
    """A chain of runs whose first is gone: weights, a teacher, 8 bits, an ensemble."""
    moved = Path(shutil.copytree(base.path, tmp_path / "moved"))
    other = tmp_path / "other"
    for c, name in enumerate(NAMES):
        (other / name).mkdir(parents=True)
        for i in range(3):
            sf.write(other / name / f"{i}.wav", tone(500 + 10 * c + i, 700.0 * (c + 1)), RATE)
    tuned = trainer.train(experiment(other, f"model.weights={moved}", "data.fold=-1"), tmp_path / "tuned")
    assert [len(read_partition(tuned.path / PARTITION, part)) for part in (TRAIN, INHERITED)] == [9, 18]
    shutil.rmtree(moved)
    taught = trainer.train(experiment(other, f"distillation.teacher={tuned.path}", "data.fold=-1"), tmp_path / "taught")
    quantize(tuned.path, ["training.epochs=1"], tmp_path / "int8")
    made = make_ensemble([tuned.path, taught.path], tmp_path / "made", combine="mean")
    shutil.rmtree(tuned.path)
    asked = [Clip(place / kind / "a") for kind in ("bytes", "link", "wav")]
    asked = [Clip(min(clip.path.iterdir())) for clip in asked]
    for path in (taught.path, tmp_path / "int8", made.path):
        found = provenance(path)
        assert found.trained_on(asked) == asked, path
        assert found.trained_on([Clip(other / "a" / "0.wav")]), path
        assert len({clip.fingerprint for clip in found.inherited}) == 18, path
    assert len(read_partition(made.path / PARTITION, INHERITED)) == 18


def test_one_row_is_inherited_for_a_recording_with_all_its_labels(place: Path, tmp_path: Path) -> None:
    first, second = (place / "original" / "a" / f"{i}.flac" for i in range(2))
    again = place / "wav" / "a" / "made0.wav"
    clips = [Clip(first, 0.0, 0.5, ("a",)), Clip(first, 0.5, 1.0, ("b", "a")), Clip(again, labels=("c",)), Clip(second)]
    manifest = read_manifest(Data(root=str(place / "original")))
    parts = Partition(manifest, tuple(clips), (), ()).with_fingerprints()
    run = untrained(tmp_path / "run", experiment(place / "original"), parts)
    found = inherited([run.path, run.path])
    assert [(clip.path, clip.labels) for clip in found] == [(first, ("a", "b", "c")), (second, ())]
    assert inherited([run.path], [Clip(again, labels=("a", "b", "c"))]) == found[1:]
    assert inherited([run.path], [Clip(again, labels=("a", "b"))]) == found  # c is known from the run behind alone


def test_a_split_that_divides_copies_leaks(place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in NAMES:
        shutil.copytree(place / "original" / name, tmp_path / "d" / name)
    sf.write(tmp_path / "d" / "a" / "x.wav", sf.read(place / "original" / "a" / "0.flac", dtype="int16")[0], RATE)
    (tmp_path / "d" / "table.csv").write_text(
        "filename,label,fold\na/0.flac,a,0\na/1.flac,a,1\nb/0.flac,b,0\nb/1.flac,b,1\na/x.wav,a,1\n"
    )
    trainer.train(experiment(tmp_path / "d", "data.table=table.csv"), tmp_path / "run")
    assert "The split leaks: 1 identical recordings on both sides: x.wav = 0.flac" in capsys.readouterr().err


@COPIES
def test_a_run_written_before_is_asked_by_what_is_left(
    base: Run, place: Path, tmp_path: Path, kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    old = with_old_partition(base.path, tmp_path / "old")
    assert not any(clip.fingerprint for clip in read_partition(old / PARTITION, TRAIN))
    asked = [Clip(path) for path in sorted((place / kind / "a").iterdir())]
    capsys.readouterr()
    assert provenance(old).trained_on(asked) == asked  # the recordings are still where they were
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1 and "was written before partition.csv had fingerprints" in lines[0]
    assert provenance(tmp_path) == Provenance()
    assert "has no partition.csv, so its training recordings are unknown" in capsys.readouterr().err


def test_a_run_without_fingerprints_falls_back_to_paths_and_base_runs(base: Run, place: Path, tmp_path: Path) -> None:
    shutil.copytree(place / "original", tmp_path / "d")
    parts = partition(experiment(tmp_path / "d", "data.fold=-1"))
    run = untrained(tmp_path / "run", experiment(tmp_path / "d", f"model.weights={base.path}"), parts)
    old = with_old_partition(run.path, tmp_path / "old")
    shutil.move(tmp_path / "d", tmp_path / "elsewhere")
    found = provenance(old)
    paths = [clip.path for clip in found.own]
    assert found.trained_on([Clip(path) for path in paths]) == [Clip(path) for path in paths]
    assert len(found.inherited) == 18  # of base, whose folder is still there
    alone = Provenance(found.own)
    assert alone.trained_on([Clip(tmp_path / "elsewhere" / "a" / "0.flac")]) == []
    assert found.trained_on([Clip(tmp_path / "elsewhere" / "a" / "0.flac")]) != []


def test_a_broken_recording_stops_nothing(place: Path, tmp_path: Path) -> None:
    for name in NAMES:
        shutil.copytree(place / "original" / name, tmp_path / "d" / name)
    for i, content in enumerate((b"fLaC\0\0\0\x22", b"RIFF", b"\0" * 100)):
        (tmp_path / "d" / "a" / f"broken{i}.flac").write_bytes(content)
    run = trainer.train(experiment(tmp_path / "d", "data.fold=-1"), tmp_path / "run")
    marks = {clip.path.stem: clip.fingerprint for clip in read_partition(run.path / PARTITION, TRAIN)}
    assert [marks[f"broken{i}"] for i in range(3)] == ["", "", ""] and all(marks[str(i)] for i in range(N))
    about = json.loads((run.path / "config.json").read_text())
    assert about["name"] == "tiny" and load_run(run.path).classes == NAMES
