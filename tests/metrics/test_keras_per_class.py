"""PerClassAccuracy inside and outside `fit`, on both backends, against scikit-learn."""

import json

import keras
import numpy as np
import preloaded
import pytest
from sklearn.metrics import recall_score

from birdnet_fs.core.errors import UserError
from birdnet_fs.metrics.keras_per_class import PerClassAccuracy

FIT = """
import numpy as np, keras, tempfile, json
from sklearn.metrics import recall_score
from birdnet_fs.metrics.keras_per_class import PerClassAccuracy

assert keras.backend.backend() == {backend!r}
keras.utils.set_random_seed(0)
rng = np.random.default_rng(0)
x = rng.standard_normal((90, 6)).astype("float32")
y = np.where(x[:, 0] + rng.standard_normal(90) > 0.5, 1, np.where(x[:, 1] > 0.3, 2, 0))  # nobody has class 3
names = ["K1", "K3", "noise", "K27"]
runs = [dict(), dict(run_eagerly=True)] + [dict(jit_compile=True)] * (keras.backend.backend() == "tensorflow")
for options in runs:
    for labels, loss in ((y, "sparse_categorical_crossentropy"), (np.eye(4)[y], "categorical_crossentropy")):
        model = keras.Sequential([keras.Input((6,)), keras.layers.Dense(4, activation="softmax")])
        metric = PerClassAccuracy(4, classes=names)
        model.compile(optimizer=keras.optimizers.SGD(0.5), loss=loss, metrics=[metric], **options)
        stop = keras.callbacks.EarlyStopping("val_mean_per_class_accuracy", mode="max")
        history = model.fit(
            x, labels, validation_data=(x[:37], labels[:37]), epochs=2, batch_size=16, verbose=0, callbacks=[stop]
        ).history
        predicted = model.predict(x[:37], verbose=0).argmax(1)
        expected = recall_score(y[:37], predicted, average=None, labels=[0, 1, 2])
        found = [history[f"val_per_class_accuracy/{{name}}"][-1] for name in names]
        # Keras gives Python floats of its float64 tensors
        assert found[:3] == expected.tolist() and np.isnan(found[3]), (found, expected)
        assert abs(history["val_mean_per_class_accuracy"][-1] - expected.mean()) < 1e-15
        assert np.array_equal(metric.per_class()[:3], expected)
with tempfile.TemporaryDirectory() as folder:
    model.save(folder + "/m.keras")
    again = keras.models.load_model(folder + "/m.keras")
    found = again.evaluate(x[:37], labels[:37], batch_size=8, verbose=0, return_dict=True)
    assert found["per_class_accuracy/noise"] == expected[2], found
"""


@pytest.mark.parametrize("backend", ["torch", "tensorflow"])
def test_fit_evaluate_and_a_saved_model_give_what_sklearn_gives(backend):
    done = preloaded.run_python(["-c", FIT.format(backend=backend)], backend=backend)
    assert done.returncode == 0, done.stderr[-3000:]


def test_batches_add_up_with_weights_and_are_forgotten_on_reset():
    rng = np.random.default_rng(1)
    y, scores, weights = rng.integers(0, 3, 50), rng.standard_normal((50, 3)), rng.integers(1, 5, 50)
    metric = PerClassAccuracy(3)
    for rows in (slice(0, 20), slice(20, 50)):
        metric.update_state(y[rows, None], scores[rows].astype("float32"), sample_weight=weights[rows])
    expected = recall_score(y, scores.argmax(1), average=None, sample_weight=weights)
    np.testing.assert_array_equal(metric.per_class(), expected)
    metric.reset_state()
    assert np.isnan(metric.per_class()).all() and np.isnan(float(metric.result()["mean_per_class_accuracy"]))


def test_counts_are_exact_beyond_the_integers_of_float32():
    metric = PerClassAccuracy(2)
    metric.update_state([0], [[1.0, 0.0]], sample_weight=[2.0**24])
    for _ in range(3):
        metric.update_state([0], [[0.0, 1.0]])
    assert metric.per_class()[0] == 2**24 / (2**24 + 3)


@pytest.mark.parametrize("y", [[0, 3], [0, -1], [0, 1.5], [0, np.nan]])
def test_a_class_number_out_of_range_makes_all_values_undefined(y):
    metric = PerClassAccuracy(3)
    metric.update_state(np.array(y), np.eye(3)[:2])
    assert all(np.isnan(float(value)) for value in metric.result().values())
    with pytest.raises(UserError, match="1 rows had a class number that is no whole number from 0 to 2"):
        metric.per_class()


def test_scores_that_are_not_a_number_make_all_values_undefined():
    metric = PerClassAccuracy(2)
    metric.update_state([0, 1], [[np.nan, 1.0], [0.0, 1.0]])
    with pytest.raises(UserError, match="or scores that hold NaN"):
        metric.per_class()


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: PerClassAccuracy(1), "num_classes must be a whole number of 2 or more. Received: 1"),
        (lambda: PerClassAccuracy(2.0), "Received: 2.0"),
        (lambda: PerClassAccuracy(2, ["a", "a"]), "must be num_classes .2. different names"),
        (lambda: PerClassAccuracy(3, ["a", "b"]), "must be num_classes .3. different names"),
        (lambda: PerClassAccuracy(3).update_state([0], [[0.1, 0.2]]), r"y_pred must be .batch, 3. .* .1, 2."),
        (lambda: PerClassAccuracy(3).update_state([[0, 1]], [[0.1, 0.2, 0.3]]), r"y_true must be class numbers"),
    ],
)
def test_arguments_that_do_not_fit_are_refused(call, says):
    with pytest.raises(UserError, match=says):
        call()


def test_config_round_trip():
    metric = PerClassAccuracy(3, ["a", "b", "c"], name="recall")
    again = keras.metrics.deserialize(json.loads(json.dumps(keras.metrics.serialize(metric))))
    assert (again.name, again.num_classes, again.classes) == ("recall", 3, ["a", "b", "c"])
    assert list(again.result()) == ["recall/a", "recall/b", "recall/c", "mean_recall"]
