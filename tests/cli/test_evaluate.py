"""`birdnet-fs evaluate` on a real run folder: again from its scores, and on new labeled recordings."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf
import tolerances
from command_line import birdnet_fs
from sklearn.metrics import roc_auc_score

from birdnet_fs import schema
from birdnet_fs.cli.evaluate import evaluate
from birdnet_fs.core.errors import UserError
from birdnet_fs.data.ledger import Ledger
from birdnet_fs.data.manifest import Clip, Manifest, read_manifest
from birdnet_fs.data.partition import Partition, write_partition
from birdnet_fs.data.score_table import ScoreRow, read_scores, score_table
from birdnet_fs.data.synthetic.aviary import make_aviary
from birdnet_fs.data.synthetic.song import SPECIES
from birdnet_fs.reports.stored_scores import write_model_scores

CLASSES = tuple(species.latin for species in SPECIES[:3])
FRONT_END = schema.FrontEnd(sample_rate_hz=16_000, segment_s=2.0, n_mels=32, fmax_hz=8000)


@pytest.fixture(scope="module")
def recordings(tmp_path_factory):
    folder = tmp_path_factory.mktemp("evaluate") / "aviary"
    return make_aviary(folder, n_species=3, clips_per_species=5, n_soundscapes=1, soundscape_s=11.0)


@pytest.fixture
def run(tmp_path):
    from birdnet_fs.runs import run as run_folder

    experiment = schema.Experiment(name="tried", frontend=FRONT_END, model=schema.Model("cnn/tiny"))
    model = run_folder.build_network(experiment, n_classes=3)
    run_folder.save_run(tmp_path / "run", experiment, CLASSES, run_folder.model_weights(model))
    return tmp_path / "run"


def test_evaluate_uses_the_scores_of_the_run(run, capsys):
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 3, 40)
    rows = [ScoreRow(f"{i}.wav", 0.0, 2.0, f"g{i // 2}", (CLASSES[t],)) for i, t in enumerate(truth)]
    scores = (rng.random((40, 3)) + 0.3 * np.eye(3)[truth]).astype(np.float32)
    write_model_scores(run, score_table(rows, scores, CLASSES), run)
    (run / "metrics.json").write_text('{"training_s": 3}', encoding="utf-8")
    evaluate(run)
    found = json.loads((run / "metrics.json").read_text(encoding="utf-8"))
    expected = roc_auc_score(np.eye(3)[truth], scores, average="macro")
    assert found["training_s"] == 3
    assert found["macro_auroc"] == pytest.approx(expected, abs=tolerances.EXACT_METRIC)
    printed = capsys.readouterr().out
    assert f"macro AUROC {expected:.4f} (95 % interval" in printed
    assert all(name in printed for name in CLASSES)
    assert "tried" in (run / "report.html").read_text(encoding="utf-8")


def test_results_are_not_written_into_another_run(run, recordings, tmp_path):
    shutil.copytree(run, tmp_path / "other")
    for place in (run, tmp_path / "other"):
        with pytest.raises(UserError, match="holds a run, and an evaluation would replace files of it"):
            evaluate(run, recordings, ["data.table=metadata.csv"], place)
    with pytest.raises(UserError, match="holds a run"):
        evaluate(run, output=tmp_path / "other")


def test_new_clips_give_one_row_each(run, recordings, tmp_path, capsys):
    evaluate(run, recordings, ["data.table=metadata.csv", "data.audio=audio", "data.where=set=aviary"], tmp_path / "o")
    table = read_scores(tmp_path / "o" / "scores.csv")
    assert table.classes == CLASSES
    assert len(table.rows) == 15
    assert {row.duration_s for row in table.rows} == {5.0}
    assert len(set(table.groups)) == 15
    np.testing.assert_allclose(table.scores.sum(axis=1), 1, atol=tolerances.ACTIVATION)
    assert all(
        CLASSES.index(row.labels[0]) in np.flatnonzero(t) for row, t in zip(table.rows, table.targets, strict=True)
    )
    metrics = json.loads((tmp_path / "o" / "metrics.json").read_text(encoding="utf-8"))
    assert metrics["n_segments"] == 15
    assert {path.name for path in (tmp_path / "o").iterdir()} == {
        "ledger.csv", "metrics.json", "report.html", "scores.csv"
    }  # fmt: skip
    assert not (run / "metrics.json").exists()
    assert "tried on aviary" in (tmp_path / "o" / "report.html").read_text(encoding="utf-8")
    assert "15 segments" in capsys.readouterr().out


def test_recordings_of_the_training_are_named(run, recordings, tmp_path, capsys):
    """The same file under its own name, and a copy of another under a new one."""
    found = read_manifest(schema.Data(root=str(recordings), table="metadata.csv", audio="audio", where="set=aviary"))
    trained, copied, unheard = found.clips[:3]
    (tmp_path / "new" / CLASSES[0]).mkdir(parents=True)
    shutil.copy(copied.path, tmp_path / "new" / CLASSES[0] / "renamed.wav")
    shutil.copy(unheard.path, tmp_path / "new" / CLASSES[0] / "other.wav")
    write_partition(run / "partition.csv", Partition(found, (trained, copied), (), ()))
    evaluate(run, tmp_path / "new", output=tmp_path / "o")
    told = capsys.readouterr().err
    assert "trained on 1 of these recordings" in told and "renamed.wav" in told
    assert "trained on 1 of these recordings" in (tmp_path / "o" / "report.html").read_text(encoding="utf-8")
    where = ["data.table=metadata.csv", "data.audio=audio", "data.where=set=aviary"]
    evaluate(run, recordings, where, tmp_path / "p")
    assert "trained on 2 of these recordings" in capsys.readouterr().err


def test_recordings_with_timed_events_give_segments(run, recordings, tmp_path):
    evaluate(run, recordings / "annotations.csv", ["data.audio=audio", "data.multi_label=true"], tmp_path / "o")
    table = read_scores(tmp_path / "o" / "scores.csv")
    assert [row.onset_s for row in table.rows][:5] == [0.0, 2.0, 4.0, 6.0, 8.0]
    events = [line.split(",") for line in (recordings / "annotations.csv").read_text().splitlines()[1:]]
    for row, target in zip(table.rows, table.targets, strict=True):
        heard = {
            event[6]
            for event in events
            if min(float(event[3]), row.onset_s + row.duration_s) - max(float(event[2]), row.onset_s) >= 0.1
        }
        assert {CLASSES[c] for c in np.flatnonzero(target)} == heard


def test_damaged_recordings_are_skipped_and_named(run, tmp_path):
    folder = tmp_path / "birds"
    for name in CLASSES:
        (folder / name).mkdir(parents=True)
        for i in range(2):
            sf.write(folder / name / f"{i}.wav", np.random.default_rng(i).standard_normal(16_000) * 0.1, 16_000)
    (folder / CLASSES[0] / "broken.wav").write_bytes(b"RIFF nothing")
    evaluate(run, folder, [], tmp_path / "o")
    assert len(read_scores(tmp_path / "o" / "scores.csv").rows) == 6
    ledger = (tmp_path / "o" / "ledger.csv").read_text(encoding="utf-8")
    assert ledger.count("quarantined") == 1


def test_unreadable_held_out_recordings_are_reported(run, tmp_path, capsys):
    clips, manifest = [], Manifest((), CLASSES, Ledger(), tmp_path)
    for name in CLASSES:
        path = tmp_path / f"{name}.wav"
        sf.write(path, np.random.default_rng(0).standard_normal(16_000) * 0.1, 16_000)
        clips.append(Clip(path, labels=(name,), group=name))
    broken = tmp_path / "broken.wav"
    broken.write_bytes(b"RIFF nothing")
    clips.append(Clip(broken, labels=CLASSES[:1], group="b"))
    write_partition(run / "partition.csv", Partition(manifest, (), (), tuple(clips)))
    evaluate(run)
    assert f"quarantined: {broken}: this is not audio" in capsys.readouterr().err
    assert "1 of the held-out clips could not be read" in (run / "report.html").read_text(encoding="utf-8")
    evaluate(run)  # from its scores
    assert "1 of the held-out clips could not be read" in (run / "report.html").read_text(encoding="utf-8")


def test_user_errors_are_one_sentence(run, tmp_path):
    with pytest.raises(UserError, match=r"holds no partition\.csv.*-o FOLDER"):
        evaluate(run)
    with pytest.raises(UserError, match="-o FOLDER"):
        evaluate(run, tmp_path)
    with pytest.raises(UserError, match="none is there"):
        evaluate(run, tmp_path / "nowhere", [], tmp_path / "o")
    with pytest.raises(UserError, match=r"data\.KEY=VALUE"):
        evaluate(run, tmp_path, ["model.name=x"], tmp_path / "o")
    write_model_scores(run, score_table([ScoreRow("a", 0, 1, "", ())], np.zeros((1, 1)), ("other",)), run)
    with pytest.raises(UserError, match="other classes"):
        evaluate(run)


def test_evaluate_reproduces_the_metrics_of_training(aviary: Path) -> None:
    before = json.loads((aviary / "run" / "metrics.json").read_text())
    birdnet_fs("evaluate", "run", cwd=aviary)
    assert json.loads((aviary / "run" / "metrics.json").read_text())["macro_auroc"] == before["macro_auroc"]
