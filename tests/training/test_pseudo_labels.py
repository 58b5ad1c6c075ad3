"""Unlabeled recordings: what a model says of their windows, how they are trained on, and what is kept away."""

import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile
import tolerances
from scipy.special import softmax

from birdnet_fs.analysis import pseudo_labels as labeling
from birdnet_fs.audio.read import read_audio
from birdnet_fs.batches.augment.item_random import ItemKey
from birdnet_fs.batches.augment.pipeline import AugmentationPipeline
from birdnet_fs.batches.augment.pseudo_label_sampling import PseudoLabelSampling
from birdnet_fs.batches.loader import TrainingBatches
from birdnet_fs.cli.pseudo_label import pseudo_label as verb
from birdnet_fs.core.errors import UserError
from birdnet_fs.core.settings import override
from birdnet_fs.data.manifest import Clip
from birdnet_fs.data.partition import HELD_OUT, PSEUDO_LABELS, partition, read_partition
from birdnet_fs.data.score_table import read_scores
from birdnet_fs.data.synthetic.aviary import make_aviary
from birdnet_fs.data.waveforms import Waveforms
from birdnet_fs.inference.engine import Engine
from birdnet_fs.inference.open import open_engine
from birdnet_fs.runs.provenance import provenance
from birdnet_fs.runs.run import Run, load_run
from birdnet_fs.schema import (
    Augmentation,
    Data,
    Experiment,
    FrontEnd,
    Mixup,
    Model,
    PseudoLabels,
    Sampling,
    Schedule,
    Training,
)
from birdnet_fs.training import pseudo_labels, trainer

RATE = 16_000
SPEC = FrontEnd(
    segment_s=2.0, sample_rate_hz=RATE, n_mels=32, hop_length=1024, fmin_hz=300.0, fmax_hz=6_000.0, normalize="z_score"
)


@pytest.mark.parametrize("multi_label", [False, True])
def test_a_power_quiets_doubts_and_what_is_sure_is_drawn_more_often(multi_label: bool) -> None:
    logits = np.random.default_rng(0).normal(0, 2, (20, 4))
    p = softmax(logits, 1).astype(np.float32)
    targets, weights = pseudo_labels.soft_targets(p, PseudoLabels(power=2.0), multi_label=multi_label)
    expected = p**2 if multi_label else softmax(2 * logits, 1)  # a power is a temperature of one half
    np.testing.assert_allclose(targets, expected, atol=tolerances.ACTIVATION)
    np.testing.assert_allclose(weights, (p**2).max(1), atol=tolerances.ACTIVATION)
    floor = PseudoLabels(floor=0.3, weight="sum")
    kept = np.where(p >= 0.3, p, 0)[p.max(1) >= 0.3]
    targets, weights = pseudo_labels.soft_targets(p[p.max(1) >= 0.3], floor, multi_label=multi_label)
    np.testing.assert_allclose(weights, kept.sum(1), atol=tolerances.ACTIVATION)
    assert ((targets > 0) == (kept > 0)).all()
    if not multi_label:
        np.testing.assert_allclose(targets.sum(1), 1, atol=tolerances.ACTIVATION)
    assert (pseudo_labels.soft_targets(p, PseudoLabels(weight="none"), multi_label=multi_label)[1] == 1).all()


@pytest.fixture(scope="module")
def noises(tmp_path_factory: pytest.TempPathFactory) -> Waveforms:
    """Three labeled clips, and five that a run labeled."""
    folder = tmp_path_factory.mktemp("noises")
    rng = np.random.default_rng(0)
    for i in range(8):
        soundfile.write(folder / f"{i}.wav", rng.normal(0, 0.1, 2 * RATE), RATE, subtype="FLOAT")
    return Waveforms([Clip(path=folder / f"{i}.wav") for i in range(8)], RATE)


CHANCE = np.array([0.5, 0.25, 0.25, 0.0, 0.0])


