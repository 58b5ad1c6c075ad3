"""ClassWiseAUC inside and outside `fit`, on both backends, against scikit-learn."""

import json
import warnings

import keras
import numpy as np
import preloaded
import pytest
import tolerances
import torch
from sklearn.metrics import roc_auc_score

from birdnet_fs.core.errors import UserError
from birdnet_fs.metrics.keras_auroc import ClassWiseAUC

SET_UP = """
import numpy as np, keras
from sklearn.metrics import roc_auc_score
from birdnet_fs.metrics.keras_auroc import ClassWiseAUC

assert keras.backend.backend() == {backend!r}
keras.utils.set_random_seed(0)
rng = np.random.default_rng(0)
x = rng.standard_normal((90, 6)).astype("float32")
y = (x[:, :4] + rng.standard_normal((90, 4)) > 0.7).astype("float32")

def compiled(auc, n_outputs=4, loss="binary_crossentropy", **options):
    model = keras.Sequential([keras.Input((6,)), keras.layers.Dense(n_outputs, activation="sigmoid")])
    model.compile(optimizer="sgd", loss=loss, metrics=[auc], **options)
    return model

def evaluated(model, x, y):
    return model.evaluate(x, y, batch_size=8, verbose=0, return_dict=True)["auc"]

def close(found, expected):
    assert np.abs(np.array(found) - expected).max() < {tolerance}, (found, expected)
"""

FIT = """
x_val, y_val = x[:37], y[:37]
for options in (dict(), dict(run_eagerly=True)):
    auc = ClassWiseAUC()
    model = compiled(auc, **options)
    history = model.fit(x, y, validation_data=(x_val, y_val), epochs=2, batch_size=16, verbose=0).history
    assert len(history["auc"]) == 2 and 0.3 < history["auc"][0] < 1, history
    expected = roc_auc_score(y_val, model.predict(x_val, verbose=0), average="macro")
    close([history["val_auc"][-1], evaluated(model, x_val, y_val), np.mean(auc.per_class())], expected)
"""

ONE_OUTPUT = """
for labels in (y[:, 0], y[:, :1], y[:, 0].astype(int)):
    model = compiled(ClassWiseAUC(), 1)
    expected = roc_auc_score(labels, model.predict(x, verbose=0)[:, 0])
    assert abs(expected - 0.5) > 0.01  # else its opposite would pass
    close(evaluated(model, x, labels), expected)
"""

# the loss takes class numbers as they come, so that the metric is the one that refuses them
CLASS_NUMBERS = """
numbers = np.arange(90) % 4
for labels in (numbers[:, None], numbers):
    model = compiled(ClassWiseAUC(), 4, loss=lambda y_true, y_pred: keras.ops.mean(y_pred, axis=-1))
    expected = np.mean([roc_auc_score(numbers == c, model.predict(x, verbose=0)[:, c]) for c in range(4)])
    close(evaluated(model, x, labels), expected)
numbers[50] = 4
try:
    model.fit(x, numbers, verbose=0)
except Exception as error:
    assert "class numbers must be whole numbers from 0 to 3" in str(error) and "Received: 4" in str(error), error
else:
    raise AssertionError("class 4 of 4 was accepted")
model.fit(x, numbers % 4, verbose=0)  # the metric can be used again
"""

FLOAT64 = """
model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1, dtype="float64")])
model.set_weights([np.array([[2.0**-50]]), np.array([1.0])])  # the scores are 1 and 1 + 2**-50
model.compile(loss="mse", metrics=[ClassWiseAUC()])
rows = np.array([[0.0], [1.0]])
assert [evaluated(model, rows, np.array(labels)) for labels in ([0.0, 1.0], [1.0, 0.0])] == [1, 0]
"""


def run_with(backend: str, code: str) -> None:
    """Run SET_UP and `code` in a process of its own, since a process has one Keras backend."""
    code = SET_UP.format(backend=backend, tolerance=tolerances.FLOAT32_LOG) + code
    done = preloaded.run_python(["-c", code], backend=backend)
    assert done.returncode == 0, done.stderr[-3000:]


@pytest.mark.parametrize("backend", ["torch", "tensorflow"])
def test_fit_and_evaluate_give_what_sklearn_gives(backend):
    """One process for all, since importing a backend takes longer than they do."""
    run_with(backend, FIT + ONE_OUTPUT + CLASS_NUMBERS + FLOAT64)


