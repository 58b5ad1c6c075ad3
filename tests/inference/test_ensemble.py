"""Ensembles against numpy by hand and scipy's ranks; the folder against what can go wrong with it."""

import dataclasses
import itertools
import json
import shutil

import numpy as np
import pytest
import soxr
import tolerances
from scipy.special import expit
from scipy.stats import rankdata

from birdnet_fs import schema
from birdnet_fs.cli.ensemble import make_ensemble
from birdnet_fs.core.errors import UserError
from birdnet_fs.data.ledger import Ledger
from birdnet_fs.data.manifest import Clip, Manifest
from birdnet_fs.data.partition import HELD_OUT, PSEUDO_LABELS, TRAIN, VAL, Partition, read_partition, write_partition
from birdnet_fs.data.score_table import ScoreRow, score_table, write_scores
from birdnet_fs.frontend import in_numpy
from birdnet_fs.inference.ensemble import (
    N_POINTS,
    EnsembleMember,
    combine_scores,
    ensemble_engine,
    position_table,
    positions,
)
from birdnet_fs.inference.open import open_engine
from birdnet_fs.runs.ensemble import load_ensemble, save_ensemble
from birdnet_fs.runs.run import build_network, load_run, model_weights, save_run

CLASSES = ("a", "b", "c")
SPEC = schema.FrontEnd(
    sample_rate_hz=8_000, segment_s=0.5, n_fft=256, win_length=256, hop_length=128, n_mels=16, fmax_hz=4_000.0
)
LOWER = dataclasses.replace(SPEC, sample_rate_hz=6_000, fmax_hz=3_000.0)
SHORTER = dataclasses.replace(SPEC, segment_s=0.2)


def noise(n, seed=0):
    return np.random.default_rng(seed).uniform(-1, 1, (n, SPEC.n_samples)).astype(np.float32)


def softmax(logits):
    powers = np.exp(np.asarray(logits, np.float64) - np.max(logits, axis=1, keepdims=True))
    return powers / powers.sum(1, keepdims=True)


# --- how scores are combined --------------------------------------------------------------------------


def test_mean_and_power_by_hand():
    p = softmax(np.random.default_rng(1).normal(size=(12, 5))).reshape(3, 4, 5)
    np.testing.assert_allclose(combine_scores(p, "mean"), (p[0] + p[1] + p[2]) / 3, rtol=tolerances.FLOAT64_SUMS)
    raised = (p[0] ** 3 + p[1] ** 3 + p[2] ** 3) / 3
    wanted = raised / raised.sum(1, keepdims=True)
    np.testing.assert_allclose(combine_scores(p, "power", power=3), wanted, rtol=tolerances.FLOAT64_SUMS)
    single = combine_scores(p, "power", activation="sigmoid", power=3)
    np.testing.assert_allclose(single, raised ** (1 / 3), rtol=tolerances.FLOAT64_SUMS)
    # members that agree keep their probability, and the order of clips is that of the mean of p ** 3
    np.testing.assert_allclose(
        combine_scores(p[[0, 0]], "power", activation="sigmoid"), p[0], rtol=tolerances.FLOAT64_SUMS
    )
    assert (single.argsort(axis=0) == raised.argsort(axis=0)).all()


def test_powers_of_what_is_nearly_nothing():
    p = np.array([[[1e-30, 1.0], [0.0, 0.0]], [[3e-30, 1.0], [0.0, 0.0]]])
    sure = combine_scores(p, "power", activation="sigmoid", power=40)
    np.testing.assert_allclose(sure[0, 0], 3e-30 * 0.5 ** (1 / 40), rtol=tolerances.FLOAT64_SUMS)
    assert sure[1].tolist() == [0.0, 0.0]
    flat = np.full((2, 1, 4), 0.25)
    assert combine_scores(flat, "power", power=1000).tolist() == [[0.25] * 4]