def test_they_are_mixed_into_labeled_clips_and_into_nothing_else(noises: Waveforms) -> None:
    targets = np.eye(8, dtype=np.float32)
    experiment = Experiment(frontend=SPEC, augmentation=Augmentation(mixup=Mixup(0.3)))

    def items(mix: float) -> list:
        chain = AugmentationPipeline(
            noises, targets, experiment, pseudo_labels=PseudoLabelSampling(3, CHANCE, 1.0, mix)
        )
        return [chain.item(ItemKey(0, place, place % 8, 0)) for place in range(160)]

    found = items(0.5)
    own = [item for place, item in enumerate(found) if place % 8 < 3]
    mixed = [item for item in own if item.targets[3:].any()]
    assert 0.3 < len(mixed) / len(own) < 0.7
    for item in mixed:
        assert item.changes[0].endswith("pseudo-labeled") and item.targets.sum() == pytest.approx(1)
    assert max(item.targets[6:].max() for item in own) == 0  # no chance is none
    others = [item.targets[3:] for place, item in enumerate(found) if place % 8 >= 3]
    assert all(np.count_nonzero(row) == 1 for row in others)  # mixed with labeled clips only, by augmentation.mixup
    assert not any(item.targets[3:].any() for place, item in enumerate(items(0.0)) if place % 8 < 3)


def test_an_epoch_holds_as_many_as_asked_drawn_by_their_chance(noises: Waveforms) -> None:
    targets = np.concatenate([np.eye(3), np.full((5, 3), 1 / 3)]).astype(np.float32)

    def epoch(number: int, workers: int = 0, amount: float = 2.0) -> list:
        experiment = Experiment(
            frontend=SPEC, training=Training(batch_size=6, workers=workers, sampling=Sampling(crops_per_clip=10))
        )
        batches = TrainingBatches(
            noises, targets, experiment, pseudo_labels=PseudoLabelSampling(3, CHANCE, amount, 0.0)
        )
        assert len(batches) == round(30 * (1 + amount) / 6)
        return list(batches.epoch(number))

    drawn = np.concatenate([clips.numpy() for _, _, clips in epoch(0)])
    counts = np.bincount(drawn, minlength=8)
    assert counts[:3].tolist() == [10, 10, 10] and counts[3:].sum() == 60 and counts[6:].sum() == 0
    assert abs(counts[3] - 30) < tolerances.BINOMIAL_ERRORS * np.sqrt(60 * 0.25)
    assert not np.array_equal(np.sort(drawn), drawn)
    for one, other in zip(epoch(1), epoch(1, workers=2), strict=True):
        assert all(bool((a == b).all()) for a, b in zip(one, other, strict=True))
    assert all(clips.max() < 3 for _, _, clips in epoch(0, amount=0.0))


