"""ClassWiseAUC inside and outside `fit`, on both backends, against scikit-learn."""

import os
import subprocess
import sys

import numpy as np
import pytest
import tolerances
from sklearn.metrics import roc_auc_score

FIT = """
import numpy as np, keras
from sklearn.metrics import roc_auc_score
from birdnet_fs.metrics.keras_auroc import ClassWiseAUC

assert keras.backend.backend() == {backend!r}
keras.utils.set_random_seed(0)
rng = np.random.default_rng(0)
x = rng.standard_normal((90, 6)).astype("float32")
y = (x[:, :4] + rng.standard_normal((90, 4)) > 0.7).astype("float32")
x_val, y_val = x[:37], y[:37]
model = keras.Sequential([keras.Input((6,)), keras.layers.Dense(4, activation="sigmoid")])
auc = ClassWiseAUC()
model.compile(optimizer="sgd", loss="binary_crossentropy", metrics=[auc])
history = model.fit(x, y, validation_data=(x_val, y_val), epochs=2, batch_size=16, verbose=0).history
assert len(history["auc"]) == 2 and 0.3 < history["auc"][0] < 1, history
expected = roc_auc_score(y_val, model.predict(x_val, verbose=0), average="macro")
found = [history["val_auc"][-1], model.evaluate(x_val, y_val, batch_size=8, verbose=0, return_dict=True)["auc"]]
assert np.abs(np.array(found) - expected).max() < {tolerance}, (found, expected)
assert abs(np.mean(auc.per_class()) - expected) < {tolerance}
"""


@pytest.mark.parametrize("backend", ["torch", "tensorflow"])
def test_fit_and_evaluate_give_what_sklearn_gives(backend):
    code = FIT.format(backend=backend, tolerance=tolerances.FLOAT32_LOG)
    environment = {**os.environ, "KERAS_BACKEND": backend, "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]


@pytest.fixture
def auc():
    from birdnet_fs.metrics.keras_auroc import ClassWiseAUC

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


def test_class_numbers_stand_for_one_hot(auc):
    auc.update_state(np.array([0, 1, 2, 0]), np.eye(3)[[0, 1, 2, 1]])
    np.testing.assert_allclose(auc.per_class(), [0.75, 5 / 6, 1.0])


def test_skipped_classes_are_named_once(auc):
    targets = np.array([[0, 1, 0], [1, 1, 0]])
    for _ in range(2):
        auc.update_state(targets, np.array([[0.1, 0.2, 0.3], [0.4, 0.5, 0.6]]))
    with pytest.warns(UserWarning, match="leaves out 2 of 3 classes.*: b, c"):
        assert auc.skipped() == (1, 2)
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert float(auc.result()) == 1
        auc.reset_state()


def test_weights_and_soft_targets_are_refused(auc):
    with pytest.raises(ValueError, match="sample weights"):
        auc.update_state(np.eye(3), np.eye(3), sample_weight=np.ones(3))
    with pytest.raises(ValueError, match="label smoothing"):
        auc.update_state(np.eye(3) * 0.9, np.eye(3))


def test_config_round_trip(auc):
    import keras

    again = keras.metrics.deserialize(keras.metrics.serialize(auc))
    assert (again.name, again.classes) == ("auc", ["a", "b", "c"])
