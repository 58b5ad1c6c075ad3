"""Companion files, read back as their programs read them."""

import csv
import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
from sklearn import metrics as reference

from birdnet_fs import schema
from birdnet_fs.data.manifest import Clip
from birdnet_fs.data.score_table import ScoreRow, score_table
from birdnet_fs.export.targets.check import TARGETS
from birdnet_fs.export.targets.companion_files import EVALUATION, write_companion_files
from birdnet_fs.frontend import PRESETS
from birdnet_fs.reports.stored_scores import write_model_scores
from birdnet_fs.runs.run import Run

CLASSES = ("Turdus merula_Common Blackbird", "toad", "Parus major_Great Tit")
LINES = ("Turdus merula_Common Blackbird", "toad_toad", "Parus major_Great Tit")


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """A run folder with a partition and scores of 40 held-out clips."""
    folder = tmp_path / "run"
    folder.mkdir()
    random = np.random.default_rng(1)
    labels = [tuple(name for name in CLASSES[:2] if random.random() < 0.4) for _ in range(40)]
    rows = [ScoreRow(f"{i}.wav", 0.0, 3.0, str(i), labels[i]) for i in range(40)]
    truth = np.array([[name in row for name in CLASSES] for row in labels])
    scores = np.clip(0.35 * truth + 0.6 * random.random(truth.shape), 0, 1)
    for name in ("weights.safetensors", "config.json", "classes.txt"):
        (folder / name).write_text("")
    clips = [("train", (CLASSES[0],))] * 3 + [("train", (CLASSES[2], CLASSES[0]))] * 2 + [("train", ())]
    clips += [("held_out", (CLASSES[1],))] * 5 + [("pseudo", (CLASSES[1],))]
    write_parts(folder / "partition.csv", clips)
    write_model_scores(folder, score_table(rows, scores, CLASSES), folder)
    experiment = schema.Experiment(
        name="t",
        frontend=PRESETS["birdnet_3s_48k"],
        data=schema.Data(root=".", multi_label=True, segment_hop_s=2.0),
        training=schema.Training(epochs=7, loss=schema.Loss("focal")),
    )
    return Run(folder, experiment, CLASSES)


def write_parts(path: Path, clips: list[tuple[str, tuple[str, ...]]]) -> None:
    """partition.csv as training writes it."""
    from birdnet_fs.data.manifest import Manifest
    from birdnet_fs.data.partition import Partition, write_partition

    def of(part: str) -> tuple[Clip, ...]:
        return tuple(
            Clip(Path(f"{part}{i}.wav"), labels=labels) for i, (name, labels) in enumerate(clips) if name == part
        )

    empty = Manifest.__new__(Manifest)
    write_partition(path, Partition(empty, of("train"), (), of("held_out"), of("pseudo")))


def read(file: Path) -> list[list[str]]:
    with open(file, encoding="utf-8", newline="") as text:
        return list(csv.reader(text))


NAMES = {
    "analyzer": ["mine.v2.birdnet.train-params.csv", "mine.v2_evaluation.csv", "mine.v2_sample_counts.csv"],
    "birdnet-go": ["mine.v2_birdnet-go.yaml"],
    "birdnet-pi": ["mine.v2_birdnet-pi.txt"],
    "echo": ["class_mapping.json", "preprocess_config.json"],
}


@pytest.mark.parametrize("target", TARGETS)
def test_companion_files_have_the_names_their_program_reads(run: Run, tmp_path: Path, target: str) -> None:
    (tmp_path / "out").mkdir()
    artifact = tmp_path / "out" / "mine.v2.tflite"
    files = write_companion_files(target, artifact, run)
    assert sorted(f.name for f in files) == NAMES.get(target, [])
    assert sorted(files) == sorted((tmp_path / "out").iterdir())


def test_analyzer_settings_are_read_back_by_its_reader(run: Run, tmp_path: Path) -> None:
    write_companion_files("analyzer", tmp_path / "mine.tflite", run)
    rows = read(tmp_path / "mine.birdnet.train-params.csv")
    assert rows[0] == ["Parameter", "Value"]  # by which its reader identifies the layout
    found = dict(rows[1:])
    assert found["Classifier name"] == "mine" and found["Model save mode"] == "replace"
    assert int(float(found["Bandpass filter maximum"])) == 14_000 and float(found["Crop overlap"]) == 1.0
    assert found["Epochs"] == "7" and found["Use focal loss"] == "True" and found["Use mixup"] == "False"


def test_analyzer_counts_are_those_of_the_training_clips(run: Run, tmp_path: Path) -> None:
    write_companion_files("analyzer", tmp_path / "mine.tflite", run)
    rows = read(tmp_path / "mine_sample_counts.csv")
    assert rows[0] == ["Label", "Count"]
    both = f"{LINES[0]}+{LINES[2]}"  # in the order of the model, whatever the clip's
    assert dict(rows[1:]) == {LINES[0]: "3", both: "2", "": "1", LINES[1]: "1"}