def test_positions_are_scipys_ranks():
    rng = np.random.default_rng(2)
    held_out = rng.integers(0, 12, (40, 3)).astype(np.float32) / 16 + np.float32(0.1)  # many are equal
    found = positions(held_out, position_table(rng.permutation(held_out)))
    np.testing.assert_allclose(found, (rankdata(held_out, axis=0) - 0.5) / 40, rtol=tolerances.FLOAT64_SUMS)
    between = positions(np.linspace(0, 1, 201)[:, None].repeat(3, 1), position_table(held_out))
    assert (np.diff(between, axis=0) > 0).all()
    assert between[0].tolist() == [0, 0, 0]
    assert between[-1].tolist() == [1, 1, 1]


def test_a_large_table_is_thinned_and_keeps_the_ranks():
    held_out = np.random.default_rng(3).beta(0.2, 3, (20 * N_POINTS, 2))
    table = position_table(held_out)
    assert table.shape == (N_POINTS, 2)
    exact = (rankdata(held_out, axis=0) - 0.5) / len(held_out)
    assert np.abs(positions(held_out, table) - exact).max() < 1 / N_POINTS
    with pytest.raises(UserError, match="no rows"):
        position_table(np.zeros((0, 2)))


# --- the engine ---------------------------------------------------------------------------------------


def member(spec, seed, columns=(0, 1, 2), activation="softmax", table=None):
    """A member whose network is one random matrix; and that matrix."""
    kernel = np.random.default_rng(seed).normal(size=(spec.shape[0] * spec.n_mels, 3)) / 200

    def network(features):
        return (features[..., 0].reshape(len(features), -1) @ kernel).astype(np.float32)

    return EnsembleMember(spec, activation, np.array(columns), network, table), kernel


def alone(waveforms, spec, kernel):
    features = in_numpy.log_mel(waveforms, spec)
    return softmax(features.reshape(len(waveforms), -1) @ kernel)


def test_members_of_other_classes_rates_and_lengths_by_hand():
    (one, kernel_1), (two, kernel_2), (three, kernel_3) = (
        member(SPEC, 1),
        member(LOWER, 2, (2, 0, 1)),
        member(SHORTER, 3),
    )
    engine = ensemble_engine([one, two, three], CLASSES, how="mean", identity="x")
    assert (engine.sample_rate_hz, engine.segment_s, engine.n_samples) == (8_000, 0.5, 4_000)
    assert (engine.frontend.fmin_hz, engine.frontend.fmax_hz) == (50.0, 4_000.0)
    given = noise(3)
    given[1, 1500:] = 0  # silence fills the end: the shorter member hears one window there, and two of the second
    given[2, 2400:] = 0
    p_1 = alone(given, SPEC, kernel_1)
    lower = np.stack([soxr.resample(row, 8_000, 6_000, quality="HQ") for row in given])
    p_2 = alone(lower, LOWER, kernel_2)[:, [2, 0, 1]]
    windows = [
        [given[0, at : at + 1600] for at in (0, 800, 1600, 2400)],
        [given[1, :1600]],
        [given[2, :1600], given[2, 800:2400]],
    ]
    p_3 = np.stack([alone(np.stack(rows), SHORTER, kernel_3).mean(0) for rows in windows])
    wanted = (p_1 + p_2 + p_3) / 3
    np.testing.assert_allclose(engine.probabilities(given), wanted, atol=tolerances.ENSEMBLE_PROBABILITIES)
    assert np.ptp(p_1 - p_2) > 0.1  # the comparison can fail
    assert np.ptp(p_1 - p_3) > 0.1


@pytest.mark.parametrize("activation", ["softmax", "sigmoid"])
@pytest.mark.parametrize("how", ["mean", "power"])
def test_logits_are_those_of_the_combined_probabilities(how, activation):
    members = [member(SPEC, seed, activation=activation)[0] for seed in (1, 2)]
    kernels = [member(SPEC, seed)[1] for seed in (1, 2)]
    engine = ensemble_engine(members, CLASSES, how=how, identity="x")
    assert (engine.activation, engine.multi_label, engine.gives_ranks) == (activation, activation == "sigmoid", False)
    features = in_numpy.log_mel(noise(4), SPEC).reshape(4, -1)
    make_p = softmax if activation == "softmax" else expit
    p = np.stack([make_p(features @ kernel) for kernel in kernels])
    wanted = combine_scores(p, how, activation=activation)
    np.testing.assert_allclose(engine.probabilities(noise(4)), wanted, atol=tolerances.ENSEMBLE_PROBABILITIES)
    back = softmax(engine.logits(noise(4))) if activation == "softmax" else expit(engine.logits(noise(4)))
    np.testing.assert_allclose(back, wanted, atol=tolerances.ENSEMBLE_PROBABILITIES)


