"""`fit_head`: what is chosen on folds, what is said, and what the weights give in Keras."""

import dataclasses

import numpy as np
import pytest
import tolerances
from embedded_clips import embedded_clips, head_experiment
from sklearn.linear_model import LogisticRegression

from birdnet_fs.core.errors import UserError
from birdnet_fs.models.heads.on_embedding import build_encoder_head
from birdnet_fs.schema import Loss, Training
from birdnet_fs.training.encoder_heads import HeadData, fit_head

CLASSES = ("owl", "rook", "wren")
EXACT = ("linear", "prototypes", "cosine")  # fitted to the end: any order of the rows gives the same
HEADS = (*EXACT, "probe", "mlp")


def keras_logits(fitted, data: HeadData) -> np.ndarray:
    network = build_encoder_head(fitted.model, data.input_shape, len(CLASSES))
    wanted = {v.path: v for v in network.weights if "seed_generator" not in v.path}
    assert set(wanted) == set(fitted.weights)
    for path, variable in wanted.items():
        assert fitted.weights[path].dtype == np.float32
        variable.assign(fitted.weights[path])
    return np.asarray(network.predict_on_batch(data.features))


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("multi_label", [False, True])
def test_other_clips_of_the_classes_are_recognized(head, multi_label):
    data = embedded_clips(multi_label=multi_label)
    fitted = fit_head(data, head_experiment(head, multi_label=multi_label), CLASSES)
    logits = keras_logits(fitted, data)
    truth = data.targets[data.clip]
    right = (logits > 0) == truth if multi_label else logits.argmax(1) == truth.argmax(1)
    assert right.mean() > 0.9
    row = fitted.history[-1]
    assert (len(fitted.history) == 1) is (head != "mlp")  # by gradient: a row for each epoch
    assert row["train_macro_auroc"] > 0.95 and ("train_acc" in row) is not multi_label
    assert fitted.model.head == head and fitted.model.encoder_head.transform == "sqrt"


@pytest.mark.parametrize("multi_label", [False, True])
def test_given_regularization_is_logistic_regression_of_scikit_learn(multi_label):
    """But for the calibration: a factor of all logits and, of classes that are problems of their own, a shift each."""
    data = embedded_clips(multi_label=multi_label)
    fitted = fit_head(data, head_experiment("linear", multi_label=multi_label, l2=0.01, transform="none"), CLASSES)
    assert fitted.choices == {}
    center, scale = fitted.weights["embedding/center"], fitted.weights["embedding/scale"]
    x = (data.features - center) * scale
    rows = np.concatenate([x, [x[data.clip == i].mean(0) for i in range(data.n_clips)]])
    n_windows = np.bincount(data.clip)[data.clip]
    weights = np.concatenate([1 / n_windows / 60, np.full(30, 1 / 60)])
    targets = np.concatenate([data.targets[data.clip], data.targets])
    model = LogisticRegression(C=100, tol=1e-8, max_iter=5000, fit_intercept=not multi_label)
    if multi_label:
        expected = np.stack([model.fit(rows, t, weights).decision_function(x) for t in targets.T], 1)
    else:
        expected = model.fit(rows, targets.argmax(1), weights).decision_function(x)
    axis = 0 if multi_label else 1
    found, expected = (a - a.mean(axis, keepdims=True) for a in (keras_logits(fitted, data), expected))
    factor = (found * expected).sum() / np.square(expected).sum()
    assert factor > 0
    np.testing.assert_allclose(found, factor * expected, atol=tolerances.LOGISTIC * 10 * max(1, factor))


@pytest.mark.parametrize("head", EXACT)
def test_duplicated_windows_do_not_change_the_head(head):
    data = embedded_clips()
    rows = np.repeat(np.arange(len(data.clip)), np.where(data.clip < 10, 3, 1))
    twice = dataclasses.replace(data, features=data.features[rows], clip=data.clip[rows])
    one, two = (fit_head(each, head_experiment(head), CLASSES) for each in (data, twice))
    np.testing.assert_allclose(keras_logits(one, data), keras_logits(two, data), atol=tolerances.CALIBRATED * 10)