def test_xla_is_refused_before_the_first_batch_with_the_way_out():
    run_with(
        "tensorflow",
        """
auc = ClassWiseAUC()
model = compiled(auc, jit_compile=True)
for call in (model.fit, model.evaluate):
    try:
        call(x, y, verbose=0)
    except ValueError as error:
        assert "pass jit_compile=False to model.compile" in str(error), error
    else:
        raise AssertionError("XLA was accepted")
assert int(model.optimizer.iterations) == 0
model.compile(optimizer="sgd", loss="binary_crossentropy", metrics=[auc], jit_compile=False)
model.fit(x, y, verbose=0)
close(evaluated(model, x, y), roc_auc_score(y, model.predict(x, verbose=0)))
""",
    )


@pytest.fixture
def auc():
    return ClassWiseAUC(classes=["a", "b", "c"])


def test_batches_add_up_and_are_forgotten_on_reset(auc):
    rng = np.random.default_rng(1)
    targets = (rng.random((50, 3)) < 0.4).astype("float32")
    scores = np.round(rng.random((50, 3)), 1).astype("float32")
    assert float(auc.result()) == 0
    for start in (0, 20, 30):
        stop = {0: 20, 20: 30, 30: 50}[start]
        auc.update_state(targets[start:stop], scores[start:stop])
        float(auc.result())
    expected = roc_auc_score(targets, scores, average=None)
    np.testing.assert_allclose(auc.per_class(), expected, rtol=0, atol=tolerances.EXACT_METRIC)
    assert float(auc.result()) == pytest.approx(expected.mean(), abs=tolerances.EXACT_METRIC)
    auc.reset_state()
    assert float(auc.result()) == 0


def test_the_batch_is_copied(auc):
    scores = np.array([[0.1] * 3, [0.9] * 3], dtype="float32")
    auc.update_state(np.array([[0] * 3, [1] * 3]), scores)
    scores[:] = scores[::-1].copy()
    assert float(auc.result()) == 1


def test_update_state_is_exact_inside_torch_compile(auc):
    @torch.compile(backend="eager")
    def step(targets, scores):
        auc.update_state(targets, scores * 1)
        return auc.result()

    rng = np.random.default_rng(2)
    targets, scores = (rng.random((40, 3)) < 0.4).astype("float32"), rng.random((40, 3)).astype("float32")
    for stop in (20, 40):
        batch = slice(stop - 20, stop)
        found = step(torch.from_numpy(targets[batch]), torch.from_numpy(scores[batch]))
    assert float(found) == pytest.approx(roc_auc_score(targets, scores), abs=tolerances.EXACT_METRIC)


def test_class_numbers_stand_for_one_hot(auc):
    auc.update_state(np.array([0, 1, 2, 0]), np.eye(3)[[0, 1, 2, 1]])
    np.testing.assert_allclose(auc.per_class(), [0.75, 5 / 6, 1.0])


@pytest.mark.parametrize("numbers", [[0, 1, 5], [0, 1, -1], [[0], [1], [3]], [0, 1, 1.5], [0, 1, np.nan]])
def test_class_numbers_out_of_range_are_refused_and_not_kept(auc, numbers):
    with pytest.raises(UserError, match=r"class numbers must be whole numbers from 0 to 2.*Received: "):
        auc.update_state(numbers, np.eye(3))
    assert float(auc.result()) == 0
    auc.update_state([0, 1, 2], np.eye(3))
    assert float(auc.result()) == 1


@pytest.mark.parametrize("true_shape", [(4,), (4, 1)])
@pytest.mark.parametrize("score_shape", [(4,), (4, 1)])
def test_one_output_takes_targets_in_a_row_or_in_a_column(true_shape, score_shape):
    one = ClassWiseAUC(classes=["a"])
    one.update_state(np.reshape([0, 1, 0, 1], true_shape), np.reshape([0.1, 0.9, 0.2, 0.8], score_shape))
    assert float(one.result()) == 1
    with pytest.raises(UserError, match="targets must be 0 or 1"):
        one.update_state(np.reshape([0, 1, 2, 1], true_shape), np.zeros(score_shape))


def test_float64_scores_are_kept_also_in_lists(auc):
    higher = 1 + 2.0**-52
    auc.update_state([[0] * 3, [1] * 3], [[1.0] * 3, [higher] * 3])
    assert float(auc.result()) == 1
    auc.update_state(np.zeros((1, 3)), np.full((1, 3), higher))
    assert float(auc.result()) == 0.75