def test_ranks_do_not_depend_on_what_is_scored_beside():
    rng = np.random.default_rng(5)
    held_out = [softmax(rng.normal(size=(30, 3))), expit(rng.normal(size=(50, 3)))]
    tables = [position_table(scores) for scores in held_out]
    members = [member(SPEC, 1, table=tables[0]), member(SPEC, 2, activation="sigmoid", table=tables[1])]
    kernels = [kernel for _, kernel in members]
    engine = ensemble_engine([m for m, _ in members], CLASSES, how="rank", identity="x")
    assert (engine.activation, engine.multi_label, engine.gives_ranks) == ("sigmoid", True, True)
    assert not ensemble_engine([members[0][0]] * 2, CLASSES, how="rank", identity="x").multi_label
    features = in_numpy.log_mel(noise(6), SPEC).reshape(6, -1)
    wanted = np.zeros((6, 3))
    for scores, p in zip(held_out, (softmax(features @ kernels[0]), expit(features @ kernels[1])), strict=True):
        for row, c in itertools.product(range(6), range(3)):
            known = np.sort(scores[:, c])
            places = (rankdata(known) - 0.5) / len(known)
            wanted[row, c] += np.interp(p[row, c], [0, *known, 1], [0, *places, 1]) / 2
    together = engine.probabilities(noise(6))
    np.testing.assert_allclose(together, wanted, atol=tolerances.ENSEMBLE_PROBABILITIES)
    np.testing.assert_allclose(expit(engine.logits(noise(6))), wanted, atol=tolerances.ENSEMBLE_PROBABILITIES)
    each = np.concatenate([engine.probabilities(row[None]) for row in noise(6)])
    np.testing.assert_array_equal(each, together)


def test_each_front_end_is_computed_once(monkeypatch):
    calls = []
    true = in_numpy.log_mel
    monkeypatch.setattr(
        in_numpy, "log_mel", lambda x, spec: calls.append((len(x), spec.sample_rate_hz)) or true(x, spec)
    )
    renamed = dataclasses.replace(SPEC, preset="other name", n_channels=3)
    members = [member(spec, seed)[0] for seed, spec in enumerate((SPEC, LOWER, renamed, SPEC, LOWER))]
    ensemble_engine(members, CLASSES, how="mean", identity="x").logits(noise(4))
    assert sorted(calls) == [(4, 6_000), (4, 8_000)]


# --- the folder ---------------------------------------------------------------------------------------


def run_in(folder, seed, *, classes=CLASSES, spec=SPEC, multi_label=False, name="cnn/tiny", held_out=40):
    """A run folder with random weights, and scores of clips it held out."""
    import keras

    experiment = schema.Experiment(
        name=f"net {seed}", data=schema.Data(multi_label=multi_label), frontend=spec, model=schema.Model(name)
    )
    keras.utils.set_random_seed(seed)
    run = save_run(folder, experiment, classes, model_weights(build_network(experiment, n_classes=len(classes))))
    if held_out:
        scores = softmax(np.random.default_rng(seed).normal(size=(held_out, len(classes))))
        rows = [ScoreRow(f"{i}.wav", 0.0, 1.0, "", (classes[0],)) for i in range(held_out)]
        write_scores(folder / "scores.csv", score_table(rows, scores, classes))
    return run


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    return [
        run_in(folder / "one", 1),
        run_in(folder / "two", 2, classes=("c", "a", "b"), spec=LOWER),
        run_in(folder / "three", 3, name="rnn/gru"),
    ]


def test_a_folder_scores_as_its_members_do_wherever_it_lies(runs, tmp_path):
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


def test_ranks_come_from_the_scores_each_member_left(runs, tmp_path):
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
        with pytest.raises(UserError, match="other members or settings"):
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
        ("ensemble.json", {"power": float("inf")}, "power must be a number above 0"),
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


def test_held_out_is_what_no_member_ever_heard(runs, tmp_path):
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
