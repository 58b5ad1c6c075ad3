"""Enrollment on the aviary, with a network that was never trained: what is checked is arithmetic, not song."""

import csv
import dataclasses
import itertools
import tracemalloc

import keras
import librosa
import numpy as np
import pytest
import soundfile as sf
import tolerances
from safetensors.numpy import load_file, save_file
from scipy.special import expit, logsumexp

from birdnet_fs import schema
from birdnet_fs.analysis.analyze import analyze
from birdnet_fs.cli.enroll import enroll
from birdnet_fs.core.errors import UserError
from birdnet_fs.data.manifest import Manifest, read_manifest
from birdnet_fs.data.synthetic.aviary import make_aviary
from birdnet_fs.data.synthetic.song import SPECIES
from birdnet_fs.fewshot import calibration
from birdnet_fs.fewshot.calibration import ACCEPTED_SHARE, EmbeddingDistance, calibrate
from birdnet_fs.fewshot.enrollment import enroll
from birdnet_fs.frontend.in_numpy import log_mel, network_input
from birdnet_fs.inference.open import open_engine
from birdnet_fs.runs import run as run_folder

NAMES = [species.latin for species in SPECIES[:4]]
FRONT_END = schema.FrontEnd(sample_rate_hz=16_000, segment_s=2.0, n_mels=32, fmax_hz=8000)


@pytest.fixture(scope="module")
def clips(tmp_path_factory) -> Manifest:
    folder = tmp_path_factory.mktemp("enrolment") / "aviary"
    make_aviary(folder, n_species=4, clips_per_species=5, n_soundscapes=0)
    return read_manifest(schema.Data(root=str(folder), table="metadata.csv", audio="audio", where="set=aviary"))


def some(clips: Manifest, names, n: int = 5) -> Manifest:
    kept = [[c for c in clips.clips if c.labels == (name,)][:n] for name in names]
    return dataclasses.replace(clips, clips=tuple(c for own in kept for c in own), classes=tuple(sorted(names)))


def run_of(folder, **model) -> run_folder.Run:
    settings = schema.Model(**{"name": "cnn/tiny", **model})
    experiment = schema.Experiment(name="base", frontend=FRONT_END, model=settings)
    keras.utils.set_random_seed(0)
    weights = run_folder.model_weights(run_folder.build_network(experiment, n_classes=3))
    return run_folder.save_run(folder, experiment, ("x", "y", "z"), weights)