def test_analyzer_evaluation_equals_scikit_learn(run: Run, tmp_path: Path) -> None:
    from birdnet_fs.data.score_table import read_scores

    write_companion_files("analyzer", tmp_path / "mine.tflite", run)
    header, means, *rows = read(tmp_path / "mine_evaluation.csv")
    assert tuple(header) == EVALUATION and means[0] == "OVERALL (Macro-avg)" and means[9:] == [""] * 7
    assert [row[0] for row in rows] == list(LINES)
    table = read_scores(run.path / "scores.csv")
    averages = []
    for c, row in enumerate(rows[:2]):
        truth, scores = table.targets[:, c], table.scores[:, c].astype(np.float64)
        cell = dict(zip(header, row, strict=True))
        best = max(np.unique(scores), key=lambda at: (reference.f1_score(truth, scores >= at), at))
        for name, at in (("0.5", 0.5), ("opt", best)):
            wanted = reference.precision_recall_fscore_support(truth, scores >= at, average="binary", zero_division=0)
            given = [float(cell[f"{what} ({name})"]) for what in ("Precision", "Recall", "F1 Score")]
            assert np.allclose(given, wanted[:3], atol=6e-5)  # four digits
        tn, fp, fn, tp = reference.confusion_matrix(truth, scores >= best).ravel()
        names = ("True Positives", "False Positives", "True Negatives", "False Negatives")
        assert [int(cell[name]) for name in names] == [tp, fp, tn, fn]
        assert float(cell["AUPRC"]) == pytest.approx(reference.average_precision_score(truth, scores), abs=6e-5)
        assert float(cell["AUROC"]) == pytest.approx(reference.roc_auc_score(truth, scores), abs=6e-5)
        assert int(cell["Samples"]) == truth.sum() and cell["Percentage (%)"] == f"{100 * truth.mean():.2f}"
        averages.append([float(value) for value in row[1:9]])
    assert rows[2][1:9] == [""] * 8 and rows[2][14] == "0"  # never occurs: nothing is known, and nothing averaged
    assert np.allclose([float(value) for value in means[1:9]], np.mean(averages, axis=0), atol=2e-4)


def test_analyzer_evaluation_is_left_out_when_the_scores_are_of_other_weights(run: Run, tmp_path: Path) -> None:
    (run.path / "weights.safetensors").write_text("others")
    files = write_companion_files("analyzer", tmp_path / "mine.tflite", run)
    assert "mine_evaluation.csv" not in [file.name for file in files]


def test_analyzer_tables_are_left_out_without_scores(run: Run, tmp_path: Path) -> None:
    (run.path / "scores.csv").unlink()
    (run.path / "partition.csv").unlink()
    files = write_companion_files("analyzer", tmp_path / "mine.tflite", run)
    assert [file.name for file in files] == ["mine.birdnet.train-params.csv"]


def test_birdnet_go_lines_hold_both_paths(run: Run, tmp_path: Path) -> None:
    yaml = pytest.importorskip("yaml")
    (file,) = write_companion_files("birdnet-go", tmp_path / "meine Vögel: 2.tflite", run)
    found = yaml.safe_load(file.read_text(encoding="utf-8"))
    wanted = {"modelpath": "meine Vögel: 2.tflite", "labelpath": "meine Vögel: 2_Labels.txt"}
    filters = found["birdnet"].pop("rangefilter")
    assert found == {"birdnet": wanted} and filters == {"threshold": 0, "passunmappedspecies": True}


def test_echo_files_hold_the_keys_of_its_client(run: Run, tmp_path: Path) -> None:
    edge = dataclasses.replace(run, experiment=dataclasses.replace(run.experiment, frontend=PRESETS["echo_edge"]))
    write_companion_files("echo", tmp_path / "mine.tflite", edge)
    mapping = json.loads((tmp_path / "class_mapping.json").read_text(encoding="utf-8"))
    assert mapping["classes"] == ["Turdus merula", "toad", "Parus major"]
    assert mapping["index_to_label"] == {"0": "Turdus merula", "1": "toad", "2": "Parus major"}
    assert mapping["label_to_index"] == {"Turdus merula": 0, "toad": 1, "Parus major": 2}
    config = json.loads((tmp_path / "preprocess_config.json").read_text(encoding="utf-8"))
    assert config == {
        "target_sr": 32_000, "duration_s": 5.0, "n_mels": 128, "hop_length": 512, "fmin": 20.0, "fmax": 16_000.0,
    }  # fmt: skip
    alike = dataclasses.replace(edge, classes=("call_a", "call_b"))
    write_companion_files("echo", tmp_path / "mine.tflite", alike)
    mapping = json.loads((tmp_path / "class_mapping.json").read_text(encoding="utf-8"))
    assert mapping["classes"] == ["call_a", "call_b"]  # scientific names would be one
