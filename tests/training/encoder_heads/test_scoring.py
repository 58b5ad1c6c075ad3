"""Calibration and scores of held-out clips, by brute force and against scikit-learn."""

import numpy as np
import pytest
import tolerances
from embedded_clips import embedded_clips
from scipy.special import expit, softmax
from sklearn.metrics import accuracy_score, log_loss, roc_auc_score

from birdnet_fs.training.encoder_heads.scoring import calibrate, held_out_score

RNG = np.random.default_rng(0)


def clip_probabilities(logits, data, multi_label):
    each = expit(logits) if multi_label else softmax(logits, axis=1)
    return np.stack([each[data.clip == i].mean(0) for i in range(data.n_clips)])


@pytest.mark.parametrize("multi_label", [False, True])
def test_scores_equal_scikit_learn(multi_label):
    data = embedded_clips(multi_label=multi_label)
    logits = 2 * data.targets[data.clip] - 1 + RNG.standard_normal((len(data.clip), 3))
    p, found = clip_probabilities(logits, data, multi_label), held_out_score(logits, data, multi_label=multi_label)
    assert found.macro_auroc == pytest.approx(roc_auc_score(data.targets, p, average="macro"))
    if multi_label:
        assert np.isnan(found.accuracy)
        each = [log_loss(data.targets[:, c], p[:, c]) for c in range(3)]
        assert found.log_loss == pytest.approx(np.mean(each))
    else:
        assert found.accuracy == accuracy_score(data.targets.argmax(1), p.argmax(1))
        assert found.log_loss == pytest.approx(log_loss(data.targets.argmax(1), p))


def test_unknown_targets_do_not_count():
    data = embedded_clips(multi_label=True)
    logits = 2 * data.targets[data.clip] - 1 + RNG.standard_normal((len(data.clip), 3))
    data.targets[::2, 1] = -1
    before = held_out_score(logits, data, multi_label=True)
    scale, shift = calibrate(logits, data, multi_label=True)
    logits[data.targets[data.clip][:, 1] < 0, 1] += 5 * RNG.standard_normal()
    after = held_out_score(logits, data, multi_label=True)
    assert (after.log_loss, after.macro_auroc) == (before.log_loss, before.macro_auroc)
    again = calibrate(logits, data, multi_label=True)
    assert again[0] == pytest.approx(scale, rel=tolerances.CALIBRATED)
    np.testing.assert_allclose(again[1], shift, atol=tolerances.CALIBRATED)


@pytest.mark.parametrize("factor", [0.02, 1.0, 50.0])
@pytest.mark.parametrize("multi_label", [False, True])
def test_calibration_minimizes_the_loss_of_the_clips(multi_label, factor):
    data = embedded_clips(multi_label=multi_label)
    logits = 2 * data.targets[data.clip] - 1 + RNG.standard_normal((len(data.clip), 3))
    scale, shift = calibrate(factor * logits, data, multi_label=multi_label)
    n = data.n_clips
    if multi_label:
        n_positives = data.targets.sum(0)
        wanted = np.where(data.targets > 0, (n_positives + 1) / (n_positives + 2), 1 / (n - n_positives + 2))
    else:
        wanted = np.where(data.targets > 0, (n + 1) / (n + 2), 1 / (n + 2) / 2)

    def cost(scale, shift):
        p = clip_probabilities(scale * factor * logits + shift, data, multi_label)
        return -(wanted * np.log(p) + multi_label * (1 - wanted) * np.log(1 - p)).sum()

    best = cost(scale, shift)
    assert best < min(cost(scale * 1.05, shift), cost(scale / 1.05, shift))
    for c in range(3 if multi_label else 0):
        step = 0.05 * np.eye(3)[c]
        assert best < min(cost(scale, shift + step), cost(scale, shift - step))
    assert multi_label or not shift.any()


def test_equal_logits_stay_as_they_are():
    data = embedded_clips()
    for multi_label in (False, True):
        scale, shift = calibrate(np.zeros((len(data.clip), 3)), data, multi_label=multi_label)
        assert scale == 1 and not shift.any()


@pytest.mark.parametrize("multi_label", [False, True])
def test_scale_can_be_kept(multi_label):
    data = embedded_clips(multi_label=multi_label)
    logits = 2 * data.targets[data.clip] - 1 + RNG.standard_normal((len(data.clip), 3))
    scale, shift = calibrate(5 * logits, data, multi_label=multi_label, keep_scale=True)
    assert scale == pytest.approx(1) and shift.any() == multi_label