def embedding(run: run_folder.Run, waveform: np.ndarray) -> np.ndarray:
    """By plain Keras, window by window."""
    model = run.build_model()
    network = keras.Model(model.input, model.get_layer("embedding").output)
    n = FRONT_END.n_samples
    onsets = range(0, len(waveform) - n + 1, n // 2)  # which cover these clips: nothing is padded
    assert (len(waveform) - n) % (n // 2) == 0
    features = np.concatenate([log_mel(waveform[o : o + n], FRONT_END) for o in onsets])
    return network.predict(network_input(features, FRONT_END), verbose=0).mean(0)


@pytest.mark.parametrize("distance", ["", "euclidean", "cosine"])
def test_scores_are_the_distances_to_the_means(clips, tmp_path, distance):
    """A classifier compares by cosine, a run with prototypes as it was trained."""
    run = run_of(tmp_path / "run", **({"head": "prototypes", "distance": distance} if distance else {}))
    support = some(clips, NAMES[:3], 3)
    new = enroll(run, support, tmp_path / "new", unknown=False)
    assert new.classes == tuple(sorted(NAMES[:3]))
    waveforms = [librosa.load(c.path, sr=16_000)[0] for c in support.clips]
    points = np.stack([embedding(run, w) for w in waveforms])
    if distance != "euclidean":
        points /= np.linalg.norm(points, axis=1, keepdims=True)
    labels = [c.labels[0] for c in support.clips]
    prototypes = np.stack([points[[label == name for label in labels]].mean(0) for name in new.classes])
    window = waveforms[4][: FRONT_END.n_samples]
    x = embedding(run, window)
    if distance == "euclidean":
        expected = -np.square(x - prototypes).sum(1)
    else:
        expected = prototypes @ x / np.linalg.norm(prototypes, axis=1) / np.linalg.norm(x)
    found = open_engine(new.path).logits(window[None])[0] / new.experiment.logit_scale
    spread = np.abs(expected).max()
    np.testing.assert_allclose(found / spread, expected / spread, atol=tolerances.PROTOTYPE_LOGITS)


def test_adding_and_removing_give_what_enrolling_at_once_gives(clips, tmp_path):
    run = run_of(tmp_path / "run")
    at_once = enroll(run, some(clips, NAMES[:3]), tmp_path / "once")
    first = enroll(run, some(clips, [NAMES[0], NAMES[3]]), tmp_path / "first")
    more = enroll(first, some(clips, NAMES[1:3]), tmp_path / "more", remove=[NAMES[3]])
    assert more.classes == at_once.classes == (*sorted(NAMES[:3]), "unknown")
    wanted, found = (load_file(r.path / "weights.safetensors") for r in (at_once, more))
    assert wanted.keys() == found.keys()
    for name, value in wanted.items():
        np.testing.assert_allclose(found[name], value, rtol=1e-5, atol=1e-6, err_msg=name)
    half = enroll(run, some(clips, NAMES[:3], 2), tmp_path / "half")
    rest = some(clips, NAMES[:3])
    rest = dataclasses.replace(rest, clips=tuple(c for i, c in enumerate(rest.clips) if i % 5 >= 2))
    whole = load_file(enroll(half, rest, tmp_path / "whole", extend=True).path / "weights.safetensors")
    np.testing.assert_allclose(whole["logits/prototypes"], wanted["logits/prototypes"], rtol=1e-5, atol=1e-6)


def test_uneven_shots_one_clip_and_the_verb(clips, tmp_path, capsys):
    run = run_of(tmp_path / "run")
    for name, n in ((NAMES[0], 1), (NAMES[1], 4)):
        (tmp_path / "support" / name).mkdir(parents=True)
        for clip in some(clips, [name], n).clips:
            (tmp_path / "support" / name / clip.path.name).write_bytes(clip.path.read_bytes())
    (tmp_path / "noise").mkdir()
    sf.write(tmp_path / "noise" / "wind.wav", np.random.default_rng(0).normal(0, 0.1, 64_000), 16_000)
    enroll(run.path, tmp_path / "support", [], tmp_path / "new", background=tmp_path / "noise")
    told = capsys.readouterr()
    assert "3 classes" in told.out and "one recording" in told.err
    engine = open_engine(tmp_path / "new")
    assert engine.classes == (*sorted(NAMES[:2]), "unknown") and engine.activation == "softmax"
    with pytest.raises(UserError, match="already holds a run"):
        enroll(run.path, tmp_path / "support", [], tmp_path / "new")


@pytest.mark.parametrize("heard", [0, 2])
def test_a_learned_distance_stays_and_unknown_is_calibrated_on_it(clips, tmp_path, heard: int):
    """By brute force: Keras' own dense layers on pairs, each clip against the mean of its class without it."""
    run = run_of(tmp_path / "run", head="prototypes", distance="learned", logit_scale=0.5)
    support, background = some(clips, NAMES[:3], 3), some(clips, NAMES[3:], heard)
    new = enroll(run, support, tmp_path / "new", background=background.clips)
    assert new.experiment.model.distance == "learned"
    scale = new.experiment.logit_scale
    trained, kept = (load_file(r.path / "weights.safetensors") for r in (run, new))
    dense = [name for name in trained if name.startswith("logits/d")]
    assert len(dense) == 6 and all(np.array_equal(trained[name], kept[name]) for name in dense)
    network = run.build_model().get_layer("logits").learned

    def logit(x, prototype) -> float:
        pair = np.concatenate([x, prototype])[None].astype(np.float32)
        return -scale * float(keras.ops.convert_to_numpy(network(pair, training=False))[0, 0])

    waveforms = [librosa.load(c.path, sr=16_000)[0] for c in support.clips]
    points = np.stack([embedding(run, w) for w in waveforms])
    labels = [c.labels[0] for c in support.clips]
    rows = {name: [i for i in range(9) if labels[i] == name] for name in new.classes[:-1]}
    prototypes = [points[own].mean(0) for own in rows.values()]
    own = [logit(points[i], points[[j for j in rows[labels[i]] if j != i]].mean(0)) for i in range(9)]
    if heard:
        noises = [librosa.load(c.path, sr=16_000)[0] for c in background.clips]
        n = FRONT_END.n_samples
        windows = [w[o : o + n] for w in noises for o in range(0, len(w) - n + 1, n // 2)]
        other = [max(logit(embedding(run, w), p) for p in prototypes) for w in windows]
        rates = {}
        for low, high in itertools.pairwise(sorted({*own, *other, min(own + other) - 1, max(own + other) + 1})):
            cut = (low + high) / 2
            rates[cut] = np.mean(np.array(own) > cut) + np.mean(np.array(other) < cut)
        unknown = float(load_file(new.path / "weights.safetensors")["logits/unknown_logit"][0])
        passed = np.mean(np.array(own) > unknown) + np.mean(np.array(other) < unknown)
        assert passed == pytest.approx(max(rates.values()))
    else:
        unknown = float(np.quantile(own, 1 - ACCEPTED_SHARE))
    window = waveforms[4][: FRONT_END.n_samples]
    expected = [*(logit(embedding(run, window), p) for p in prototypes), unknown]
    found = open_engine(new.path).logits(window[None])[0]
    assert np.ptp(expected[:-1]) > 20 * tolerances.PROTOTYPE_LOGITS  # else closeness would show nothing
    np.testing.assert_allclose(found, expected, atol=tolerances.PROTOTYPE_LOGITS)
    analyze(open_engine(new.path), [support.clips[0].path], tmp_path / "tables", min_confidence=0.0)
    with open(next((tmp_path / "tables").glob("*results.csv")), encoding="utf-8") as file:
        assert {row["Common name"] for row in csv.DictReader(file)} == set(new.classes)


def test_a_clip_is_not_counted_twice(clips, tmp_path, capsys):
    """Nor under another name of its file; two excerpts of one file are two."""
    run = run_of(tmp_path / "run")
    first = enroll(run, some(clips, NAMES[:2], 3), tmp_path / "first")
    link = tmp_path / "link.wav"
    link.symlink_to(some(clips, NAMES[:1]).clips[0].path)
    again = [*some(clips, NAMES[:2], 4).clips, dataclasses.replace(some(clips, NAMES[:1]).clips[0], path=link)]
    capsys.readouterr()
    more = enroll(first, dataclasses.replace(clips, clips=tuple(again)), tmp_path / "more", extend=True)
    assert "7 of 9 clips are in the support already and are not counted twice" in capsys.readouterr().err
    whole = enroll(run, some(clips, NAMES[:2], 4), tmp_path / "whole")
    wanted, found = (load_file(r.path / "weights.safetensors")["logits/prototypes"] for r in (whole, more))
    np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-6)
    excerpt = dataclasses.replace(some(clips, NAMES[:1]).clips[0], onset_s=1.0, offset_s=3.5)
    both = enroll(more, dataclasses.replace(clips, clips=(excerpt,)), tmp_path / "both", extend=True)
    with open(both.path / "support.csv", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 9 and (rows[-1]["onset_s"], rows[-1]["offset_s"]) == ("1.0", "3.5")
    same = enroll(both, dataclasses.replace(clips, clips=(excerpt,)), tmp_path / "same", extend=True)
    assert (same.path / "support.csv").read_bytes() == (both.path / "support.csv").read_bytes()


@pytest.mark.parametrize(
    ("model", "data", "others"),
    [
        (
            {"head": "prototypes", "distance": "cosine"},
            {"split": "classes"},
            {
                "training": schema.Training(checkpoints=schema.Checkpoints(select="best", patience=3)),
                "episodes": schema.Episodes(),
            },
        ),
        ({}, {"multi_label": True, "secondary": "soft"}, {"training": schema.Training(loss=schema.Loss("bce"))}),
        ({"head": "cosine"}, {}, {"training": schema.Training(loss=schema.Loss("arcface"))}),
    ],
)
def test_how_a_run_was_trained_does_not_keep_it_from_being_enrolled(clips, tmp_path, model, data, others):
    run = run_of(tmp_path / "run", **model)
    changed = dataclasses.replace(run.experiment, data=schema.Data(**data), **others)
    new = enroll(dataclasses.replace(run, experiment=changed), some(clips, NAMES[:2], 2), tmp_path / "new")
    opened = run_folder.load_run(new.path)
    assert opened.classes == (*sorted(NAMES[:2]), "unknown") and opened.activation == "softmax"


def unit(x: np.ndarray) -> np.ndarray:
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


def test_unknown_stands_between_support_and_background():
    """Two classes on two axes, background on a third: the threshold is half-way between the nearest on either side."""
    rng = np.random.default_rng(0)
    axes = np.eye(3, dtype=np.float32)
    points = np.concatenate([axes[i] + 0.05 * rng.normal(size=(6, 3)) for i in (0, 1)]).astype(np.float32)
    labels = ("a",) * 6 + ("b",) * 6
    base = EmbeddingDistance("cosine", np.zeros(3, np.float32))
    background = (axes[2] + 0.05 * rng.normal(size=(20, 3))).astype(np.float32)
    head = calibrate(labels, points, background, base, unknown=True)
    own = []
    for i in range(12):  # by brute force, each clip left out of its prototype
        others = [j for j in range(12) if j // 6 == i // 6 and j != i]
        own.append(unit(points[i]) @ unit(unit(points[others]).mean(0)))
    heard = (unit(background) @ unit(head.prototypes).T).max(1)
    assert max(heard) < min(own)
    middle = (max(heard) + min(own)) / 2
    assert head.unknown / head.scale == pytest.approx(middle, abs=tolerances.PROTOTYPE_LOGITS)
    quiet = calibrate(labels, points, np.empty((0, 3), np.float32), base, unknown=True)
    kept = np.mean(np.array(own) > quiet.unknown / quiet.scale)
    assert kept >= ACCEPTED_SHARE - 1 / 12
    assert calibrate(labels, points, background, base, unknown=False).unknown is None


def test_hours_of_background_need_no_table_of_all_pairs():
    """The threshold of brute force, in memory that grows with the number of windows and not with its square."""
    rng = np.random.default_rng(3)
    own, heard = rng.normal(1.0, 1.0, 40).round(1), rng.normal(-1.0, 1.0, 5000).round(3)
    tracemalloc.start()
    found = calibration._best_threshold(own, heard)
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    rates = [np.mean(own > cut) + np.mean(heard < cut) for cut in np.linspace(-4, 4, 4001) + 1e-4]
    assert np.mean(own > found) + np.mean(heard < found) >= max(rates)
    assert most < 100 * 8 * (len(own) + len(heard))


@pytest.mark.parametrize(("apart", "size"), [(1.0, 1.0), (30.0, 1.0), (1.0, 1e4), (0.0, 1e-3)])
def test_the_scale_fits_what_the_clips_allow_to_say(apart: float, size: float):
    """Cross-entropy by brute force, for classes that overlap, that are far apart and that are no classes at all."""
    rng = np.random.default_rng(1)
    points = size * (apart * np.repeat(np.eye(4), 5, axis=0) + 0.4 * rng.normal(size=(20, 4)))
    labels = ["abcd"[i // 5] for i in range(20)]
    nothing = np.empty((0, 4))
    for unknown in (False, True):
        head = calibrate(labels, points.astype(np.float32), nothing, EmbeddingDistance("euclidean", None), unknown=unknown)

        def cost(scale: float, head=head) -> float:
            total = 0.0
            for i in range(20):
                means = [points[[j for j in range(20) if j // 5 == c and j != i]].mean(0) for c in range(4)]
                logits = [-scale * np.square(points[i] - mean).sum() for mean in means]
                if head.unknown is not None:
                    logits.append(scale * head.unknown / head.scale)
                log_p = np.array(logits) - logsumexp(logits)
                wanted = np.full(len(logits), 1 / 22 / (len(logits) - 1))
                wanted[i // 5] = 21 / 22
                total -= wanted @ log_p
            return total

        best = cost(head.scale)
        assert best <= cost(head.scale * 1.01)
        if apart:
            assert best <= cost(head.scale / 1.01)


def test_one_clip_each_is_unknown_no_nearer_than_the_next_class():
    """And the scale is that of clips half-way between their class and the next."""
    points = unit(np.random.default_rng(4).normal(size=(5, 3)))
    head = calibrate("abcde", points.astype(np.float32), np.empty((0, 3)), EmbeddingDistance("cosine", np.zeros(3)), unknown=True)
    near = points @ points.T
    others = np.where(np.eye(5, dtype=bool), -np.inf, near).max(1)
    assert head.unknown / head.scale == pytest.approx(np.median(others))
    np.fill_diagonal(near, (1 + others) / 2)
    near = np.column_stack([near, np.full(5, np.median(others))])

    def cost(scale: float) -> float:
        log_p = scale * near - logsumexp(scale * near, axis=1, keepdims=True)
        return -(np.where(np.eye(5, 6), 6 / 7, 1 / 7 / 5) * log_p).sum()

    assert cost(head.scale) <= min(cost(head.scale / 1.01), cost(head.scale * 1.01))


def test_one_class_is_told_from_unknown():
    """Probabilities of both come out as its clips allow, whatever the unit of the distance."""
    rng = np.random.default_rng(2)
    for size in (1e-3, 1e3):
        points = (size * rng.normal(size=(30, 3))).astype(np.float32)
        head = calibrate(["a"] * 30, points, (size * (8 + points / size)), EmbeddingDistance("euclidean", None), unknown=True)
        logits = -head.scale * np.square(points - head.prototypes).sum(1)
        assert np.mean(expit(logits - head.unknown)) > 0.8
    with pytest.raises(UserError, match="One clip of one class"):
        calibrate(["a"], points[:1], np.empty((0, 3)), EmbeddingDistance("euclidean", None), unknown=True)


def test_faults_are_one_sentence_and_nothing_is_written(clips, tmp_path):
    run = run_of(tmp_path / "run")
    first = enroll(run, some(clips, NAMES[:2]), tmp_path / "first")
    output = tmp_path / "new"
    silent = tmp_path / "silent.wav"
    sf.write(silent, np.zeros(48_000), 16_000)
    mute = dataclasses.replace(clips.clips[0], path=silent, labels=("mute",))
    with pytest.raises(UserError, match="No clip of 'mute' can be learned from"):
        enroll(run, dataclasses.replace(clips, clips=(*some(clips, NAMES[:2]).clips, mute)), output)
    with pytest.raises(UserError, match=r"is a class of .* already"):
        enroll(first, some(clips, NAMES[1:3]), output)
    with pytest.raises(UserError, match="--remove must name classes"):
        enroll(first, None, output, remove=["ghost"])
    with pytest.raises(UserError, match="Two or more classes"):
        enroll(run, some(clips, NAMES[:1]), output, unknown=False)
    save_file({"embeddings": np.zeros((10, 7), np.float32)}, first.path / "support.safetensors")
    with pytest.raises(UserError, match="must hold 10 embeddings of width"):
        enroll(first, some(clips, NAMES[2:3]), output)
    with pytest.raises(UserError, match="reads frames"):
        enroll(run_of(tmp_path / "sed", head="sed"), some(clips, NAMES[:2]), output)
    twice = dataclasses.replace(some(clips, NAMES[2:3]).clips[0], path=clips.clips[0].path)
    assert clips.clips[0].labels != twice.labels
    with pytest.raises(UserError, match="a clip has one label"):
        enroll(enroll(run, clips, tmp_path / "all"), dataclasses.replace(clips, clips=(twice,)), output, extend=True)
    assert not output.exists()
