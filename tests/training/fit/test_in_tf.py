"""`fit` on the tensorflow backend, in a process of its own, against the package's batches in this one."""

import json
from pathlib import Path

import numpy as np
import preloaded
import pytest
import tolerances
from fit_recorder import CHANGES, arrays, assert_same, experiment
from installed import need

from birdnet_fs.runs.run import load_run
from birdnet_fs.training.fit.batches import ArrayBatches
from birdnet_fs.training.fit.data import fit_data

HELPERS = Path(__file__).parents[2] / "helpers"


@pytest.fixture(scope="module")
def out(recordings: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    need("tensorflow")
    folder = tmp_path_factory.mktemp("on_tensorflow")
    done = preloaded.run_python([HELPERS / "fit_on_tensorflow.py", recordings, folder])
    assert done.returncode == 0, done.stderr[-3000:]
    return folder


def seen(out: Path, name: str) -> list[tuple[np.ndarray, np.ndarray]]:
    with np.load(out / "seen.npz") as found:
        n = len({key.split("/")[1] for key in found if key.startswith(f"{name}/")})
        return [(found[f"{name}/{i}/x"], found[f"{name}/{i}/y"]) for i in range(n)]


@pytest.mark.parametrize("workers", [0, 2])
def test_batches_of_three_epochs_are_those_of_the_package(workers: int, out: Path, recordings: Path) -> None:
    """Decoding, segments, labels, augmentation, mixup and sampling, to the last bit."""
    batches = fit_data(experiment(recordings, *CHANGES)).batches
    expected = [arrays(batches, epoch) for epoch in range(3)]
    assert_same(seen(out, str(workers)), [batch for epoch in expected for batch in epoch])
    assert (expected[0][0][0] != expected[1][0][0]).any()


@pytest.mark.parametrize("prefetch", [0, 2, 50])
def test_batches_made_ahead_are_those_of_their_epochs(prefetch: int, out: Path) -> None:
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(22, 3, 2, 1)).astype(np.float32), np.arange(22, dtype=np.float32)[:, None]
    batches = ArrayBatches(x, y, batch_size=5, seed=3)
    assert_same(seen(out, f"prefetch{prefetch}"), [b for epoch in (4, 5, 6) for b in arrays(batches, epoch)])


def test_run_fitted_on_tensorflow_gives_the_same_logits_on_torch(out: Path) -> None:
    with np.load(out / "seen.npz") as found:
        windows, logits = found["validation"], found["logits"]
    ours = load_run(out / "run").build_model().predict(windows, verbose=0)
    np.testing.assert_allclose(ours, logits, atol=tolerances.BACKENDS_LOGITS)
    assert np.ptp(logits) > 0


def test_refusals_name_the_remedy(out: Path) -> None:
    errors = json.loads((out / "about.json").read_text())["errors"]
    assert "on tensorflow use birdnet_fs.training.fit.in_tf.tf_dataset" in errors["keyed"]
    assert errors["first_epoch"] == "first_epoch must be 0 or more. Received: -1"
    assert "set KERAS_BACKEND=torch before Keras is imported" in errors["engine"]
