"""Heads as files."""

import numpy as np
import pytest
from safetensors.numpy import save_file

from birdnet_fs.core.errors import UserError
from birdnet_fs.motifs import boosting
from birdnet_fs.motifs.no_call.heads import fit_path, read_head, write_head

X = np.random.default_rng(0).normal(size=(80, 5)).astype(np.float32)
Y = X[:, 0] > 0


@pytest.mark.parametrize("kind", ["gbm", "logistic", "mlp"])
def test_a_stored_head_gives_the_same_probabilities(tmp_path, kind):
    path = fit_path(kind, X, Y)
    head = path.head(3)
    np.testing.assert_allclose(head.probabilities(X), path.probabilities(X)[2], rtol=1e-12)
    write_head(tmp_path / "head.txt", head)
    stored = read_head(tmp_path / "head.txt", kind)
    assert stored.width == 5
    assert np.array_equal(stored.probabilities(X), head.probabilities(X))


def test_damaged_heads_are_refused(tmp_path):
    file = tmp_path / "head.txt"
    file.write_text("tree\nversion=v4\nnum_class=1\n")
    with pytest.raises(UserError, match="not a text model of LightGBM"):
        read_head(file, "gbm").probabilities(X)
    file.write_bytes(b"\x80\x04pickle")
    for kind in ("gbm", "logistic"):
        with pytest.raises(UserError, match=rf"head.txt is not a stored {kind} head; copy it again"):
            read_head(file, kind)
    arrays = {"mean": np.zeros(5), "scale": np.ones(5), "weight_0": np.zeros((4, 1)), "bias_0": np.zeros(1)}
    for wrong, why in ((arrays, "do not fit"), (arrays | {"weight_0": np.full((5, 1), np.nan)}, "not finite")):
        save_file(wrong, file)
        with pytest.raises(UserError, match=why):
            read_head(file, "mlp")
    with pytest.raises(UserError, match="cannot be read"):
        read_head(tmp_path / "missing.txt", "gbm")
    with pytest.raises(UserError, match=r"must be one of gbm, logistic, mlp. Received: 'svm'"):
        fit_path("svm", X, Y)


def test_trees_on_few_rows_are_refused():
    with pytest.raises(UserError, match=r"Trees need 40 examples or more for training. Received: 39"):
        fit_path("gbm", X[:39], Y[:39])


def test_missing_lightgbm_is_named_with_its_extra(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "lightgbm", None)
    boosting.lightgbm.cache_clear()
    with pytest.raises(UserError, match=r'need LightGBM; install it with: pip install "birdnet_fs\[gbm\]"'):
        fit_path("gbm", X, Y)
    monkeypatch.undo()
    boosting.lightgbm.cache_clear()
