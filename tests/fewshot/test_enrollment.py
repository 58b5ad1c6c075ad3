"""Enrollment of synthetic clips, with untrained networks: the arithmetic is tested, not the classification."""

import csv
import dataclasses
import functools
import itertools

import keras
import numpy as np
import pytest
import soundfile as sf
import tolerances
import torch
import uncompiled_librosa as librosa
from safetensors.numpy import load_file, save_file

from birdnet_fs import schema
from birdnet_fs.analysis.analyze import analyze
from birdnet_fs.cli.enroll import enroll as enroll_command
from birdnet_fs.core.errors import UserError
from birdnet_fs.data.manifest import Manifest, read_manifest
from birdnet_fs.data.synthetic.aviary import make_aviary
from birdnet_fs.data.synthetic.song import SPECIES
from birdnet_fs.fewshot.calibration import ACCEPTED_SHARE
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


@pytest.fixture(scope="module")
def run_of(tmp_path_factory):
    """A function that returns an untrained run with settings of `model`; tests read it and do not change it."""

    @functools.cache
    def run_of(**model) -> run_folder.Run:
        return untrained_run(tmp_path_factory.mktemp("base") / "run", **model)

    return run_of


def untrained_run(folder, **model) -> run_folder.Run:
    settings = schema.Model(**{"name": "cnn/tiny", **model})
    experiment = schema.Experiment(name="base", frontend=FRONT_END, model=settings)
    keras.utils.set_random_seed(0)
    weights = run_folder.model_weights(run_folder.build_network(experiment, n_classes=3))
    return run_folder.save_run(folder, experiment, ("x", "y", "z"), weights)


def embedding(run: run_folder.Run, waveform: np.ndarray) -> np.ndarray:
    """By plain Keras, window by window."""
    n = FRONT_END.n_samples
    onsets = range(0, len(waveform) - n + 1, n // 2)  # which cover these clips: nothing is padded
    assert (len(waveform) - n) % (n // 2) == 0
    features = np.concatenate([log_mel(waveform[o : o + n], FRONT_END) for o in onsets])
    with torch.no_grad():
        return network_of(run.path)(network_input(features, FRONT_END), training=False).numpy().mean(0)


@functools.cache
def network_of(path) -> keras.Model:
    """The network of a run up to its embedding."""
    model = run_folder.load_run(path).build_model()
    return keras.Model(model.input, model.get_layer("embedding").output)


@pytest.mark.parametrize("distance", ["", "euclidean", "cosine"])
def test_logits_are_distances_to_class_means(clips, run_of, tmp_path, distance):
    """A classifier compares by cosine, a run with prototypes by the distance of its training."""
    run = run_of(**({"head": "prototypes", "distance": distance} if distance else {}))
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


def test_adding_and_removing_equals_enrolling_at_once(clips, run_of, tmp_path):
    run = run_of()
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


def test_enroll_command_with_uneven_shots(clips, run_of, tmp_path, capsys):
    run = run_of()
    for name, n in ((NAMES[0], 1), (NAMES[1], 4)):
        (tmp_path / "support" / name).mkdir(parents=True)
        for clip in some(clips, [name], n).clips:
            (tmp_path / "support" / name / clip.path.name).write_bytes(clip.path.read_bytes())
    (tmp_path / "noise").mkdir()
    sf.write(tmp_path / "noise" / "wind.wav", np.random.default_rng(0).normal(0, 0.1, 64_000), 16_000)
    enroll_command(run.path, tmp_path / "support", [], tmp_path / "new", background=tmp_path / "noise")
    printed = capsys.readouterr()
    assert "3 classes" in printed.out and "one recording" in printed.err
    engine = open_engine(tmp_path / "new")
    assert engine.classes == (*sorted(NAMES[:2]), "unknown") and engine.activation == "softmax"
    with pytest.raises(UserError, match=r"holds a run of another enrollment \(1 recording removed\)"):
        enroll_command(run.path, tmp_path / "support", [], tmp_path / "new")


@pytest.mark.parametrize("n_background", [0, 2])
def test_learned_distance_stays_and_calibrates_unknown(clips, run_of, tmp_path, n_background: int):
    """By brute force: Keras' own dense layers on pairs, each clip against the mean of its class without it."""
    run = run_of(head="prototypes", distance="learned", logit_scale=0.5)
    support, background = some(clips, NAMES[:3], 3), some(clips, NAMES[3:], n_background)
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
    if n_background:
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
    assert np.ptp(expected[:-1]) > 20 * tolerances.PROTOTYPE_LOGITS  # the tolerance is small against the differences
    np.testing.assert_allclose(found, expected, atol=tolerances.PROTOTYPE_LOGITS)
    analyze(open_engine(new.path), [support.clips[0].path], tmp_path / "tables", min_confidence=0.0)
    with open(next((tmp_path / "tables").glob("*results.csv")), encoding="utf-8") as file:
        assert {row["Common name"] for row in csv.DictReader(file)} == set(new.classes) - {"unknown"}


def test_same_clip_is_not_added_twice(clips, run_of, tmp_path, capsys):
    """Nor under another name of its file; two excerpts of one file are two."""
    run = run_of()
    first = enroll(run, some(clips, NAMES[:2], 3), tmp_path / "first")
    link = tmp_path / "link.wav"
    link.symlink_to(some(clips, NAMES[:1]).clips[0].path)
    again = [*some(clips, NAMES[:2], 4).clips, dataclasses.replace(some(clips, NAMES[:1]).clips[0], path=link)]
    capsys.readouterr()
    more = enroll(first, dataclasses.replace(clips, clips=tuple(again)), tmp_path / "more", extend=True)
    assert "7 of 9 clips are in the support already and are not added again" in capsys.readouterr().err
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
def test_runs_of_any_training_can_be_enrolled(clips, run_of, tmp_path, model, data, others):
    run = run_of(**model)
    changed = dataclasses.replace(run.experiment, data=schema.Data(**data), **others)
    new = enroll(dataclasses.replace(run, experiment=changed), some(clips, NAMES[:2], 2), tmp_path / "new")
    opened = run_folder.load_run(new.path)
    assert opened.classes == (*sorted(NAMES[:2]), "unknown") and opened.activation == "softmax"


def test_bad_input_is_refused_and_nothing_is_written(clips, run_of, tmp_path):
    run = run_of()
    first = enroll(run, some(clips, NAMES[:2]), tmp_path / "first")
    output = tmp_path / "new"
    silent = tmp_path / "silent.wav"
    sf.write(silent, np.zeros(48_000), 16_000)
    mute = dataclasses.replace(clips.clips[0], path=silent, labels=("mute",))
    with pytest.raises(UserError, match="Every clip of 'mute' is damaged or silent"):
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
    with pytest.raises(UserError, match="has no embedding"):
        enroll(run_of(head="sed"), some(clips, NAMES[:2]), output)
    twice = dataclasses.replace(some(clips, NAMES[2:3]).clips[0], path=clips.clips[0].path)
    assert clips.clips[0].labels != twice.labels
    with pytest.raises(UserError, match="a clip has one label"):
        enroll(enroll(run, clips, tmp_path / "all"), dataclasses.replace(clips, clips=(twice,)), output, extend=True)
    assert not output.exists()