@pytest.mark.parametrize("head", EXACT)
def test_unknown_targets_change_no_other_class(head):
    data = embedded_clips(multi_label=True)
    given = head_experiment(head, multi_label=True, l2=0.01)
    given = dataclasses.replace(given, model=dataclasses.replace(given.model, logit_scale=10 * (head != "linear")))
    before = keras_logits(fit_head(data, given, CLASSES), data)
    data.targets[::2, 1] = -1
    after = keras_logits(fit_head(data, given, CLASSES), data)
    for c in (0, 2):  # but for the calibration, which has one factor for all classes
        assert np.corrcoef(after[:, c], before[:, c])[0, 1] > 1 - 1e-6
    assert np.corrcoef(after[:, 1], before[:, 1])[0, 1] < 1 - 1e-4


def test_auto_compares_every_head_that_fits_and_says_by_how_much():
    fitted = fit_head(embedded_clips(), head_experiment("auto"), CLASSES)
    tried = {row["head"] for row in fitted.choices["candidates"]}
    assert tried == set(HEADS) and fitted.model.head in tried
    assert set(fitted.choices["better_by"]) == tried - {fitted.model.head}
    assert f"model.head={fitted.model.head}" in fitted.remarks[-1] and "grouped folds" in fitted.remarks[-1]
    logits = keras_logits(fitted, embedded_clips())
    assert (logits.argmax(1) == embedded_clips().targets[embedded_clips().clip].argmax(1)).mean() > 0.9


def test_tokens_are_attended_to_where_only_they_carry_the_class():
    """The class is the sign of one token, whose mean over time is 0."""
    random = np.random.default_rng(0)
    labels = np.arange(60) % 3
    tokens = random.normal(scale=0.05, size=(60, 6, 8)).astype(np.float32)
    for i, label in enumerate(labels):
        tokens[i, 2 * label, 0] += 3
        tokens[i, 2 * label + 1, 0] -= 3
        tokens[i, 2 * label, 1 + label] += 3
        tokens[i, 2 * label + 1, 1 + label] -= 3
    data = HeadData(tokens, np.arange(60), np.eye(3, dtype=np.float32)[labels], [str(i) for i in range(60)])
    fitted = fit_head(data, head_experiment("attentive", transform="none"), CLASSES)
    assert (keras_logits(fitted, data).argmax(1) == labels).mean() > 0.9
    linear = fit_head(data, head_experiment("linear", transform="none"), CLASSES)
    held = [min(row["log_loss"] for row in each.choices["candidates"]) for each in (linear,)]
    assert held[0] > 0.9  # log 3 = 1.1: nothing is learned from the mean


def test_regularization_is_chosen_and_said():
    fitted = fit_head(embedded_clips(), head_experiment("linear"), CLASSES)
    rows = fitted.choices["candidates"]
    best = min(rows, key=lambda row: row["log_loss"])
    assert fitted.model.encoder_head.l2 == best["l2"] and len(rows) == 5


def test_absent_classes_and_single_groups_are_said():
    data = embedded_clips()
    data.targets[:, 2] = 0
    kept = data.part(np.flatnonzero(data.targets.any(1)))
    kept = dataclasses.replace(kept, groups=["one"] * kept.n_clips)
    for head in HEADS:
        fitted = fit_head(kept, head_experiment(head), CLASSES)
        assert "No training clip has the label wren" in fitted.remarks[0]
        assert "No group of recordings can be held out" in fitted.remarks[1]
        logits = keras_logits(fitted, kept)
        assert (logits.argmax(1) < 2).all() and np.isfinite(logits).all()


def test_equal_embeddings_give_equal_scores():
    data = dataclasses.replace(embedded_clips(), features=np.zeros_like(embedded_clips().features))
    for head in HEADS:
        logits = keras_logits(fit_head(data, head_experiment(head), CLASSES), data)
        assert np.isfinite(logits).all() and np.ptp(logits, axis=0).max() == 0


def test_what_cannot_be_fitted_is_refused():
    data = embedded_clips()
    with pytest.raises(UserError, match=r"set training\.loss=auto"):
        experiment = dataclasses.replace(head_experiment("linear"), training=Training(loss=Loss("focal")))
        fit_head(data, experiment, CLASSES)
    with pytest.raises(UserError, match=r"transform=sqrt needs embeddings of 0 or more"):
        negative = dataclasses.replace(data, features=-data.features)
        fit_head(negative, head_experiment("linear", transform="sqrt"), CLASSES)
