"""The score of a clip with several windows: by hand, and equal in validation, evaluate, ensembles and teachers."""

import dataclasses
from pathlib import Path

import keras
import numpy as np
import pytest
import soundfile as sf
import tolerances
import torch
from scipy.special import expit, softmax

from birdnet_fs import schema
from birdnet_fs.data.manifest import Clip
from birdnet_fs.data.targets import clip_targets
from birdnet_fs.data.waveforms import Waveforms
from birdnet_fs.data.windows import clip_rule
from birdnet_fs.inference.activations import ACTIVATIONS, tensor_mean_logits
from birdnet_fs.inference.clips import BATCH, mean_over_windows, score_clips, score_waveforms
from birdnet_fs.inference.engine import network_features
from birdnet_fs.inference.ensemble import EnsembleMember, ensemble_engine
from birdnet_fs.inference.open import open_engine
from birdnet_fs.metrics import classification
from birdnet_fs.metrics.auroc import macro_auroc
from birdnet_fs.runs.run import build_network, model_weights, save_run
from birdnet_fs.training.validation import supervised_validation

SPEC = schema.FrontEnd(
    sample_rate_hz=8_000, segment_s=0.5, n_fft=256, win_length=256, hop_length=128, n_mels=16, fmax_hz=4_000.0
)
CLASSES = ("a", "b", "c")
RULE = clip_rule(SPEC.n_samples, SPEC.sample_rate_hz)
RNG = np.random.default_rng(0)
KERNEL = RNG.normal(0, 0.2, (SPEC.n_samples, 3)).astype(np.float32)
CLIPS = [RNG.uniform(-1, 1, n).astype(np.float32) for n in (1000, 4000, 4001, 9000, 4000 + 2000 * (BATCH + 3))]


def plain(logits: np.ndarray, activation: str) -> np.ndarray:
    return expit(logits) if activation == "sigmoid" else softmax(logits, axis=1)


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_a_clip_has_the_mean_probability_of_its_windows(activation: str) -> None:
    sizes = []

    def logits_of(windows: np.ndarray) -> np.ndarray:
        sizes.append(len(windows))
        return windows @ KERNEL

    found = score_waveforms(logits_of, iter(CLIPS), rule=RULE, activation=activation)
    assert found.dtype == np.float32 and max(sizes) == BATCH
    for row, clip in zip(found, CLIPS, strict=True):
        windows = RULE.cut(clip)
        each = [plain((window[None] @ KERNEL).astype(np.float64), activation)[0] for window in windows]
        np.testing.assert_allclose(row, np.mean(each, axis=0), atol=tolerances.ACTIVATION)
        if len(windows) > 2:  # another rule would be seen: the activation of the mean logit
            of_mean = plain((windows @ KERNEL).mean(0, keepdims=True).astype(np.float64), activation)[0]
            assert np.abs(row - of_mean).max() > 100 * tolerances.ACTIVATION


def test_mean_over_windows_is_by_clip() -> None:
    p = RNG.random((9, 4)).astype(np.float32)
    found = mean_over_windows(p, [2, 1, 6])
    wanted = [p[:2].astype(float).mean(0), p[2].astype(float), p[3:].astype(float).mean(0)]
    np.testing.assert_allclose(found, wanted, rtol=tolerances.FLOAT64_SUMS)


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_a_shorter_member_and_a_teacher_follow_the_same_rule(activation: str) -> None:
    """A segment of 2.25 windows, through an ensemble of one network, as a clip, and as a teacher's windows."""
    longer = dataclasses.replace(SPEC, segment_s=1.125)
    kernel = RNG.normal(0, 0.01, (SPEC.shape[0] * SPEC.n_mels, 3))

    def network(features: np.ndarray) -> np.ndarray:
        return (features.reshape(len(features), -1)[:, : len(kernel)] @ kernel).astype(np.float32)

    def logits_of(windows: np.ndarray) -> np.ndarray:
        return network(network_features(windows, SPEC))

    members = [EnsembleMember(spec, activation, np.arange(3), network) for spec in (SPEC, longer)]
    engine = ensemble_engine(members, CLASSES, how="mean", identity="x")
    clip = CLIPS[3]
    whole = plain(network(network_features(clip[None], longer)).astype(np.float64), activation)[0]
    ours = score_waveforms(logits_of, [clip], rule=RULE, activation=activation)[0]
    found = engine.probabilities(clip[None])[0]
    np.testing.assert_allclose(found, (whole + ours) / 2, atol=tolerances.ENSEMBLE_PROBABILITIES)
    windows = torch.from_numpy(logits_of(RULE.cut(clip)))[None]
    taught = plain(tensor_mean_logits(windows, activation).numpy().astype(np.float64), activation)[0]
    np.testing.assert_allclose(taught, ours, atol=tolerances.ENSEMBLE_PROBABILITIES)


@pytest.mark.parametrize("multi_label", [False, True])
def test_validation_scores_clips_as_evaluate_does(tmp_path: Path, multi_label: bool, monkeypatch) -> None:
    """Bit for bit, in every epoch: the network of a training and the run that is saved of it give the same numbers."""
    paths = [tmp_path / f"{i}.wav" for i in range(len(CLIPS))]
    for path, clip in zip(paths, CLIPS, strict=True):
        sf.write(path, clip, SPEC.sample_rate_hz, subtype="FLOAT")
    clips = [Clip(path, labels=(CLASSES[i % 3],)) for i, path in enumerate(paths)]
    experiment = schema.Experiment(
        data=schema.Data(multi_label=multi_label), frontend=SPEC, model=schema.Model(name="cnn/tiny")
    )
    keras.utils.set_random_seed(0)
    model = build_network(experiment, n_classes=3)
    seen = []
    true_loss = classification.log_loss
    monkeypatch.setattr(classification, "log_loss", lambda t, s, **k: seen.append(s) or true_loss(t, s, **k))
    waveforms = Waveforms(clips, SPEC.sample_rate_hz)
    targets = clip_targets(clips, CLASSES, multi_label=multi_label)
    validate = supervised_validation(model, waveforms, targets, experiment, CLASSES)
    for epoch in range(2):
        row = validate()
        run = save_run(tmp_path / f"run{epoch}", experiment, CLASSES, model_weights(model))
        scored = score_clips(open_engine(run.path), clips)
        np.testing.assert_array_equal(seen[-1], scored.probabilities)
        assert row["val_loss"] == true_loss(targets, scored.probabilities, multi_label=multi_label)
        assert row["val_macro_auroc"] == macro_auroc(targets, scored.probabilities).value
        for variable in model.weights:  # an epoch moves weights and BatchNorm's statistics alike
            if "seed_generator" not in variable.path:
                variable.assign(variable.value * 1.5 + 0.01)
    assert np.abs(seen[0] - seen[1]).max() > 1e-3
