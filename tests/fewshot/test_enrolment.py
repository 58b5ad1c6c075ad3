"""Enrolment on the aviary, with a network that was never trained: what is checked is arithmetic, not song."""

import dataclasses

import keras
import librosa
import numpy as np
import pytest
import soundfile as sf
import tolerances
from safetensors.numpy import load_file, save_file
from scipy.special import logsumexp

from birdnet_fs import schema
from birdnet_fs.cli.enroll import enroll
from birdnet_fs.fewshot import enrolment
from birdnet_fs.fewshot.enrolment import Base, Support, calibrate, enrol
from birdnet_fs.frontend.in_numpy import log_mel, network_input
from birdnet_fs.plumbing.errors import UserError
from birdnet_fs.recordings.aviary import make_aviary
from birdnet_fs.recordings.manifest import Manifest, read_manifest
from birdnet_fs.recordings.synthesis import SPECIES
from birdnet_fs.scoring.engines import open_engine
from birdnet_fs.training import run_folder

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
    weights = run_folder.weights_of(run_folder.build_network(experiment, n_classes=3))
    return run_folder.save_run(folder, experiment, ("x", "y", "z"), weights)


def embedding(run: run_folder.Run, waveform: np.ndarray) -> np.ndarray:
    """By plain Keras, window by window."""
    model = run.build_model()
    network = keras.Model(model.input, model.get_layer("embedding").output)
    n = FRONT_END.n_samples
    onsets = np.linspace(0, len(waveform) - n, int(np.ceil((len(waveform) - n) / (n / 2))) + 1).astype(int)
    features = np.concatenate([log_mel(waveform[o : o + n], FRONT_END) for o in onsets])
    return network.predict(network_input(features, FRONT_END), verbose=0).mean(0)


@pytest.mark.parametrize("distance", ["", "euclidean", "cosine"])
def test_scores_are_the_distances_to_the_means(clips, tmp_path, distance):
    """A classifier compares by cosine, a run with prototypes as it was trained."""
    run = run_of(tmp_path / "run", **({"head": "prototypes", "distance": distance} if distance else {}))
    support = some(clips, NAMES[:3], 3)
    new = enrol(run, support, tmp_path / "new", unknown=False)
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
    at_once = enrol(run, some(clips, NAMES[:3]), tmp_path / "once")
    first = enrol(run, some(clips, [NAMES[0], NAMES[3]]), tmp_path / "first")
    more = enrol(first, some(clips, NAMES[1:3]), tmp_path / "more", remove=[NAMES[3]])
    assert more.classes == at_once.classes == (*sorted(NAMES[:3]), "unknown")
    wanted, found = (load_file(r.path / "weights.safetensors") for r in (at_once, more))
    assert wanted.keys() == found.keys()
    for name, value in wanted.items():
        np.testing.assert_allclose(found[name], value, rtol=1e-5, atol=1e-6, err_msg=name)
    half = enrol(run, some(clips, NAMES[:3], 2), tmp_path / "half")
    rest = some(clips, NAMES[:3])
    rest = dataclasses.replace(rest, clips=tuple(c for i, c in enumerate(rest.clips) if i % 5 >= 2))
    whole = load_file(enrol(half, rest, tmp_path / "whole", extend=True).path / "weights.safetensors")
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
    with pytest.raises(UserError, match="holds a run already"):
        enroll(run.path, tmp_path / "support", [], tmp_path / "new")


def unit(x: np.ndarray) -> np.ndarray:
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


def test_unknown_stands_between_support_and_background():
    """Two classes on two axes, background on a third: the threshold is half-way between the nearest on either side."""
    rng = np.random.default_rng(0)
    axes = np.eye(3, dtype=np.float32)
    points = np.concatenate([axes[i] + 0.05 * rng.normal(size=(6, 3)) for i in (0, 1)]).astype(np.float32)
    support = Support(("a",) * 6 + ("b",) * 6, tuple(map(str, range(12))), points)
    base = Base("cosine", np.zeros(3, np.float32))
    background = (axes[2] + 0.05 * rng.normal(size=(20, 3))).astype(np.float32)
    head = calibrate(support, background, base, unknown=True)
    own = []
    for i in range(12):  # by brute force, each clip left out of its prototype
        others = [j for j in range(12) if j // 6 == i // 6 and j != i]
        own.append(unit(points[i]) @ unit(unit(points[others]).mean(0)))
    heard = (unit(background) @ unit(head.prototypes).T).max(1)
    assert max(heard) < min(own)
    middle = (max(heard) + min(own)) / 2
    assert head.unknown / head.scale == pytest.approx(middle, abs=tolerances.PROTOTYPE_LOGITS)
    quiet = calibrate(support, np.empty((0, 3), np.float32), base, unknown=True)
    kept = np.mean(np.array(own) > quiet.unknown / quiet.scale)
    assert kept >= enrolment.KEPT - 1 / 12
    assert calibrate(support, background, base, unknown=False).unknown is None


def test_the_scale_makes_the_support_likeliest():
    rng = np.random.default_rng(1)
    points = (np.repeat(np.eye(4), 5, axis=0) + 0.4 * rng.normal(size=(20, 4))).astype(np.float32)
    support = Support(tuple("abcd"[i // 5] for i in range(20)), ("",) * 20, points)
    base = Base("euclidean", np.zeros(4, np.float32))
    head = calibrate(support, np.empty((0, 4)), base, unknown=False)

    def likelihood(scale: float) -> float:
        total = 0.0
        for i in range(20):
            means = [points[[j for j in range(20) if j // 5 == c and j != i]].mean(0) for c in range(4)]
            logits = -scale * np.array([np.square(points[i] - mean).sum() for mean in means])
            total += logits[i // 5] - logsumexp(logits)
        return total

    best = likelihood(head.scale)
    assert all(best >= likelihood(scale) for scale in (head.scale / 1.3, head.scale * 1.3))


def test_faults_are_one_sentence_and_nothing_is_written(clips, tmp_path):
    run = run_of(tmp_path / "run")
    first = enrol(run, some(clips, NAMES[:2]), tmp_path / "first")
    output = tmp_path / "new"
    silent = tmp_path / "silent.wav"
    sf.write(silent, np.zeros(48_000), 16_000)
    mute = dataclasses.replace(clips.clips[0], path=silent, labels=("mute",))
    with pytest.raises(UserError, match="No clip of 'mute' can be learnt from"):
        enrol(run, dataclasses.replace(clips, clips=(*some(clips, NAMES[:2]).clips, mute)), output)
    with pytest.raises(UserError, match=r"is a class of .* already"):
        enrol(first, some(clips, NAMES[1:3]), output)
    with pytest.raises(UserError, match="--remove must name classes"):
        enrol(first, None, output, remove=["ghost"])
    with pytest.raises(UserError, match="Two or more classes"):
        enrol(run, some(clips, NAMES[:1]), output, unknown=False)
    save_file({"embeddings": np.zeros((10, 7), np.float32)}, first.path / "support.safetensors")
    with pytest.raises(UserError, match="must hold 10 embeddings of width"):
        enrol(first, some(clips, NAMES[2:3]), output)
    with pytest.raises(UserError, match="reads frames"):
        enrol(run_of(tmp_path / "sed", head="sed"), some(clips, NAMES[:2]), output)
    with pytest.raises(UserError, match="learnt distance"):
        enrol(run_of(tmp_path / "l", head="prototypes", distance="learnt"), some(clips, NAMES[:2]), output)
    assert not output.exists()
