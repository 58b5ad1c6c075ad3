"""The folder of an ensemble: opened, moved, kept, replaced, damaged, and its partition."""

import json
import shutil

import keras
import numpy as np
import pytest
import soxr
import tolerances
from ensemble_members import CLASSES, LOWER, SPEC, noise, softmax
from killed import contents, killed_at_every_change, leftovers, sampled
from scipy.stats import rankdata

from birdnet_fs import schema
from birdnet_fs.cli.ensemble import make_ensemble
from birdnet_fs.core.errors import UserError
from birdnet_fs.data.ledger import Ledger
from birdnet_fs.data.manifest import Clip, Manifest
from birdnet_fs.data.partition import HELD_OUT, PSEUDO_LABELS, TRAIN, VAL, Partition, read_partition, write_partition
from birdnet_fs.data.score_table import ScoreRow, score_table
from birdnet_fs.inference.open import open_engine
from birdnet_fs.reports.stored_scores import write_model_scores
from birdnet_fs.runs.ensemble import load_ensemble, save_ensemble
from birdnet_fs.runs.run import build_network, load_run, model_weights, save_run


def run_in(folder, seed, *, classes=CLASSES, spec=SPEC, multi_label=False, name="cnn/tiny", held_out=40):
    """A run folder with random weights, and scores of clips it held out."""
    experiment = schema.Experiment(
        name=f"net {seed}", data=schema.Data(multi_label=multi_label), frontend=spec, model=schema.Model(name)
    )
    keras.utils.set_random_seed(seed)
    run = save_run(folder, experiment, classes, model_weights(build_network(experiment, n_classes=len(classes))))
    if held_out:
        scores = softmax(np.random.default_rng(seed).normal(size=(held_out, len(classes))))
        rows = [ScoreRow(f"{i}.wav", 0.0, 1.0, "", (classes[0],)) for i in range(held_out)]
        write_model_scores(folder, score_table(rows, scores, classes), folder)
    return run


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    return [
        run_in(folder / "one", 1),
        run_in(folder / "two", 2, classes=("c", "a", "b"), spec=LOWER),
        run_in(folder / "three", 3, name="rnn/gru"),
    ]


def test_an_ensemble_scores_as_its_members_after_a_move(runs, tmp_path):
    paths = [shutil.copytree(run.path, tmp_path / f"run{i}") for i, run in enumerate(runs)]
    make_ensemble(paths, tmp_path / "made", combine="mean")
    wanted = open_engine(runs[0].path).probabilities(noise(3)).astype(float)
    lower = np.stack([soxr.resample(row, 8_000, 6_000, quality="HQ") for row in noise(3)])
    second = open_engine(runs[1].path).probabilities(lower)
    assert np.abs(second - second[:, [1, 2, 0]]).max() > 1000 * tolerances.ENSEMBLE_PROBABILITIES
    wanted += second[:, [1, 2, 0]]
    wanted += open_engine(runs[2].path).probabilities(noise(3))
    for path in paths:
        shutil.rmtree(path)
    moved = shutil.move(tmp_path / "made", tmp_path / "[moved]")
    engine = open_engine(moved)
    assert engine.classes == CLASSES
    np.testing.assert_allclose(engine.probabilities(noise(3)), wanted / 3, atol=tolerances.ENSEMBLE_PROBABILITIES)
    assert load_ensemble(moved).classes == tuple((tmp_path / "[moved]" / "classes.txt").read_text().split())


def test_ranks_come_from_the_scores_of_the_members(runs, tmp_path):
    make_ensemble([run.path for run in runs[:2]], tmp_path / "ranked", combine="rank")
    engine = open_engine(tmp_path / "ranked")
    assert engine.gives_ranks
    assert not engine.multi_label
    lower = np.stack([soxr.resample(row, 8_000, 6_000, quality="HQ") for row in noise(3)])
    given = [open_engine(runs[0].path).probabilities(noise(3)), open_engine(runs[1].path).probabilities(lower)]
    own = [softmax(np.random.default_rng(seed).normal(size=(40, 3))) for seed in (1, 2)]
    wanted = np.zeros((3, 3))
    for p, held_out, columns in zip(given, own, ([0, 1, 2], [1, 2, 0]), strict=True):
        for c, column in enumerate(columns):
            known = np.sort(held_out[:, column])
            places = [0, *((rankdata(known) - 0.5) / 40), 1]
            wanted[:, c] += np.interp(p[:, column], [0, *known, 1], places) / 2
    np.testing.assert_allclose(engine.probabilities(noise(3)), wanted, atol=tolerances.ENSEMBLE_PROBABILITIES)