@pytest.fixture(scope="module")
def aviary(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Also unlabeled/: two soundscapes, a copy of a held-out clip of fold 0 under another name, a broken file."""
    folder = tmp_path_factory.mktemp("pseudo") / "aviary"
    make_aviary(folder, n_species=3, clips_per_species=5, n_soundscapes=2, soundscape_s=9.0)
    (folder.parent / "unlabeled").mkdir()
    for path in sorted((folder / "audio").glob("*soundscape*")):
        (folder.parent / "unlabeled" / path.name).write_bytes(path.read_bytes())
    held_out = partition(experiment(folder)).held_out[0].path
    (folder.parent / "unlabeled" / "copy.flac").write_bytes(held_out.read_bytes())
    (folder.parent / "unlabeled" / "broken.flac").write_bytes(b"fLaC\0\0\0\x22")
    return folder


def experiment(aviary: Path, *settings: str) -> Experiment:
    return override(
        Experiment(
            name="tiny",
            data=Data(root=str(aviary), table="metadata.csv", audio="audio", where="set=aviary"),
            frontend=SPEC,
            model=Model("cnn/tiny", dropout=0.0),
            training=Training(epochs=1, batch_size=8, threads=1, schedule=Schedule(warmup_epochs=0)),
        ),
        settings,
    )


@pytest.fixture(scope="module")
def run(aviary: Path) -> Run:
    return trainer.train(experiment(aviary), aviary.parent / "first")


@pytest.fixture(scope="module")
def table(aviary: Path, run: Run) -> Path:
    engine = open_engine(run.path)
    return labeling.label_recordings(engine, [aviary.parent / "unlabeled"], aviary.parent / "labeled", runs=[run.path])


def test_a_table_holds_every_window_and_a_ledger_every_recording(aviary: Path, run: Run, table: Path) -> None:
    found = read_scores(table)
    assert found.classes == run.classes and {Path(path).name for path in found.paths} >= {"copy.flac"}
    soundscape = next(row.path for row in found.rows if "soundscape" in row.path)
    rows = [i for i, row in enumerate(found.rows) if row.path == soundscape]
    times = [(found.rows[i].onset_s, found.rows[i].duration_s) for i in rows]
    assert times == [(0, 2), (2, 2), (4, 2), (6, 2), (8, 1)]
    waveform = np.pad(read_audio(soundscape, sample_rate_hz=RATE).waveform, (0, RATE))
    expected = open_engine(run.path).probabilities(waveform.reshape(5, 2 * RATE))
    np.testing.assert_allclose(found.scores[rows], expected, atol=tolerances.ENGINE_LOGITS)
    ledger = (table.parent / "ledger.csv").read_text()
    assert ledger.count(",quarantined,") == 1 and "broken.flac,quarantined," in ledger and ledger.count(",ok,") == 3
    assert not (table.parent / "parts").exists()


def test_a_stopped_labeling_goes_on_where_it_was(aviary: Path, run: Run, table: Path, tmp_path: Path) -> None:
    engine, heard = open_engine(run.path), []

    def label(stop: int) -> Path:
        def forward(waveforms: np.ndarray) -> np.ndarray:
            heard.append(len(waveforms))
            if len(heard) == stop:
                raise KeyboardInterrupt
            return engine.forward(waveforms)

        listening = dataclasses.replace(engine, forward=forward)
        return labeling.label_recordings(listening, [aviary.parent / "unlabeled"], tmp_path, runs=[run.path])

    with pytest.raises(KeyboardInterrupt):
        label(2)
    assert [path.name for path in tmp_path.iterdir()] == ["parts"] and len(list(tmp_path.glob("parts/*.npz"))) == 1
    assert label(0).read_bytes() == table.read_bytes() and len(heard) == 2 + 2
    label(0)
    assert len(heard) == 4
    (tmp_path / "pseudo.json").unlink()  # nothing states what the table was made from
    with pytest.raises(UserError, match="does not state what it was made from"):
        label(0)
    assert len(heard) == 4


def test_ranks_and_nothing_readable_are_refused(aviary: Path, run: Run, tmp_path: Path) -> None:
    engine: Engine = open_engine(run.path)
    with pytest.raises(UserError, match="make one with --combine mean"):
        labeling.label_recordings(dataclasses.replace(engine, gives_ranks=True), [aviary], tmp_path)
    with pytest.raises(UserError, match="None of the 1 recordings could be read"):
        labeling.label_recordings(engine, [aviary.parent / "unlabeled" / "broken.flac"], tmp_path)
    assert not (tmp_path / "pseudo.csv").exists()


def test_windows_are_trained_on_and_what_is_held_out_is_not(
    aviary: Path, run: Run, table: Path, tmp_path: Path, capsys
):
    settings = [f"pseudo_labels.table={table.parent}", "pseudo_labels.power=2", "pseudo_labels.amount=1"]
    student = trainer.train(experiment(aviary, *settings), tmp_path / "student")
    said = capsys.readouterr().err
    assert f"1 recording of {table} is held out and was not used" in said and "copy.flac" in said
    assert "10 windows of 2 unlabeled recordings are trained on as well." in said
    heard = read_partition(student.path / "partition.csv", PSEUDO_LABELS)
    assert len(heard) == 10 and all("soundscape" in clip.path.name and not clip.labels for clip in heard)
    assert read_partition(student.path / "partition.csv", HELD_OUT) == read_partition(
        run.path / "partition.csv", HELD_OUT
    )
    assert load_run(student.path).experiment.pseudo_labels.table == str(table.parent)
    assert (student.path / "recordings.csv").read_text().count("soundscape") == 2
    assert provenance(student.path).trained_on([heard[0]]) == [heard[0]]
    parts = partition(experiment(aviary))
    windows, found = pseudo_labels.read_pseudo_labels(experiment(aviary, *settings), parts), read_scores(table)
    rows = [i for i, row in enumerate(found.rows) if "soundscape" in row.path]
    expected = found.scores[rows] ** 2 / (found.scores[rows] ** 2).sum(1, keepdims=True)
    np.testing.assert_allclose(windows.targets, expected, atol=tolerances.ACTIVATION)
    # some of both could not be read; a cache may give clips that are equal and not the same
    again = [dataclasses.replace(clip) for clip in (*parts.train[2:], *windows.clips[:3], *windows.clips[7:])]
    left = windows.readable(parts.train, again)
    assert left.clips == (*windows.clips[:3], *windows.clips[7:])
    np.testing.assert_array_equal(left.targets, np.delete(windows.targets, slice(3, 7), axis=0))


def test_labels_by_who_heard_the_held_out_clips_are_refused(aviary: Path, table: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"first was trained on 3 clips that are held out here .* same fold"):
        trainer.train(experiment(aviary, f"pseudo_labels.table={table}", "data.fold=1"), tmp_path / "run")
    with pytest.raises(UserError, match=r"None of the 13 windows .* 13 are below pseudo_labels\.threshold=0\.999"):
        trainer.train(
            experiment(aviary, f"pseudo_labels.table={table}", "pseudo_labels.threshold=0.9999"), tmp_path / "run"
        )
    with pytest.raises(UserError, match=r"pseudo_labels\.table must be a pseudo\.csv .* Received: .*aviary$"):
        trainer.train(experiment(aviary, f"pseudo_labels.table={aviary}"), tmp_path / "run")
    two = "data.where=set=aviary,label=" + "|".join(read_scores(table).classes[:2])
    with pytest.raises(UserError, match=r"pseudo\.csv must have the 2 classes that are trained here"):
        trainer.train(experiment(aviary, f"pseudo_labels.table={table}", two), tmp_path / "run")
    # a table of fold 0, whose maker is there no more, in a folder for all folds
    for name in ("pseudo.csv", "pseudo.json"):
        place = tmp_path / "cv" / "fold1" / name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes((table.parent / name).read_bytes())
    about = json.loads((tmp_path / "cv" / "fold1" / "pseudo.json").read_text())
    (tmp_path / "cv" / "fold1" / "pseudo.json").write_text(json.dumps({**about, "runs": ["/gone"]}))
    chosen = experiment(aviary, f"pseudo_labels.table={tmp_path / 'cv'}", "data.fold=1")
    assert pseudo_labels.find_pseudo_label_table(chosen) == tmp_path / "cv" / "fold1" / "pseudo.csv"


def test_rounds_label_and_train_in_turn_and_keep_what_is_done(aviary: Path, run: Run, tmp_path: Path, capsys) -> None:
    inputs = [str(aviary.parent / "unlabeled"), "pseudo_labels.power=1.5", "training.epochs=2"]
    verb(run.path, inputs, tmp_path, rounds=2, overlap=0.0, batch_size=32, threads=1, overwrite=False)
    shown = capsys.readouterr()
    assert [line[:8] for line in shown.out.splitlines()] == ["round 1:", "round 2:"]
    runs = [load_run(tmp_path / f"round{number}" / "run") for number in (1, 2)]
    for number, one in enumerate(runs, 1):
        chosen = one.experiment
        assert chosen.pseudo_labels == PseudoLabels(str(tmp_path / f"round{number}" / "pseudo.csv"), power=1.5)
        assert chosen.training.epochs == 2 and chosen.data == run.experiment.data
        assert (one.path / "metrics.json").is_file()
    assert json.loads((tmp_path / "round2" / "pseudo.json").read_text())["runs"] == [str(runs[0].path)]
    first, second = (read_scores(tmp_path / f"round{number}" / "pseudo.csv").scores for number in (1, 2))
    assert first.shape == second.shape and np.abs(first - second).max() > 0.01
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.safetensors")}
    verb(run.path, inputs, tmp_path, rounds=2, overlap=0.0, batch_size=32, threads=1, overwrite=False)
    assert capsys.readouterr().err.count("kept") == 4
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.safetensors")} == before
    more = aviary.parent / "unlabeled" / "more.flac"
    shutil.copy(next(path for path in more.parent.iterdir() if path.stat().st_size > 10_000), more)
    try:
        with pytest.raises(UserError, match="1 recording added"):
            verb(run.path, inputs, tmp_path, rounds=1, overlap=0.0, batch_size=32, threads=1, overwrite=False)
    finally:
        more.unlink()
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.safetensors")} == before
    with pytest.raises(UserError, match="is a setting of the training; add --rounds 1"):
        verb(run.path, inputs, tmp_path, rounds=0, overlap=0.0, batch_size=32, threads=1, overwrite=False)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (["pseudo_labels.threshold=1"], r"pseudo_labels\.threshold must be in \[0, 1\)"),
        (["pseudo_labels.power=0"], r"pseudo_labels\.power must be above 0"),
        (["pseudo_labels.mix=2"], r"pseudo_labels\.mix must be in \[0, 1\]"),
        (["pseudo_labels.table=x", "pseudo_labels.mix=0", "pseudo_labels.amount=0"], "would not be used"),
        (
            ["pseudo_labels.table=x", "distillation.teacher=a.csv"],
            r"has no rows for the windows of pseudo_labels\.table",
        ),
        (
            ["pseudo_labels.table=x", "training.loss=circle", "model.head=cosine"],
            r"needs one class per clip, and pseudo_labels\.table",
        ),
    ],
)
def test_settings_that_cannot_be(settings: list[str], words: str) -> None:
    with pytest.raises(UserError, match=words):
        override(Experiment(), settings)
