"""Synthetic clips lie between two clips of their class, balance the classes, and never reach a held-out score."""

import importlib.util

import numpy as np
import pytest
import tolerances
from embedded_clips import clips_with_class_in_tokens, embedded_clips, head_experiment
from installed import need

from birdnet_fs.core.errors import UserError
from birdnet_fs.core.settings import override
from birdnet_fs.schema import Experiment
from birdnet_fs.training.encoder_heads import fit_head, smote
from birdnet_fs.training.encoder_heads.choosing import solve
from birdnet_fs.training.encoder_heads.data import HeadData

CLASSES = ("a", "b", "c")


def imbalanced(tokens: bool = False, n_last: int = 3) -> HeadData:
    """All clips of two classes and `n_last` of the third, with one own score."""
    whole = clips_with_class_in_tokens() if tokens else embedded_clips()
    label = whole.targets.argmax(1)
    kept = np.flatnonzero((label < 2) | (np.cumsum(label == 2) <= n_last))
    return whole.part(kept)


@pytest.mark.parametrize("tokens", [False, True])
def test_points_lie_between_two_clips_of_their_class_and_balance_the_classes(tokens: bool) -> None:
    need("imblearn")
    data = imbalanced(tokens)
    found = smote.with_smote(data, 0)
    counts = np.bincount(data.targets.argmax(1))
    assert np.bincount(found.targets.argmax(1)).tolist() == [counts.max()] * 3
    n_new = int(counts.max() - counts[2])
    assert n_new > 2 and found.n_clips == data.n_clips + n_new and (found.targets[-n_new:].argmax(1) == 2).all()
    np.testing.assert_array_equal(found.features[:-n_new], data.features)
    means = data.means(data.inputs.reshape(len(data.inputs), -1))[data.targets.argmax(1) == 2]
    for point in found.features[-n_new:].reshape(n_new, -1):
        shares = [
            (np.linalg.norm(point - a) + np.linalg.norm(point - b)) / np.linalg.norm(a - b)
            for i, a in enumerate(means)
            for b in means[i + 1 :]
        ]
        assert min(shares) == pytest.approx(1, abs=tolerances.INNER_PRODUCTS)  # on the segment between two of them
    again = smote.with_smote(data, 0)
    np.testing.assert_array_equal(again.features, found.features)
    assert (smote.with_smote(data, 1).features[-n_new:] != found.features[-n_new:]).any()


def test_own_scores_are_interpolated_with_the_embedding() -> None:
    need("imblearn")
    data = imbalanced()
    own = data.features @ np.arange(24, dtype=np.float32).reshape(12, 2)  # linear, so that it stays so between points
    found = smote.with_smote(HeadData(data.features, data.clip, data.targets, data.groups, own=own), 0)
    expected = found.features @ np.arange(24, dtype=np.float32).reshape(12, 2)
    np.testing.assert_allclose(found.own, expected, rtol=tolerances.INNER_PRODUCTS)


def test_class_with_one_clip_stays_as_it_is() -> None:
    need("imblearn")
    data = imbalanced(n_last=1)
    assert smote.with_smote(data, 0).n_clips == data.n_clips
    fitted = fit_head(data, head_experiment("linear", smote=True), CLASSES)
    assert fitted.weights


def test_head_is_fitted_to_synthetic_clips_and_not_scored_on_them() -> None:
    need("imblearn")
    data = imbalanced()
    experiment = head_experiment("linear", smote=True, l2=0.01)
    plain, balanced = (
        solve(data, [chosen.model], chosen)[0] for chosen in (head_experiment("linear", l2=0.01), experiment)
    )
    assert balanced.score(data).shape == plain.score(data).shape == (len(data.features), 3)
    rare = data.targets[:, 2] == 1
    shift = data.means(balanced.score(data))[:, 2] - data.means(plain.score(data))[:, 2]
    assert (shift[~rare] > 0).mean() > 0.9  # the rare class is no longer improbable by its number alone


def test_smote_elsewhere_is_refused_with_what_to_do(monkeypatch) -> None:
    with pytest.raises(UserError, match=r"set model\.encoder=FILE, or training\.sampling or training\.loss"):
        override(Experiment(), ["model.encoder_head.smote=true"])
    with pytest.raises(UserError, match=r"needs one label a clip: which of several labels .* set training\.loss"):
        head_experiment("linear", multi_label=True, smote=True)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"pip install 'birdnet_fs\[smote\]'"):
        fit_head(embedded_clips(), head_experiment("linear", smote=True), CLASSES)
