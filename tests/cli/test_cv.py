"""Folds to out-of-fold scores and to an ensemble, on the synthetic aviary: against the folds' own tables by hand."""

import csv
import json
import shutil
import subprocess
import sys
from pathlib import Path

import encoder_runs
import numpy as np
import pytest
import tolerances
from command_line import birdnet_fs
from installed import need
from sklearn.metrics import average_precision_score, f1_score, roc_auc_score

from birdnet_fs.audio.read import read_audio
from birdnet_fs.cli.analyze import analyze
from birdnet_fs.cli.cv import cv
from birdnet_fs.cli.ensemble import ensemble
from birdnet_fs.cli.evaluate import evaluate
from birdnet_fs.cli.export import export
from birdnet_fs.core.errors import UserError
from birdnet_fs.data.synthetic.aviary import make_aviary
from birdnet_fs.data.windows import clip_rule
from birdnet_fs.inference.open import open_engine
from birdnet_fs.training import trainer

CONFIG = """
from birdnet_fs.schema import Data, Experiment, FrontEnd, Model, Training

def small() -> Experiment:
    return Experiment(
        name="small",
        seed=0,
        data=Data("recordings", "metadata.csv", audio="audio", where="set=aviary", n_folds=3, fold_column=""),
        frontend=FrontEnd(sample_rate_hz=16_000, segment_s=1.0, n_mels=32, fmax_hz=8_000.0),
        model=Model("cnn/tiny"),
        training=Training(epochs=1, batch_size=8, threads=1),
    )
"""
NAMES = ("accuracy", "macro_auroc", "cmap", "f1")


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with an aviary, `config.py`, and `cv` over two seeds."""
    folder = tmp_path_factory.mktemp("cv")
    make_aviary(folder / "recordings", n_species=3, clips_per_species=6, n_soundscapes=1, soundscape_s=6.0)
    (folder / "config.py").write_text(CONFIG)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        cv("config.py:small", seeds="0,1", output=folder / "two", ensemble="mean")
    return folder


@pytest.fixture(autouse=True)
def there(place, monkeypatch):
    monkeypatch.chdir(place)


@pytest.fixture
def folds(place, tmp_path):
    """The three folds of seed 0 and nothing else, as `cv` without --seeds has them."""
    for fold in range(3):
        shutil.copytree(place / "two" / "seed0" / f"fold{fold}", tmp_path / "folds" / f"fold{fold}")
    return tmp_path / "folds"


def table(path):
    """A scores.csv as {(path, onset): (label, [score of each class])}."""
    with open(path, newline="") as file:
        header, *rows = csv.reader(file)
    assert header[:5] == ["path", "onset_s", "duration_s", "group", "labels"]
    assert len({(row[0], row[1]) for row in rows}) == len(rows)
    return {(row[0], row[1]): (header[5:].index(row[4]), np.array(row[5:], float)) for row in rows}


def test_oof_joins_the_folds_and_averages_the_seeds(place):
    found = table(place / "two" / "oof.csv")
    by_seed = []
    for seed in (0, 1):
        parts = [table(place / "two" / f"seed{seed}" / f"fold{fold}" / "scores.csv") for fold in range(3)]
        by_seed.append({key: row for part in parts for key, row in part.items()})
        assert len(by_seed[-1]) == sum(map(len, parts)) == 18
    assert found.keys() == by_seed[0].keys() == by_seed[1].keys()
    assert list(found) == sorted(found)
    for key, (label, scores) in found.items():
        first, second = by_seed[0][key][1], by_seed[1][key][1]
        np.testing.assert_allclose(scores, (first + second) / 2, atol=tolerances.ACTIVATION)
        assert label == by_seed[0][key][0]
        assert scores.sum() == pytest.approx(1, abs=tolerances.ACTIVATION)
    assert any(np.abs(by_seed[0][key][1] - by_seed[1][key][1]).max() > 0.01 for key in found)
    held = [set(table(place / "two" / f"seed{seed}" / "fold0" / "scores.csv")) for seed in (0, 1)]
    assert held[0] != held[1]  # seeds draw their own folds, so rows had to be matched


def test_metrics_equal_scikit_learn_and_those_of_the_folds(place, capsys):
    said = json.loads((place / "two" / "cv.json").read_text())
    rows = table(place / "two" / "oof.csv").values()
    truth, scores = np.array([label for label, _ in rows]), np.array([row for _, row in rows])
    wanted = {
        "accuracy": np.mean(scores.argmax(1) == truth),
        "macro_auroc": roc_auc_score(np.eye(3)[truth], scores),
        "cmap": average_precision_score(np.eye(3)[truth], scores),
        "f1": f1_score(truth, scores.argmax(1), average="macro", labels=[0, 1, 2], zero_division=0),
    }
    for name, value in wanted.items():
        assert said["oof"][name] == pytest.approx(value, abs=tolerances.EXACT_METRIC), name
        of = {(row["seed"], row["fold"]): row[name] for row in said["folds"]}
        for seed, fold in of:
            own = json.loads((place / "two" / f"seed{seed}" / f"fold{fold}" / "metrics.json").read_text())
            assert of[seed, fold] == own[name]
        means = [np.mean([of[seed, fold] for fold in range(3)]) for seed in (0, 1)]
        assert said[name]["by_seed"] == pytest.approx({"0": means[0], "1": means[1]}, abs=tolerances.EXACT_METRIC)
        assert said[name]["mean"] == pytest.approx(np.mean(means), abs=tolerances.EXACT_METRIC)
        assert said[name]["std"] == pytest.approx(np.std(means, ddof=1), abs=tolerances.EXACT_METRIC)
    assert (said["std_over"], said["oof"]["n_segments"]) == ("2 seeds", 18)
    assert json.loads((place / "two" / "metrics.json").read_text())["macro_auroc"] == said["oof"]["macro_auroc"]
    page = (place / "two" / "report.html").read_text()
    assert "small, out of fold" in page
    assert "networks of 2 seeds (mean of their probabilities) of the fold that held it out (3 folds)" in page


def test_folds_trained_separately_are_combined(folds, monkeypatch, capsys):
    monkeypatch.setattr(trainer, "train", lambda *_, **__: pytest.fail("a fold was trained again"))
    for fold in (2, 0, 1):
        cv("config.py:small", output=folds, fold=fold)
    assert not (folds / "oof.csv").exists()
    with pytest.raises(UserError, match=r"holds folds but no cv\.json; combine them first"):
        ensemble([folds])
    with pytest.raises(UserError, match="--ensemble needs all folds"):
        cv("config.py:small", output=folds, fold=0, ensemble="mean")
    with pytest.raises(UserError, match="--ensemble must be one of mean, rank, power"):
        cv("config.py:small", output=folds, ensemble="median")
    cv("config.py:small", output=folds)
    said = json.loads((folds / "cv.json").read_text())
    for name in NAMES:
        over = [row[name] for row in said["folds"]]
        assert said[name]["std"] == pytest.approx(np.std(over, ddof=1), abs=tolerances.EXACT_METRIC)
    assert said["std_over"] == "3 folds"
    assert said["pooled_macro_auroc"]["mean"] == said["oof"]["macro_auroc"]
    assert said["pooled_macro_auroc"]["std"] is None
    assert f"macro F1           {said['f1']['mean']:.4f} ± {said['f1']['std']:.4f}" in capsys.readouterr().out


def test_interrupted_cv_resumes_to_the_same_table(folds, monkeypatch):
    cv("config.py:small", output=folds)
    before = {name: (folds / name).read_bytes() for name in ("oof.csv", "cv.json", "metrics.json")}
    for name in before:
        (folds / name).unlink()
    shutil.rmtree(folds / "fold1")  # never begun
    (folds / "fold2" / "config.json").unlink()  # killed while it was written: config.json comes last
    (folds / "fold0" / "metrics.json").unlink()  # killed between training and scoring
    (folds / "fold0" / "scores.csv").unlink()
    true, begun = trainer.train, []

    def killed_in_the_second(experiment, *arguments, **named):
        begun.append(experiment.data.fold)
        if len(begun) == 2:
            raise KeyboardInterrupt
        return true(experiment, *arguments, **named)

    monkeypatch.setattr(trainer, "train", killed_in_the_second)
    with pytest.raises(KeyboardInterrupt):
        cv("config.py:small", output=folds)
    assert not (folds / "oof.csv").exists()
    monkeypatch.setattr(trainer, "train", lambda *a, **k: begun.append(a[0].data.fold) or true(*a, **k))
    cv("config.py:small", output=folds)
    assert begun == [1, 2, 2]
    (folds / "fold1" / "report.html").unlink()  # killed before the report
    cv("config.py:small", output=folds)
    assert (folds / "fold1" / "report.html").is_file() and begun == [1, 2, 2]
    assert {name: (folds / name).read_bytes() for name in before} == before


def test_scores_of_other_weights_and_missing_reports_are_made_again(folds, monkeypatch):
    monkeypatch.setattr(trainer, "train", lambda *_, **__: pytest.fail("a fold was trained again"))
    cv("config.py:small", output=folds)
    names = ("metrics.json", "scores.csv", "scores.json", "report.html")
    before = {path: path.read_bytes() for fold in range(3) for path in ((folds / f"fold{fold}") / n for n in names)}
    for name in ("scores.csv", "scores.json", "metrics.json"):  # of another run, whole
        shutil.copy(folds / "fold0" / name, folds / "fold1" / name)
    (folds / "fold2" / "report.html").unlink()  # killed before it was written
    lines = (folds / "fold0" / "scores.csv").read_text().splitlines(keepends=True)
    (folds / "fold0" / "scores.csv").write_text("".join(lines[:-1]))
    cv("config.py:small", output=folds)
    assert {path: path.read_bytes() for path in before if path.suffix != ".html"} == {
        path: data for path, data in before.items() if path.suffix != ".html"
    }
    assert (folds / "fold2" / "report.html").is_file()


def test_changed_labels_are_named_and_finished_folds_kept(folds, place, monkeypatch):
    monkeypatch.setattr(trainer, "train", lambda *_, **__: pytest.fail("a fold was trained again"))
    table = place / "recordings" / "metadata.csv"
    whole = table.read_text()
    one, other = list(dict.fromkeys(row["label"] for row in csv.DictReader(whole.splitlines())))[:2]
    line = next(line for line in whole.splitlines() if one in line)
    try:
        table.write_text(whole.replace(line, line.replace(one, other)))
        with pytest.raises(UserError, match=r"other labels or recordings \(1 label changed\); .*--overwrite"):
            cv("config.py:small", output=folds)
    finally:
        table.write_text(whole)
    cv("config.py:small", output=folds)


def test_a_fold_that_another_process_trains_is_refused(folds):
    holder = "import sys; from birdnet_fs.core.lock import folder_lock\n"
    holder += f"with folder_lock({str(folds / 'fold1')!r}): print('held', flush=True); sys.stdin.read()"
    first = subprocess.Popen([sys.executable, "-c", holder], stdin=-1, stdout=-1, text=True)
    assert first.stdout.readline() == "held\n"
    try:
        cv("config.py:small", output=folds, fold=0)  # another fold
        with pytest.raises(UserError, match=r"fold1 is being written by another process"):
            cv("config.py:small", output=folds, fold=1)
    finally:
        first.communicate("")


def test_ensemble_of_folds_is_used_like_a_run(place, tmp_path, capsys):
    made = place / "two" / "ensemble"
    assert len(list((made / "members").iterdir())) == 6
    sounds = place / "recordings" / "audio"
    one = sorted(path for path in sounds.iterdir() if "soundscape" not in path.name)[0]
    analyze(made, [one], tmp_path / "tables", min_conf=0.0)
    [written] = (tmp_path / "tables").rglob("*.BirdNET.results.csv")
    with open(written, newline="") as file:
        confidences = [float(row["Confidence"]) for row in csv.DictReader(file)]
    assert len(confidences) == 15  # five windows of three classes
    assert sum(confidences) == pytest.approx(5, abs=tolerances.FOUR_DIGITS)
    new = ["data.table=metadata.csv", "data.audio=audio", "data.where=set=aviary"]
    evaluate(made, place / "recordings", new, tmp_path / "out")
    found = table(tmp_path / "out" / "scores.csv")
    each = [open_engine(made / "members" / str(member)) for member in range(6)]
    for key, (_, scores) in found.items():
        windows = clip_rule(16_000, 16_000).cut(read_audio(key[0], sample_rate_hz=16_000).waveform)
        wanted = np.mean([engine.probabilities(windows).mean(0) for engine in each], axis=0)
        np.testing.assert_allclose(scores, wanted, atol=tolerances.ENSEMBLE_PROBABILITIES)
    page = (tmp_path / "out" / "report.html").read_text()
    assert "An ensemble of 6 runs (cnn/tiny on custom), combined by their mean probability." in page
    assert "trained on 18 of these recordings" in page
    capsys.readouterr()
    with pytest.raises(UserError, match="No clip was held out of all members"):
        evaluate(made)
    with pytest.raises(
        UserError, match=r"is an ensemble, and one run is needed here: use one of its members \(\S*0, \.\.\.\)"
    ):
        export(made)


def test_ensemble_of_seeds_is_evaluated_on_common_held_out_clips(place, tmp_path):
    first, *others = (place / "two" / f"seed{seed}" / f"fold{fold}" for seed, fold in ((0, 0), (1, 0), (1, 1), (1, 2)))
    held = table(first / "scores.csv").keys()
    # the folds of the other seed share out the six clips; one has some of them
    runs = [first, next(run for run in others if 0 < len(held & table(run / "scores.csv").keys()) < 6)]
    parts = [table(run / "scores.csv") for run in runs]
    shared = parts[0].keys() & parts[1].keys()
    ensemble(runs, tmp_path / "ranked", combine="rank")
    evaluate(tmp_path / "ranked")
    found = table(tmp_path / "ranked" / "scores.csv")
    assert found.keys() == shared
    for key in shared:
        windows = clip_rule(16_000, 16_000).cut(read_audio(key[0], sample_rate_hz=16_000).waveform)
        given = [open_engine(run).probabilities(windows) for run in runs]
        for c in range(3):
            wanted = 0.0
            for part, p in zip(parts, given, strict=True):
                known = sorted(row[c] for _, row in part.values())
                places = [0, *((np.arange(6) + 0.5) / 6), 1]
                wanted += np.interp(p[:, c], [0, *known, 1], places).mean() / 2
            assert found[key][1][c] == pytest.approx(wanted, abs=tolerances.RANKS_OF_SIX)
    said = json.loads((tmp_path / "ranked" / "metrics.json").read_text())
    assert said["accuracy_is"] == "share of segments whose highest score is a true class"
    assert "They rank clips and are not probabilities" in (tmp_path / "ranked" / "report.html").read_text()
    evaluate(tmp_path / "ranked")  # again, from its scores
    with pytest.raises(UserError, match="add -o FOLDER"):
        ensemble(runs)


def test_finished_folds_are_kept_and_missing_ones_trained(aviary: Path) -> None:
    before = {p: p.stat().st_mtime_ns for p in aviary.glob("folds/fold*/weights.safetensors")}
    table = json.loads((aviary / "folds" / "cv.json").read_text())
    assert len(before) == len(table["folds"]) == 2
    held = [
        {line.split(",")[1] for line in path.read_text().splitlines() if line.startswith("held_out")}
        for path in sorted(aviary.glob("folds/fold*/partition.csv"))
    ]
    assert held[0] and held[1] and not held[0] & held[1]
    shutil.rmtree(aviary / "folds" / "fold1")
    again = ["config.py:aviary", "quick=true", "data.root=recordings", "data.n_folds=2", "data.fold_column="]
    birdnet_fs("cv", *again, "-o", "folds", cwd=aviary)
    after = {p: p.stat().st_mtime_ns for p in aviary.glob("folds/fold*/weights.safetensors")}
    assert [before[p] == after[p] for p in sorted(before)] == [True, False]
    assert json.loads((aviary / "folds" / "cv.json").read_text()) == table  # the same seed gives the same run


def test_folds_hold_copies_of_their_encoder(tmp_path, monkeypatch):
    """Also folds that were trained without them, and are kept."""
    need("onnxruntime")
    file, card = encoder_runs.write_encoder(tmp_path / "encoder")
    root = encoder_runs.write_recordings(tmp_path / "recordings", 4)
    (tmp_path / "config.py").write_text(
        "from birdnet_fs.schema import Data, Experiment\n\n\n"
        f"def heads() -> Experiment:\n    return Experiment(name='heads', data=Data(root={str(root)!r}, n_folds=2))\n"
    )
    monkeypatch.chdir(tmp_path)
    settings = [f"model.encoder={file}", f"model.encoder_card={card}"]
    cv("config.py:heads", settings, output=tmp_path / "cv", fold=0)
    cv("config.py:heads", settings, output=tmp_path / "cv", copy_encoder=True)
    copies = [tmp_path / "cv" / f"fold{fold}" / "encoder" / file.name for fold in range(2)]
    assert [copy.read_bytes() == file.read_bytes() for copy in copies] == [True, True]
    cv("config.py:heads", settings, output=tmp_path / "cv", copy_encoder=True)  # copies are not copied onto themselves
    file.unlink()
    assert np.isfinite(open_engine(tmp_path / "cv" / "fold1").forward(np.zeros((1, 3200), np.float32))).all()
    with pytest.raises(UserError, match=r"--copy-encoder copies the file of model\.encoder, which this experiment"):
        cv("config.py:heads", [], output=tmp_path / "other", copy_encoder=True)