def test_bfloat16_scores_are_exact(auc):
    scores = torch.tensor([[1.0] * 3, [1 + 2**-7] * 3], dtype=torch.bfloat16)
    auc.update_state(np.array([[0] * 3, [1] * 3]), scores)
    assert float(auc.result()) == 1


def test_a_mean_of_no_class_is_not_a_number(auc):
    auc.update_state(np.zeros((2, 3)), np.eye(2, 3))
    assert np.isnan(float(auc.result()))
    auc.update_state(np.ones((2, 3)), np.full((2, 3), 2.0))
    assert float(auc.result()) == 1


@pytest.mark.parametrize(
    "y_true,y_pred,says",
    [
        (np.zeros((4, 2)), np.zeros((4, 3)), r"\(4, 2\) beside y_pred of \(4, 3\)"),
        (np.zeros((1, 3)), np.zeros((3, 3)), r"\(1, 3\) beside"),
        (np.zeros((2, 2, 3)), np.zeros((2, 2, 3)), r"y_pred must be .* Received: \(2, 2, 3\)"),
        (np.zeros((2, 2)), np.zeros((2, 2)), "y_pred has 2 classes but classes names 3"),
        (np.zeros((2, 3)), np.full((2, 3), np.nan), "class 0 holds NaN"),
    ],
)
def test_a_batch_that_does_not_fit_is_refused_and_not_kept(auc, y_true, y_pred, says):
    with pytest.raises(UserError, match=says):
        auc.update_state(y_true, y_pred)
    auc.reset_state()
    assert float(auc.result()) == 0


def test_batches_of_other_widths_are_refused():
    auc = ClassWiseAUC()
    auc.update_state(np.eye(3), np.eye(3))
    with pytest.raises(UserError, match="y_pred has 2 classes but earlier batches have 3"):
        auc.update_state(np.eye(2), np.eye(2))
    assert float(auc.result()) == 1


def test_skipped_classes_are_named_once(auc):
    targets = np.array([[0, 1, 0], [1, 1, 0]])
    for _ in range(2):
        auc.update_state(targets, np.array([[0.1, 0.2, 0.3], [0.4, 0.5, 0.6]]))
    with pytest.warns(UserWarning, match="leaves out 2 of 3 classes.*: b, c"):
        assert auc.skipped() == (1, 2)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert float(auc.result()) == 1
        auc.reset_state()


def test_weights_and_soft_targets_are_refused(auc):
    with pytest.raises(UserError, match="sample weights"):
        auc.update_state(np.eye(3), np.eye(3), sample_weight=np.ones(3))
    with pytest.raises(UserError, match="label smoothing"):
        auc.update_state(np.eye(3) * 0.9, np.eye(3))


def test_config_round_trip(auc):
    config = json.loads(json.dumps(keras.metrics.serialize(auc)))
    again = keras.metrics.deserialize(config)
    assert (again.name, again.classes, again.dtype) == ("auc", ["a", "b", "c"], auc.dtype)
    assert ClassWiseAUC.from_config(ClassWiseAUC(name="area").get_config()).get_config()["name"] == "area"


def test_mixed_labels_are_refused_or_counted_from_a_limit() -> None:
    targets, scores = np.array([[0.7, 0.3], [0.0, 1.0], [0.5, 0.5]]), np.array([[0.9, 0.8], [0.1, 0.7], [0.6, 0.2]])
    with pytest.raises(UserError, match=r"mixup or label smoothing .* ClassWiseAUC\(positive_from=0\.5\)"):
        ClassWiseAUC().update_state(targets, scores)
    metric = ClassWiseAUC(positive_from=0.5)
    metric.update_state(targets, scores)
    hard = targets >= 0.5
    assert float(metric.result()) == pytest.approx(roc_auc_score(hard, scores), abs=tolerances.EXACT_METRIC)
    again = ClassWiseAUC.from_config(metric.get_config())
    assert again.positive_from == 0.5
    for wrong in ([[-1.0, 0.0]], [[2.0, 0.0]]):
        with pytest.raises(UserError, match="targets must be 0 or 1"):
            metric.update_state(np.array(wrong), np.array([[0.1, 0.2]]))
    for wrong in (0.0, 1.5):
        with pytest.raises(UserError, match="positive_from must be None, or above 0 and up to 1"):
            ClassWiseAUC(positive_from=wrong)