def test_an_ensemble_is_kept_or_refused_but_not_lost(runs, tmp_path):
    place = tmp_path / "made"
    save_ensemble(place, runs[:2])
    (place / "scores.csv").write_text("mine")
    save_ensemble(place, runs[:2])
    assert (place / "scores.csv").read_text() == "mine"
    for other in ({"how": "power"}, {"how": "power", "power": 3.0}):
        with pytest.raises(UserError, match=r"other members or settings \(combine=mean, not power"):
            save_ensemble(place, runs[:2], **other)
    before = open_engine(place).identity
    save_ensemble(place, runs[:2], how="power", overwrite=True)
    assert not (place / "scores.csv").exists()
    assert open_engine(place).identity != before
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.txt").touch()
    with pytest.raises(UserError, match="is not empty and is not an ensemble"):
        save_ensemble(tmp_path / "full", runs[:2], overwrite=True)
    with pytest.raises(UserError, match="is not empty and is not an ensemble"):
        save_ensemble(runs[0].path, runs[1:], overwrite=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["full", "made"]


def test_what_cannot_be_combined(runs, tmp_path):
    with pytest.raises(UserError, match=r"two runs or more\. Received: 1"):
        save_ensemble(tmp_path / "x", runs[:1])
    with pytest.raises(UserError, match="Did you mean 'power'"):
        save_ensemble(tmp_path / "x", runs, how="powr")
    with pytest.raises(UserError, match=r"power must be a number above 0\. Received: 0"):
        save_ensemble(tmp_path / "x", runs, how="power", power=0)
    fewer = run_in(tmp_path / "fewer", 4, classes=("a", "b"), held_out=0)
    with pytest.raises(UserError, match=r"one has 'c' and \S*fewer does not \(1 differ\)"):
        save_ensemble(tmp_path / "x", [runs[0], fewer])
    many = run_in(tmp_path / "many", 5, multi_label=True, held_out=0)
    with pytest.raises(UserError, match="all be multi-label or none"):
        save_ensemble(tmp_path / "x", [runs[0], many])
    copied = run_in(tmp_path / "copied", 6)
    shutil.copy(runs[0].path / "weights.safetensors", copied.path)
    with pytest.raises(UserError, match=r"not known to be the scores of the weights beside it; run `birdnet-fs eval"):
        make_ensemble([runs[0].path, copied.path], tmp_path / "x", combine="rank")
    with pytest.raises(UserError, match=r"many has no scores.csv; run `birdnet-fs evaluate \S*many` first"):
        make_ensemble([runs[0].path, many.path], tmp_path / "x", combine="rank")
    assert not (tmp_path / "x").exists()
    made = save_ensemble(tmp_path / "made", runs[:2])
    for opens in (load_run, lambda path: make_ensemble([path, runs[0].path], tmp_path / "x", combine="mean")):
        with pytest.raises(UserError, match=r"is an ensemble, and one run is needed here: .*distillation.teacher="):
            opens(made.path)


@pytest.mark.parametrize(
    ("file", "content", "words"),
    [
        ("ensemble.json", "{", "not readable JSON"),
        ("ensemble.json", "[]", "'format' is missing"),
        ("ensemble.json", {"format": 2}, "'format' must be 1. Received: 2"),
        ("ensemble.json", {"combine": "median"}, "combine must be one of"),
        ("ensemble.json", {"power": 0}, "power must be a number above 0"),
        ("ensemble.json", {"members": [0, 0]}, "was changed; make the ensemble again"),
        ("members/1/classes.txt", "a\nb\nc\n", "was changed; make the ensemble again"),
        ("positions.safetensors", "", "is missing or was changed"),
    ],
)
def test_damaged_folders(runs, tmp_path, file, content, words):
    make_ensemble([run.path for run in runs[:2]], tmp_path / "made", combine="rank")
    place = tmp_path / "made" / file
    if isinstance(content, dict):
        content = json.dumps({**json.loads(place.read_text()), **content})
    place.write_text(content)
    with pytest.raises(UserError, match=words):
        open_engine(tmp_path / "made")


def test_held_out_clips_are_those_of_all_members(runs, tmp_path):
    def clips(names):
        return tuple(Clip(tmp_path / f"{name}.wav", 0.0, 1.0, labels=("a",)) for name in names)

    paths = []
    for i, (train, val, held_out, pseudo) in enumerate((("ab", "", "cdefg", ""), ("bf", "c", "ade", "g"))):
        paths.append(shutil.copytree(runs[i].path, tmp_path / f"run{i}"))
        manifest = Manifest((), CLASSES, Ledger(), tmp_path)
        write_partition(paths[-1] / "partition.csv", Partition(manifest, *map(clips, (train, val, held_out, pseudo))))
    made = make_ensemble(paths, tmp_path / "made", combine="mean")
    listed = {
        part: "".join(sorted(clip.path.stem for clip in read_partition(made.path / "partition.csv", part)))
        for part in (TRAIN, PSEUDO_LABELS, VAL, HELD_OUT)
    }
    assert listed == {TRAIN: "abf", PSEUDO_LABELS: "g", VAL: "c", HELD_OUT: "de"}
    assert made.members[0].classes == CLASSES


@sampled(9)
def test_a_kill_while_an_ensemble_is_replaced_leaves_the_old_or_the_new_one(runs, tmp_path, every):
    folder = tmp_path / "ensembles" / "made"

    def make(how):
        return save_ensemble(folder, [runs[0], runs[2]], how=how, overwrite=True)

    def prepare():
        shutil.rmtree(tmp_path / "ensembles", ignore_errors=True)
        make("mean")
        (folder / "tables").mkdir()
        (folder / "tables" / "a.csv").write_text("mine")

    prepare()
    old = contents(folder)
    make("power")
    new, found = contents(folder), []
    for n in killed_at_every_change(tmp_path, prepare, lambda: make("power"), every=every):
        found.append(load_ensemble(folder).how)
        assert contents(folder) == {"mean": old, "power": new}[found[-1]], n
        make("power")
        assert contents(folder) == new and leftovers(tmp_path) == [], n
    assert len(found) >= 60 // every and (every > 1 or set(found) == {"mean", "power"}) and "tables/a.csv" in new
